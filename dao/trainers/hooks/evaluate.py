"""Validation while training, and the full report at the end."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from dao.answers.operating import SET_BY
from dao.checkpoints import checkpoint
from dao.evaluators.headline import two_numbers
from dao.files import run_folder
from dao.processes import dist
from dao.register import Registers
from dao.structures import Batch
from dao.tasks import build
from dao.trainers.evaluation import evaluate
from dao.trainers.hooks.base import Hook
from dao.trainers.hooks.checkpoint import mode_of, named

if TYPE_CHECKING:
    from dao.trainers.trainval import TrainVal


@Registers.hooks.register()
class Evaluate(Hook):
    """Validate every ``interval`` epochs and after the last one; 0 for never."""

    limits = {"interval": (0, float("inf"))}

    def __init__(self, interval: int = 1) -> None:
        self.interval, self.last = interval, -1

    def check_built(self, trainer: TrainVal) -> None:
        """Refuse a metric of which nobody says whether it is better high or low, where the rates hang on it."""
        if trainer.evaluator is not None and getattr(trainer.scheduler, "asks_direction", False):
            mode_of(watched(trainer), trainer.evaluator)

    def after_epoch(self, trainer: TrainVal) -> None:
        if self.last == trainer.epoch:  # resumed from a checkpoint that was saved after it, the best one
            trainer.metrics_epoch = trainer.epoch
        elif self.is_due(trainer, trainer.epoch):
            self.run(trainer)

    def is_due(self, trainer: TrainVal, epoch: int) -> bool:
        """Whether an epoch (from 0) ends with a validation."""
        if self.interval <= 0 or trainer.evaluator is None or epoch < 0:
            return False
        return (epoch + 1) % self.interval == 0 or epoch + 1 == trainer.max_epochs

    def run(self, trainer: TrainVal) -> None:
        """Validate now; the metrics are the same on every process."""
        with trainer.task.using(trainer.answering_model):
            trainer.metrics = evaluate(
                trainer.task, trainer.eval_loader, trainer.evaluator, trainer.device, seen=trainer.eval_bad.add
            )
        self.last = trainer.metrics_epoch = trainer.evaluator_epoch = trainer.epoch
        if trainer.scheduler is not None:
            metric = watched(trainer)
            trainer.scheduler.epoch_end(trainer.metrics.get(metric), trainer.evaluator.mode_of(metric) or "max")
        logger.info(
            "epoch {}  {}{}", trainer.epoch + 1, self._chosen(trainer), trainer.evaluator.headline(trainer.metrics)
        )

    def _chosen(self, trainer: TrainVal) -> str:
        """The metrics that the user keeps the best by, where the line would not show them."""
        line = trainer.evaluator.headline(trainer.metrics)
        names = [name for name in named(trainer.best_metric) if name in trainer.metrics and f"{name} " not in line]
        return "".join(f"{name} {trainer.metrics[name]:.4f}  " for name in names)

    def state_dict(self) -> dict[str, Any]:
        return {"last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.last = state.get("last", -1)


def last_report(run_dir: Path) -> Path | None:
    """The newest folder in which a run's final report lies; None where there is none."""
    whole = [folder for folder in (run_dir / "eval").glob("final*") if (folder / "metrics.json").is_file()]
    return max(whole, key=lambda folder: (folder / "metrics.json").stat().st_mtime, default=None)


def say_finished_before(trainer: TrainVal, report: Path) -> None:
    """Of a run that was finished before it was resumed: that nothing was trained, and what was found then."""
    stopped = f" ({trainer.stop_reason}: raise the patience of its EarlyStop to go on)" if trainer.stop_reason else ""
    logger.success("this run was finished already{}: nothing was trained now, and its report is {}", stopped, report)
    for line in two_numbers(json.loads((report / "metrics.json").read_text(encoding="utf-8"))):
        logger.info("{}", line)


