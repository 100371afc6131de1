"""Ends a run that no longer gets better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loguru import logger

from dao.register import Registers
from dao.trainers.hooks.base import Hook

if TYPE_CHECKING:
    from dao.trainers.trainval import TrainVal


@Registers.hooks.register()
class EarlyStop(Hook):
    """Stop after ``patience`` validations that did not beat the best by at least ``min_delta``.

    Goes by the metric that the best checkpoint is kept by.
    """

    limits = {"patience": (1, float("inf")), "min_delta": (0, float("inf"))}

    def __init__(self, patience: int = 10, min_delta: float = 0.0) -> None:
        self.patience, self.min_delta = patience, min_delta
        self.best_value, self.without = None, 0

    def before_train(self, trainer: TrainVal) -> None:
        """A run that was stopped stays so when it is resumed, unless patience was raised."""
        self.stop_if_due(trainer)

    def after_epoch(self, trainer: TrainVal) -> None:
        if trainer.metrics_epoch != trainer.epoch or "value" not in trainer.best:
            return
        value = trainer.best["value"]
        before = self.best_value
        gained = before is None or before != before or abs(value - before) > self.min_delta  # NaN: not told so far
        if gained and int(trainer.best["epoch"]) == trainer.epoch + 1:
            self.best_value, self.without = value, 0
            return
        self.without += 1
        self.stop_if_due(trainer)

    def stop_if_due(self, trainer: TrainVal) -> None:
        """End the run when patience is used up."""
        if self.without >= self.patience:
            trainer.stop_reason = f"no better for {self.without} validations"
            logger.info("early stop: {}", trainer.stop_reason)

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "without": self.without}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best_value, self.without = state.get("best_value"), state.get("without", 0)
