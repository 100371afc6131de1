"""What a calibrator promises: thresholds from scores of pictures that did not train the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dao.evaluators.score_histogram import ScoreHistogram


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


class Calibrator(ABC):
    """Chooses a threshold for pictures and, apart from it, one for pixels."""

    @abstractmethod
    def picture(self, scores: CalibrationScores) -> Threshold:
        """From which score on a picture is bad. Raises DataError when the set cannot tell."""

    @abstractmethod
    def pixel(self, scores: CalibrationScores) -> Threshold:
        """From which score on a pixel belongs to a defect."""
