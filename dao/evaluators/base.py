"""What an evaluator is: update with predictions, compute metrics over all processes, write a report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from dao.structures import Batch, Prediction


class Evaluator(ABC):
    """Counts every picture once, whatever the number of processes.

    best_metric: by which the best checkpoint is kept; best_mode: "max" or "min".
    facts: those of the model card's that its settings decide (a threshold): the trainers hand them to the task, so that
    what is counted is what demo and exported files answer.
    """

    best_metric: str
    best_mode: str = "max"

    @property
    def facts(self) -> dict[str, Any]:
        """By default the model's own hold."""
        return {}

    def __init__(self, classes: list[str]) -> None:
        self.classes = list(classes)
        self.reset()

    @abstractmethod
    def reset(self) -> None:
        """Forget all pictures."""

    @abstractmethod
    def update(self, predictions: list[Prediction], batch: Batch) -> None:
        """Take in the predictions of a batch, in its order."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Metrics over every picture of every process; the same on all of them. Call it on all of them."""

    @abstractmethod
    def metric_names(self) -> list[str]:
        """Every metric that `compute` may report, known before the first picture (for checking a config)."""

    @abstractmethod
    def report(self, folder: Path) -> list[Path]:
        """Write tables and pictures of what `compute` last saw; returns the files. Rank 0 only."""

    @abstractmethod
    def headline(self, metrics: dict[str, float]) -> str:
        """The metrics that belong on one line of a log."""
