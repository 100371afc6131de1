"""Stage one: train, validate, keep the best."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from loguru import logger

from dao.checkpoints import checkpoint
from dao.checkpoints.saver import Saver
from dao.config.reading import Config
from dao.config.signature import out_of_limits
from dao.errors import Problem
from dao.files import run_folder
from dao.launch.preflight import check_same_data
from dao.loggers import logger as log
from dao.processes import dist
from dao.processes.seeding import seed_everything
from dao.register import Registers
from dao.schedulers.base import part_of_run
from dao.structures import Batch
from dao.tasks.base import Task
from dao.trainers import building, rehearsal, strategies
from dao.trainers import resume as resume_state
from dao.trainers.accumulation import WholeWindow
from dao.trainers.base import BadPictures, Options, Trainer, kept, plain
from dao.trainers.describe import describe
from dao.trainers.evaluation import Counted, to_device
from dao.trainers.hooks import defaults
from dao.trainers.hooks.checkpoint import LatestCheckpoint
from dao.trainers.hooks.guard import NonFiniteGuard
from dao.trainers.known_pictures import KnownPictures
from dao.trainers.update import GradientUpdate, NoUpdate, Update, is_update_iter

INFINITY = float("inf")


# smallest and largest values, both included
LIMITS = {
    "max_epochs": (1, INFINITY), "no_aug_epochs": (0, INFINITY), "eval_interval": (0, INFINITY), "seed": (0, INFINITY),
    "accumulate": (1, INFINITY), "log_interval": (1, INFINITY), "save_interval": (0, INFINITY), "keep": (0, INFINITY),
    "save_minutes": (0, INFINITY), "save_iters": (0, INFINITY), "max_bad_fraction": (0, 1),
}  # fmt: skip


@Registers.trainers.register()
class TrainVal(Trainer):
    """Train a model and validate it as it learns.

    log_dir: the run folder is ``log_dir/<name>``.
    max_epochs, no_aug_epochs: passes over the data; in the last ``no_aug_epochs`` (at most a fifth of them) augmentation
    is off.
    eval_interval: epochs between validations; 0 for none.
    seed: of everything random; amp: mixed precision; ema: keep an average of the weights and answer with it.
    accumulate: iterations per weight update, which together are as one large batch; whole_windows: what losses divide by
    (labelled pixels, positives, class weights) is counted over all of them, for a second pass forward; false: the mean of
    each iteration's own gradient. clip_norm: largest gradient norm, above 0 (None: gradients are not clipped).
    channels_last: the memory layout that convolutions prefer.
    compile: torch.compile the model. sync_bn: batch-norm statistics over all processes.
    grad_checkpointing: keep what passes between the model's stages only, and compute the inside anew for the gradient:
    less memory for more time, the same weights. static_graph: DDP may rely on every iteration using the same layers.
    strategy: "ddp" keeps the whole model in every process; "fsdp" a share of weights, gradients and optimizer state, for
    models that do not fit (FSDP2; checkpoints are whole and serve any strategy; weights are not laid out channels_last).
    resume: "auto" (the newest run of this name), a run folder or a checkpoint. ckpt: fine-tune from a checkpoint's
    weights, where no run is gone on with. best_metric: by which the best is kept, e.g. "macro/f1", or a list in which each
    decides where those before it are equal (None: the evaluator's own order, which also has the last word).
    save_interval: also keep ``epoch_N.ckpt`` every so many epochs; keep: how many of those.
    save_minutes, save_iters: also save latest.ckpt inside an epoch, so often (0: never).
    log_interval: iterations between log lines.
    test_after_train: evaluate the best checkpoint at the end and write its full report.
    max_bad_fraction: share of pictures that may be unreadable before the run stops.
    allow_empty_classes: train a classifier although no training picture shows some of its classes.
    """

    needs = ("type", "name", "model", "dataloader")
    many_processes = True
    trains = True

    def __init__(
        self,
        config: Config,
        options: Options,
        log_dir: str = "runs",
        max_epochs: int = 100,
        no_aug_epochs: int = 0,
        eval_interval: int = 1,
        seed: int = 0,
        amp: bool = False,
        ema: bool = False,
        accumulate: int = 1,
        whole_windows: bool = True,
        clip_norm: float | None = None,
        channels_last: bool = True,
        compile: bool = False,
        sync_bn: bool = False,
        grad_checkpointing: bool = False,
        static_graph: bool = False,
        strategy: Literal["ddp", "fsdp"] = "ddp",
        resume: str | None = None,
        ckpt: str | None = None,
        best_metric: str | list[str] | None = None,
        save_interval: int = 0,
        keep: int = 3,
        save_minutes: float = 10.0,
        save_iters: int = 0,
        log_interval: int = 20,
        test_after_train: bool = True,
        max_bad_fraction: float = 0.01,
        allow_empty_classes: bool = False,
    ) -> None:
        super().__init__(config, options)
        self.log_dir, self.seed = Path(log_dir), seed
        self.max_epochs, self.wanted_no_aug_epochs, self.eval_interval = max_epochs, no_aug_epochs, eval_interval
        self.ema = ema or any(hook["type"] == "Ema" for hook in plain(config.get("hooks", [])))
        self.amp, self.accumulate, self.clip_norm = amp, accumulate, clip_norm
        self.window = WholeWindow() if whole_windows and accumulate > 1 else None
        self.channels_last, self.compile, self.sync_bn = channels_last, compile, sync_bn
        self.grad_checkpointing, self.static_graph = grad_checkpointing, static_graph
        self.resume_from, self.ckpt = resume, ckpt
        self.best_metric, self.save_interval, self.keep = best_metric, save_interval, keep
        self.save_minutes, self.save_iters = save_minutes, save_iters
        self.log_interval, self.test_after_train, self.max_bad_fraction = (
            log_interval,
            test_after_train,
            max_bad_fraction,
        )
        self.allow_empty_classes = allow_empty_classes
        self.known: KnownPictures | None = None  # of process 0
        self.task: Task
        self.scheduler: Any = None
        self.update: Update = NoUpdate()
        self.ema_model: torch.nn.Module | None = None
        self.evaluator: Any = None
        self.eval_loader: Any = None
        self.calibrator: Any = None
        self.calibration_loader: Any = None
        self.kept_loader: Any = None  # training pictures that the task sets apart
        self.calibration_bad, self.eval_bad = BadPictures(), BadPictures()
        self.best: dict[str, Any] = {}
        self.metrics_epoch = -1
        self.evaluator_epoch = -1  # whose predictions the evaluator holds, in this process
        self.judged_otherwise = False  # settings that a report's numbers hang on have changed since the checkpoint
        self.owes_end_of_epoch = False  # hooks after the checkpoint have yet to see the epoch's end
        self.scalars: dict[str, float] = {}
        self.updated = False
        self.data_seconds = self.iter_seconds = 0.0
        self.saver = Saver()
        self.lock: Any = None  # on the run folder, for as long as this process writes there
        self.strategy, self.sharded = strategy, strategy == "fsdp" and dist.world_size() > 1
        last = channels_last and not self.sharded  # what is cut into shares must lie in one piece
        self.memory_format = torch.channels_last if last else torch.contiguous_format

    @classmethod
    def check_config(cls, kwargs: dict[str, Any], where: str) -> list[Problem]:
        """Values that have the right type and still make no sense."""
        problems = out_of_limits(kwargs, LIMITS, where)
        if kwargs.get("clip_norm") is not None and not kwargs["clip_norm"] > 0:
            message = f"must be above 0, got {kwargs['clip_norm']:g}: it would stop all learning. For no clipping leave it out"
            problems.append(Problem(f"{where}.clip_norm", message))
        if kwargs.get("static_graph") and kwargs.get("accumulate", 1) > 1:
            message = "torch's DDP cannot leave out the exchange of gradients in a graph it takes for static"
            problems.append(Problem(f"{where}.static_graph", f"does not go with accumulate: {message}"))
        return problems

    # -- building

    def setup(self) -> None:
        seed_everything(self.seed)
        resumed = self._find_resume()
        building.build_data(self)
        building.build_task(self)
        building.build_update(self)
        building.build_calibration(self)
        building.build_evaluator(self)
        building.know_pictures(self)
        loaders = {"training": self.loader, "calibration": self.calibration_loader, "evaluation": self.eval_loader}
        check_same_data(**{name: getattr(loader, "dataset", None) for name, loader in loaders.items()})
        self.hooks = defaults.for_training(self, plain(self.config.get("hooks", [])))
        self.call_hooks("check_built")
        if resumed is not None:
            resume_state.restore(self, resumed.path, resumed.content)
        elif self.ckpt:
            resume_state.fine_tune(self, checkpoint.find(self.ckpt))
        building.build_ema(self, resumed.content if resumed else None)
        strategies.wrap(self)
        self._open_run_folder(resumed.path if resumed else None)

    def _find_resume(self) -> resume_state.Found | None:
        if not self.resume_from:
            return None
        found = resume_state.find(self.resume_from, self.log_dir, self.config.name)
        if found is None:
            logger.info("nothing to resume in {}: starting anew", self.log_dir / self.config.name)
        else:
            self.lock = found.lock
        return found

    def _open_run_folder(self, resumed: Path | None) -> None:
        if resumed is not None:
            folder = run_folder.of_checkpoint(resumed)
        elif dist.is_main():
            folder = run_folder.fresh(self.log_dir, self.config.name)
        else:
            folder = Path()
        self.run_dir = dist.broadcast_object(folder)
        if dist.is_main():
            self.lock = self.lock or run_folder.lock(self.run_dir)
            log.to_file(self.run_dir / "log.txt")
            run_folder.write_config(self.run_dir, kept(self.config))
            data = {"data": self.known.sets} if self.known is not None else {}
            run_folder.write_json(self.run_dir / "environment.json", {**run_folder.environment(), **data})
        logger.info("{} -> {}", self.config.get("fullName", self.config.name), self.run_dir)
        describe(self)

    def save_checkpoint(self, name: str, previous: str | None = None, then: Callable[[], None] | None = None) -> None:
        """Write ``<name>.ckpt`` as everything is now, by process 0; every process must call.

        previous: the name under which the file it replaces is kept; then: called when the file is in its place.
        """
        if not dist.is_main() and not self.sharded:
            return
        content = self.checkpoint_content()  # put together from everybody's shares, where there are shares
        if dist.is_main():
            folder = self.run_dir / "checkpoints"
            kept = folder / f"{previous}.ckpt" if previous else None
            parameters = {name for name, _ in self.task.model.named_parameters()}
            self.saver.save(content, folder / f"{name}.ckpt", kept, then, parameters)

    def checkpoint_content(self) -> dict[str, Any]:
        """All that is needed to go on, or to answer."""
        return resume_state.content_of(self)

    def rehearse(self) -> str:
        return rehearsal.of_training(self)

    # -- the loop

    def before_train(self) -> None:
        try:
            super().before_train()
        except BaseException:
            self._let_go()
            raise
        if self.owes_end_of_epoch:
            self._end_owed_epoch()

    def _end_owed_epoch(self) -> None:
        """A run stopped between an epoch's checkpoint and its validation owes that, and all that hangs on it."""
        self.epoch, self.iter = self.start_epoch - 1, self.iters_per_epoch - 1
        saved = next(i for i, hook in enumerate(self.hooks) if type(hook) is LatestCheckpoint)
        for hook in self.hooks[saved + 1 :]:
            hook.after_epoch(self)

    def before_epoch(self) -> None:
        augment = self.epoch < self.max_epochs - self.no_aug_epochs
        self.owes_end_of_epoch = False
        if self.sharded:
            self.task.model.cpu()  # it is asked again when the epoch is done
        self.task.model.train()
        self.task.net.train()
        super().before_epoch()
        self.task.begin_pass(augment)  # after the hooks, one of which may have changed the loss
        self.loader.set_epoch(self.epoch, start_iter=self.start_iter, augment=augment)  # type: ignore[attr-defined]

    def fetch(self) -> Iterable[Batch]:
        """The epoch's batches on the device, with the time each one was waited for."""
        start = time.perf_counter()
        for batch in self.loader:
            moved = to_device(batch, self.device)
            self.data_seconds = time.perf_counter() - start
            yield moved
            start = time.perf_counter()

    def before_iter(self) -> None:
        self._iter_start = time.perf_counter()
        # from here on, dropout and mixup draw what they would have drawn in a run that never stopped
        seed_everything(self.seed, dist.rank(), self.global_iter)
        super().before_iter()

    @property
    def no_aug_epochs(self) -> int:
        """Last epochs without augmentation, of a run as long as this one."""
        return part_of_run(self.wanted_no_aug_epochs, self.max_epochs)

    @property
    def window_ends(self) -> bool:
        """Whether no gradient waits for further iterations: only here can a run be stopped and gone on with."""
        return is_update_iter(self.iter, self.iters_per_epoch, self.accumulate)

    @property
    def global_iter(self) -> int:
        """Iterations since the run began, from 0."""
        return self.epoch * self.iters_per_epoch + self.iter

    def train_one_iter(self) -> None:
        """Forward, losses, backward, step, rate."""
        if self.window is not None and self.window.wants(self):
            self.updated = self.window.train_one_iter(self)
        else:
            with self.update.sync(self.iter, self.iters_per_epoch):
                with self.update.autocast():
                    self.losses = self.task.training_step(self.batch)
                self.updated = self.update(self.losses.get("loss"), self.iter, self.iters_per_epoch)
        if self.updated and self.scheduler is not None:
            self.scheduler.step()

    def after_iter(self) -> None:
        self.iter_seconds = self.data_seconds + time.perf_counter() - self._iter_start
        super().after_iter()
        self.saver.check()

    def interrupted(self) -> bool:
        """Whether any process was asked to stop; all agree, so that none waits in a step for one that left.

        Never inside an accumulation window, whose gradients a checkpoint does not hold. Asking makes a GPU wait, so
        there it is done when a line is logged anyhow.
        """
        if not self.window_ends:
            return False
        if dist.world_size() == 1:
            return super().interrupted()
        windows = (self.iter + 1) // self.accumulate
        often = max(1, self.log_interval // self.accumulate)
        if self.device.type != "cpu" and windows % often and self.iter + 1 != self.iters_per_epoch:
            return False
        if not dist.any_rank(self.signal is not None):
            return False
        self.signal = self.signal or int(signal.SIGTERM)
        return True

    def after_epoch(self) -> None:
        self.task.end_of_pass()
        # each process has gathered batch-norm statistics of its own pictures; from here on all answer with the same
        if isinstance(self.update, GradientUpdate):
            dist.broadcast_buffers(self.trained, *filter(None, [self.ema_model]))
        strategies.gather_weights(self)
        self._calibrate()
        super().after_epoch()

    def _calibrate(self) -> None:
        """Thresholds of the weights that answer; unreadable pictures count as everywhere."""
        chosen = self.calibration_loader and Counted(self.calibration_loader, self.calibration_bad.add)
        kept = self.kept_loader and Counted(self.kept_loader, self.bad.add)
        with self.task.using(self.answering_model):
            self.task.calibrate(self.calibrator, chosen, kept)
        self.bad.gather()
        self.calibration_bad.gather()

    def refuse_non_finite(self) -> None:
        """Before weights are saved: no loss that they come from was NaN. Raises RunError."""
        for hook in self.hooks:
            if isinstance(hook, NonFiniteGuard):
                hook.check()

    @property
    def answering_model(self) -> torch.nn.Module:
        """The weights that validation and the best checkpoint answer with: the EMA's where there is one."""
        return self.ema_model if self.ema_model is not None else self.task.model

    def close(self) -> None:
        self.calibration_bad.summary()
        if self.eval_loader is not None:
            self.eval_bad.summary()
        for loader in filter(None, (self.loader, self.eval_loader, self.calibration_loader, self.kept_loader)):
            loader.close()
        try:
            self.saver.end(failed=not self.finished and not self.stopping)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        log.close_file()
        if self.lock is not None:
            self.lock.close()
