"""A rate that goes down when the validation metric stops getting better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from loguru import logger

from dao.register import Registers
from dao.schedulers.base import INFINITY, Scheduler, WarmupShape


@Registers.schedulers.register("plateau_lr")
class PlateauLR(Scheduler):
    """The rate is multiplied by ``factor`` after more than ``patience`` evaluations without a better metric.

    mode: whether a larger ("max": accuracy) or a smaller ("min": error) metric is better; None: as whoever hands the
    metric over says, which in training is the evaluator.
    threshold: relative change that counts as better, as torch's ReduceLROnPlateau; min_lr_ratio: the lowest factor.
    Epochs without an evaluation do not count.
    """

    limits = {"factor": (0.0, 1.0), "patience": (0, INFINITY), "threshold": (0.0, INFINITY)}

    def __init__(
        self,
        total_iters: int,
        iters_per_epoch: int,
        factor: float = 0.1,
        patience: int = 10,
        mode: Literal["max", "min"] | None = None,
        threshold: float = 1e-4,
        min_lr_ratio: float = 0.0,
        warmup_epochs: float = 0.0,
        warmup_lr_ratio: float = 0.0,
        warmup_shape: WarmupShape = "linear",
    ) -> None:
        super().__init__(total_iters, iters_per_epoch, warmup_epochs, warmup_lr_ratio, warmup_shape)
        self.factor, self.patience, self.mode = factor, patience, mode
        self.threshold, self.min_lr_ratio = threshold, min_lr_ratio
        self.best: float | None = None
        self.bad_evaluations = 0
        self.reduced = 1.0

    @property
    def asks_direction(self) -> bool:
        """Whether the evaluator must know which metrics are better high."""
        return self.mode is None

    def body(self, i: int) -> float:
        return self.reduced

    def course(self, lr: float) -> str:
        low = f", {self.min_lr_ratio * lr:.3g} at the lowest" if self.min_lr_ratio else ""
        return f"x {self.factor:g} after {self.patience + 1} validations without a better metric{low}"

    def epoch_end(self, metric: float | None, mode: str = "max") -> None:
        """Take in the metric of an evaluation; the same on every process, or their rates part."""
        if metric is None:
            return
        if is_better(metric, self.best, self.mode or mode, self.threshold):
            self.best, self.bad_evaluations = metric, 0
            return
        self.bad_evaluations += 1
        if self.bad_evaluations > self.patience:
            self.bad_evaluations = 0
            self._reduce()

    def _reduce(self) -> None:
        lower = max(self.reduced * self.factor, self.min_lr_ratio)
        if lower < self.reduced:
            waited, change = self.patience + 1, lower / self.reduced
            logger.info("nothing better than {} in {} evaluations: learning rate x {:g}", self.best, waited, change)
            self.reduced = lower
            self._apply()

    def state_dict(self) -> dict[str, Any]:
        state = {"best": self.best, "bad_evaluations": self.bad_evaluations, "reduced": self.reduced}
        return {**super().state_dict(), **state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.bad_evaluations = state["best"], int(state["bad_evaluations"])
        self.reduced = float(state["reduced"])
        super().load_state_dict(state)


def is_better(metric: float, best: float | None, mode: str, threshold: float) -> bool:
    """Whether a metric beats the best so far by more than the relative threshold; one that is not a number never does.

    best: None before the first evaluation.
    """
    if metric != metric:
        return False
    if best is None:
        return True
    return metric > best * (1 + threshold) if mode == "max" else metric < best * (1 - threshold)
