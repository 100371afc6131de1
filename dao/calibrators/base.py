"""What a calibrator promises: thresholds from scores of pictures that did not train the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import cache
from typing import ClassVar

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from dao.evaluators.factory import wilson
from dao.evaluators.score_histogram import ScoreHistogram
from dao.words.counted import counted


@dataclass(slots=True)
class CalibrationScores:
    """Raw scores of a calibration set, of all processes.

    good, bad: (N,), (M,) of pictures; good_pixels, bad_pixels: of their maps, as far as masks tell them apart.
    source: where they come from, in words. good_peaks, bad_peaks: the highest value of each picture's map.
    """

    good: NDArray[np.float64]
    bad: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    good_pixels: ScoreHistogram = field(default_factory=ScoreHistogram)
    bad_pixels: ScoreHistogram = field(default_factory=ScoreHistogram)
    source: str = ""
    good_peaks: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    bad_peaks: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def of_peaks(self) -> CalibrationScores:
        """The same pictures, scored by the highest value of their maps."""
        return replace(self, good=self.good_peaks, bad=self.bad_peaks)


@dataclass(frozen=True, slots=True)
class Threshold:
    """value: bad from here on; how: it was found, in words."""

    value: float
    how: str


FEW = 20  # pictures of a side, below which what a threshold does to new parts is hardly known


class Calibrator(ABC):
    """Chooses a threshold for pictures and, apart from it, one for pixels.

    by_bad: whether defective pictures have a say in it.
    """

    by_bad: ClassVar[bool] = False

    @abstractmethod
    def picture(self, scores: CalibrationScores) -> Threshold:
        """From which score on a picture is bad. Raises DataError when the set cannot tell."""

    @abstractmethod
    def pixel(self, scores: CalibrationScores) -> Threshold:
        """From which score on a pixel belongs to a defect."""


def warn_of_few(rule: Calibrator, scores: CalibrationScores) -> None:
    """Say from how few pictures a threshold was chosen, once a process for the same numbers."""
    sides = [
        ("good", "false alarms", len(scores.good)),
        *([("bad", "escapes", len(scores.bad))] if rule.by_bad else []),
    ]
    few = [side for side in sides if side[2] < FEW]
    if few:
        _warn(type(rule).__name__, tuple(few), scores.source)


@cache
def _warn(rule: str, few: tuple[tuple[str, str, int], ...], source: str) -> None:
    told = [
        f"{counted(number, f'{side} picture')} (with so few, {rate} that are 0 % among them may be "
        f"{100 * wilson(0, number).high:.0f} % on new parts)"
        for side, rate, number in few
        if number
    ]
    logger.warning(
        "{} chose its thresholds from only {}{}; {} and more of each tell more",
        rule,
        " and ".join(told),
        _from(source),
        FEW,
    )


def _from(source: str) -> str:
    return f", {source.partition(':')[0]}" if source else ""
