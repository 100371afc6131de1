"""Saving: the latest state to go on from, the best to answer with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from loguru import logger

from dao.errors import ConfigError, Problem, nearest
from dao.register import Registers
from dao.trainers.hooks.base import Hook
from dao.utils import dist

if TYPE_CHECKING:
    from dao.evaluators.base import Evaluator
    from dao.trainers.trainval import TrainVal


@Registers.hooks.register()
class LatestCheckpoint(Hook):
    """Save latest.ckpt after every epoch, inside long ones, and when the run is interrupted.

    save_interval: also keep epoch_N.ckpt every so many epochs (0: never); keep: how many of those, the newest;
    save_minutes, save_iters: save latest.ckpt inside an epoch when so many minutes or iterations have passed since the
    last save (0: never).
    """

    limits = {
        "save_interval": (0, float("inf")), "keep": (0, float("inf")), "save_minutes": (0, float("inf")),
        "save_iters": (0, float("inf")),
    }  # fmt: skip

    def __init__(self, save_interval: int = 0, keep: int = 3, save_minutes: float = 10.0, save_iters: int = 0) -> None:
        self.save_interval, self.keep = save_interval, keep
        self.save_minutes, self.save_iters = save_minutes, save_iters
        self.saved_at, self.iters = time.monotonic(), 0

    def after_iter(self, trainer: TrainVal) -> None:
        self.iters += 1
        due = self.save_minutes > 0 and time.monotonic() - self.saved_at > self.save_minutes * 60
        if trainer.sharded:  # all take part in a save, and clocks differ
            due = (trainer.iter + 1) % trainer.log_interval == 0 and dist.any_rank(due)
        due = due or 0 < self.save_iters <= self.iters
        if due and trainer.window_ends and trainer.iter + 1 < trainer.iters_per_epoch:
            trainer.refuse_non_finite()
            self.save(trainer, "latest")

    def after_epoch(self, trainer: TrainVal) -> None:
        trainer.owes_end_of_epoch = True
        self.save(trainer, "latest")
        if self.save_interval and (trainer.epoch + 1) % self.save_interval == 0:
            folder = trainer.run_dir / "checkpoints"
            trainer.save_checkpoint(f"epoch_{trainer.epoch + 1}", then=lambda: self._drop_old(folder))

    def after_train(self, trainer: TrainVal) -> None:
        if not trainer.stopping:
            return
        if trainer.iter + 1 < trainer.iters_per_epoch:  # otherwise the epoch's end has saved
            self.save(trainer, "latest")
        trainer.saver.wait()
        logger.info("saved; go on with --resume {}", trainer.run_dir)

    def save(self, trainer: TrainVal, name: str) -> None:
        """Write one checkpoint of the run, and keep the one before it."""
        trainer.save_checkpoint(name, previous="previous")
        self.saved_at, self.iters = time.monotonic(), 0

    def _drop_old(self, folder: Path) -> None:
        if self.keep == 0:
            return
        kept = sorted(folder.glob("epoch_*.ckpt"), key=lambda p: int(p.stem.split("_")[1]))
        for path in kept[: -self.keep]:
            path.unlink()


@Registers.hooks.register()
class BestCheckpoint(Hook):
    """Save best.ckpt whenever a validation beats all before it.

    metric: name of an evaluator's metric (None: the trainer's ``best_metric``, else the evaluator's own choice);
    mode: whether more ("max") or less ("min") of it is better (None: by the evaluator's word).
    """

    def __init__(self, metric: str | None = None, mode: Literal["max", "min"] | None = None) -> None:
        self.metric, self.mode, self.given_mode, self.asks_evaluator = metric, mode, mode, False
        self.checked = False

    def check_built(self, trainer: TrainVal) -> None:
        """The metric, by the place that names it: the evaluator must report it, and know its direction."""
        if trainer.evaluator is None or self.checked:
            return
        self.checked = True
        place = f"{self.where}.kwargs.metric" if self.metric else "trainer.kwargs.best_metric"
        self.metric = self.metric or trainer.best_metric
        if self.metric is None:  # the evaluator's own choice, which may depend on the data it sees
            self.asks_evaluator = True
            self.metric = trainer.evaluator.best_metric
        known = trainer.evaluator.metric_names()
        if self.metric not in known:
            message = f"the evaluator reports no '{self.metric}'. {nearest(self.metric, known)}"
            raise ConfigError(Problem(place.lstrip("."), message))
        self.mode = self.mode or mode_of(self.metric, trainer.evaluator, place.lstrip("."))

    def before_train(self, trainer: TrainVal) -> None:
        self.check_built(trainer)

    def after_epoch(self, trainer: TrainVal) -> None:
        if trainer.metrics and trainer.metrics_epoch == trainer.epoch:
            self.consider(trainer)

    def consider(self, trainer: TrainVal) -> None:
        """Keep the present weights if their metric is the best so far."""
        if self.asks_evaluator:
            self.metric = trainer.evaluator.best_metric
            self.mode = self.given_mode or mode_of(self.metric, trainer.evaluator)
        # a metric that one validation cannot tell (a class without pictures) is NaN there: never better than one that is
        # told, and as long as none was, the latest weights are kept
        value, best = trainer.metrics.get(self.metric, float("nan")), trainer.best.get("value")
        untold = best is None or best != best
        if not untold and not (value > best if self.mode == "max" else value < best):
            return
        if value != value and best is None:
            logger.warning("no validation can tell {} (no defective pictures, or no good ones?): best.ckpt is the last "
                           "validated one until one does", self.metric)  # fmt: skip
        trainer.best = {**trainer.metrics, "metric": self.metric, "value": value, "epoch": trainer.metrics_epoch + 1}
        trainer.save_checkpoint("best")


@Registers.hooks.register()
class SettledCheckpoint(LatestCheckpoint):
    """Write latest.ckpt once more when an epoch's validation and all that hangs on it is decided; listed last."""

    def __init__(self) -> None:
        super().__init__(save_minutes=0)

    def after_epoch(self, trainer: TrainVal) -> None:
        if trainer.metrics_epoch == trainer.epoch:
            trainer.owes_end_of_epoch = False
            self.save(trainer, "latest")

    def after_train(self, trainer: TrainVal) -> None:
        """`LatestCheckpoint` has saved."""


def mode_of(metric: str, evaluator: Evaluator, where: str = "trainer.kwargs.best_metric") -> str:
    """Whether a metric is better high or low, by the evaluator's word. Raises ConfigError for one that is neither, by the
    place that names it."""
    mode = evaluator.mode_of(metric)
    if mode is None:
        message = (
            f"nothing says whether '{metric}' is better high or low: {type(evaluator).__name__} names it neither among its "
            "`maximised` nor its `minimised` metrics; choose another, or give the BestCheckpoint hook its 'mode'"
        )
        raise ConfigError(Problem(where, message))
    return mode
