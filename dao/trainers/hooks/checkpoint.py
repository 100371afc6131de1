"""Saving: the latest state to go on from, the best to answer with."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from loguru import logger

from dao.errors import ConfigError, Problem, nearest
from dao.processes import dist
from dao.register import Registers
from dao.trainers.hooks.base import Hook

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

    metric: name of an evaluator's metric, or a list of them, each of which decides where those before it are equal (None:
    the trainer's ``best_metric``, else the evaluator's own order); ties that are left go by the evaluator's own order.
    mode: whether more ("max") or less ("min") of the first is better (None: by the evaluator's word).
    """

    def __init__(self, metric: str | list[str] | None = None, mode: Literal["max", "min"] | None = None) -> None:
        self.metric, self.given_mode = metric, mode
        self.given: list[str] = []
        self.checked = False

    def check_built(self, trainer: TrainVal) -> None:
        """The metric, by the place that names it: the evaluator must report it, and know its direction."""
        if trainer.evaluator is None or self.checked:
            return
        self.checked = True
        place = f"{self.where}.kwargs.metric".lstrip(".") if self.metric else "trainer.kwargs.best_metric"
        self.given = named(self.metric or trainer.best_metric)
        known = trainer.evaluator.metric_names()
        for metric in self.given or [trainer.evaluator.best_metric]:
            if metric not in known:
                message = f"the evaluator reports no '{metric}'. {nearest(metric, known)}"
                raise ConfigError(Problem(place, message))
        self.order(trainer, place)

    def before_train(self, trainer: TrainVal) -> None:
        self.check_built(trainer)

    def order(self, trainer: TrainVal, place: str = "trainer.kwargs.best_metric") -> dict[str, str]:
        """Every metric that may decide, the first first, and whether it is better high ("max") or low ("min").

        The evaluator's own choice may depend on the data it has seen, so it is asked each time.
        """
        names = list(dict.fromkeys([*self.given, *trainer.evaluator.best_order]))
        first = self.given_mode or mode_of(names[0], trainer.evaluator, place)
        return {names[0]: first, **{name: mode_of(name, trainer.evaluator, place) for name in names[1:]}}

    def after_epoch(self, trainer: TrainVal) -> None:
        if trainer.metrics and trainer.metrics_epoch == trainer.epoch:
            self.consider(trainer)

    def consider(self, trainer: TrainVal) -> None:
        """Keep the present weights if their metrics are the best so far."""
        order = self.order(trainer)
        if not beats(trainer.metrics, trainer.best, order):
            return
        told = [name for name in order if not is_nan(trainer.metrics.get(name))]
        first = next(iter(order))
        metric = told[0] if told else first
        if first not in told and not trainer.best:
            instead = f"goes by {metric}" if told else "is the last validated one"
            logger.warning("no validation can tell {} (no defective pictures, or no good ones?): best.ckpt {} until one "
                           "does", first, instead)  # fmt: skip
        value = trainer.metrics.get(metric, float("nan"))
        trainer.best = {**trainer.metrics, "metric": metric, "value": value, "epoch": trainer.metrics_epoch + 1}
        trainer.save_checkpoint("best")


def named(metrics: str | list[str] | None) -> list[str]:
    """One metric, several or none as a list."""
    return [metrics] if isinstance(metrics, str) else list(metrics or ())


def is_nan(value: float | None) -> bool:
    """Whether a metric is missing, or is one that a validation could not tell (a class without pictures)."""
    return value is None or value != value


def beats(found: Mapping[str, float], best: Mapping[str, float], order: Mapping[str, str]) -> bool:
    """Whether a validation is better than the best so far: by the first metric of the order in which they differ.

    A metric that one of both cannot tell is better told; one that neither can tell decides nothing. Of validations that
    can tell nothing at all the latest is kept, of equal ones the first.

    >>> beats({"top1": 0.5, "auroc": 0.9}, {"top1": 0.5, "auroc": 0.7}, {"top1": "max", "auroc": "max"})
    True
    """
    for metric, mode in order.items():
        value, before = found.get(metric), best.get(metric)
        if is_nan(value) or is_nan(before):
            if is_nan(value) and is_nan(before):
                continue
            return is_nan(before)
        if value != before:
            return value > before if mode == "max" else value < before
    return all(is_nan(found.get(metric)) for metric in order)


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