def say_best(best: dict[str, Any], evaluator: Any) -> None:
    """The best validation of a run: no success where it is as bad as its metric can be, a model that finds nothing."""
    nothing = best["value"] == 0 and (evaluator is None or evaluator.mode_of(best["metric"]) == "max")
    words = "best {} {:.4f} in epoch {}" + (": no better than a model that finds nothing" if nothing else "")
    logger.log("WARNING" if nothing else "SUCCESS", words, best["metric"], best["value"], int(best["epoch"]))


def watched(trainer: TrainVal) -> str:
    """The metric that rates hang on: the first of those that the best checkpoint is kept by."""
    return (named(trainer.best_metric) or [trainer.evaluator.best_metric])[0]


@Registers.hooks.register()
class FinalReport(Hook):
    """After training: the best checkpoint's full report in ``eval/final/``, where everything lies, and the two numbers.

    A run that was finished before it was resumed has its report: it is named, and none is written beside it, unless what
    it is judged by was set otherwise.
    """

    def __init__(self) -> None:
        self.worked = False  # since this process began

    def after_iter(self, trainer: TrainVal) -> None:
        self.worked = True

    def after_epoch(self, trainer: TrainVal) -> None:
        self.worked = True

    def after_train(self, trainer: TrainVal) -> None:
        if not trainer.finished:
            return
        trainer.saver.wait()
        anew = self.worked or trainer.judged_otherwise
        before = None if anew else dist.broadcast_object(last_report(trainer.run_dir))
        if before is not None:
            if dist.is_main():
                say_finished_before(trainer, before)
            return
        dist.barrier()  # process 0 writes the checkpoints: they are in their places for all
        best = trainer.run_dir / "checkpoints" / "best.ckpt"
        judged = trainer.evaluator is not None and dist.broadcast_object(best.is_file())
        if judged:
            self.report(trainer, best)
        if trainer.best:
            say_best(trainer.best, trainer.evaluator)
        logger.success("all of it lies in {}", trainer.run_dir)
        for line in two_numbers(trainer.evaluator.details) if judged else ():
            logger.info("{}", line)

    def report(self, trainer: TrainVal, best: Path) -> None:
        """Every table and picture of the best checkpoint; evaluated anew unless the last validation was of its weights."""
        if int(trainer.best.get("epoch", 0)) != trainer.evaluator_epoch + 1:
            self.evaluate(trainer, checkpoint.load_everywhere(best))
        if dist.is_main():
            folder = run_folder.fresh(trainer.run_dir / "eval", "final")
            trainer.evaluator.report(folder)
            logger.info("report of the best checkpoint: {}", folder)

    def evaluate(self, trainer: TrainVal, content: dict[str, Any]) -> None:
        """Evaluate what a checkpoint holds, by its own thresholds."""
        model = copy.deepcopy(trainer.task.model)
        model.load_state_dict(checkpoint.inference_weights(content))
        facts, known = trainer.task.facts, build.card_of(content).facts

        def count(batch: Batch) -> None:
            """Pictures that went since the last validation; how many they are stops nothing any more."""
            for picture in batch.bad:
                if picture.path not in trainer.eval_bad.reasons:
                    logger.warning("the final report is without {} ({})", picture.path, picture.reason)
                trainer.eval_bad.reasons.setdefault(picture.path, picture.reason)

        trainer.task.facts = {**facts, **{name: known[name] for name in trainer.task.learned_facts if name in known}}
        moved = [name for name in facts.get(SET_BY, {}) if trainer.task.facts[name] != facts[name]]
        if moved:  # before the run was resumed
            logger.warning(
                "the best checkpoint was saved with another {}, and is judged by that: to judge it by what is set now, run "
                "Eval with the same evaluator.kwargs",
                " and ".join(moved),
            )
        try:
            with trainer.task.using(model):
                evaluate(trainer.task, trainer.eval_loader, trainer.evaluator, trainer.device, seen=count)
        finally:
            trainer.task.facts = facts
