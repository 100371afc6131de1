"""What an evaluator is: update with predictions, compute metrics over all processes, write a report."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from dao.structures import Batch, Prediction


class Evaluator(ABC):
    """Counts every picture once, whatever the number of processes.

    best_metric: by which the best checkpoint is kept; best_mode: "max" or "min"; tie_breakers: by which it is kept among
    validations that are equal in that, the first of them first: on few pictures many are.
    maximised, minimised: the metrics that are better high, and low; descriptive: those that are neither (counts, and the
    thresholds at which others were reached). Names as `metric_names` gives them, with <class> where one of those stands
    (or a kind of defect), and * for a word or a number: a name is matched whole, so that what a user calls a class says
    nothing. Every metric is in one of the three.
    operating: its keywords that set the model's operating point, of which None leaves the model's own; naming: those that
    say which classes are good, which is part of it; facts: those that
    were given, by the names of the card's facts or the task's short names for them. The trainers hand them to the task,
    so that what is counted is what demo and exported files answer.
    model_facts: those of the model that is judged, and notes: what its report is to say beside the numbers, one sentence
    each; both are given by the trainers.
    """

    best_metric: str
    best_mode: str = "max"
    tie_breakers: tuple[str, ...] = ()
    maximised: ClassVar[tuple[str, ...]] = ()
    minimised: ClassVar[tuple[str, ...]] = ()
    descriptive: ClassVar[tuple[str, ...]] = ()
    model_facts: Mapping[str, Any] = MappingProxyType({})
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = MappingProxyType({})  # everything that `compute` last told, nested
    operating: ClassVar[tuple[str, ...]] = ()
    naming: ClassVar[tuple[str, ...]] = ()

    @property
    def best_order(self) -> tuple[str, ...]:
        """The metrics that choose the best checkpoint: each decides where those before it are equal."""
        return (self.best_metric, *self.tie_breakers)

    @property
    def facts(self) -> dict[str, Any]:
        """By default the model's own hold."""
        given = {name: getattr(self, name) for name in self.operating}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def operating_point(self) -> dict[str, Any]:
        """The operating point that was judged at, and who set it, for the report."""
        names = ("bad_classes", "threshold", "class_thresholds", "min_area", "shown_threshold", "picture_threshold",
                 "region_threshold", "pixel_threshold", "set_by")  # fmt: skip
        return {name: self.model_facts[name] for name in names if name in self.model_facts}

    def scored(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(N,) how bad each picture that `compute` last saw looks, and (N,) whether it is: what a threshold is chosen by."""
        raise TypeError(f"{type(self).__name__} does not say how bad a picture looks")

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

    def mode_of(self, metric: str) -> Literal["max", "min"] | None:
        """Whether a metric is better high or low; None where it is neither, or nobody has said."""
        for names, mode in ((self.maximised, "max"), (self.minimised, "min"), (self.descriptive, None)):
            if any(matches(name, metric) for name in names):
                return mode
        return self.best_mode if metric == self.best_metric else None

    def remarks(self) -> list[str]:
        """What is to be known of the metrics that `compute` last gave before anybody believes them, a sentence each."""
        return []

    @abstractmethod
    def report(self, folder: Path) -> list[Path]:
        """Write tables and pictures of what `compute` last saw; returns the files. Rank 0 only."""

    @abstractmethod
    def headline(self, metrics: dict[str, float]) -> str:
        """The metrics that belong on one line of a log."""


def matches(pattern: str, metric: str) -> bool:
    """Whether a metric's name has this form: <class> is any text, * any without a slash.

    >>> matches("per_class/<class>/ap*", "per_class/ok/ap50"), matches("per_class/<class>/ap*", "per_class/x/ap/score")
    (True, False)
    """
    form = re.escape(pattern).replace("<class>", ".+").replace(r"\*", "[^/]+")
    return re.fullmatch(form, metric, re.DOTALL) is not None
