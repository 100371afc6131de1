"""The rules by which thresholds are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from dao.answers.verdicts import between
from dao.calibrators.base import CalibrationScores, Calibrator, Threshold
from dao.calibrators.extremes import MARGIN, above_typical, empirical_quantile, gumbel_fit, gumbel_quantile
from dao.errors import DataError, Problem
from dao.evaluators import ranking
from dao.evaluators.score_histogram import aligned, score_of
from dao.register import Registers
from dao.words.counted import counted

FEW = 10  # pictures, below which a threshold is hardly more than a guess


def _rate_problems(kwargs: Mapping[str, Any], where: str, names: tuple[str, ...], none: bool = False) -> list[Problem]:
    """none: whether a rate of 0 can be asked for: of counted pictures, not of a fit."""
    least = "must be from 0 to 0.5" if none else "must lie above 0 and be at most 0.5"
    return [
        Problem(f"{where}.{name}", f"{least}, got {kwargs[name]}")
        for name in names
        if name in kwargs and not (0 < kwargs[name] <= 0.5 or (none and kwargs[name] == 0))
    ]


@Registers.calibrators.register("FalseAlarmRate")
class FalseAlarmRate(Calibrator):
    """Thresholds from good pictures alone, at a wanted rate of false alarms.

    rate: share of good parts that may be called bad. method: "extreme_value" fits a Gumbel distribution to the scores
    and may look beyond the highest of them; "quantile" takes the scores as they are, and where too few are known to
    tell so small a rate, it goes by the fit.
    pixel_rate: share of good pictures' pixels that may be outlined.
    """

    def __init__(
        self,
        rate: float = 0.01,
        method: Literal["extreme_value", "quantile"] = "extreme_value",
        pixel_rate: float = 0.001,
    ) -> None:
        self.rate, self.method, self.pixel_rate = rate, method, pixel_rate

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Rates that are none."""
        return _rate_problems(kwargs, where, ("rate", "pixel_rate"))

    def picture(self, scores: CalibrationScores) -> Threshold:
        good = scores.good
        if not len(good):
            raise DataError(
                "no good picture is left to take a threshold from: raise held_out, or give a calibration set"
            )
        enough = self.rate * len(good) >= 1
        fitted = gumbel_quantile(*gumbel_fit(good), self.rate)
        if self.method == "quantile":
            value = empirical_quantile(good, self.rate) if enough else max(fitted, empirical_quantile(good, self.rate))
        else:
            value = fitted
        how = "their scores' quantile" if self.method == "quantile" and enough else "an extreme-value fit"
        text = f"{how} of {counted(len(good), 'good picture')} at {self.rate:.2%} false alarms"
        if len(good) < FEW:
            text += f" (so few that it is hardly more than a guess; {FEW} or more would do)"
        return Threshold(above_typical(value, good), text)

    def pixel(self, scores: CalibrationScores) -> Threshold:
        value = scores.good_pixels.quantile(1 - self.pixel_rate)
        return Threshold(value, f"the score that {self.pixel_rate:.2%} of good pixels reach")


@Registers.calibrators.register("BestF1")
class BestF1(Calibrator):
    """The thresholds with the highest F1 on a calibration set that has defects.

    pixel_rate: where no masks say which pixels are defective, the share of good pixels that may be outlined.
    """

    by_bad = True

    def __init__(self, pixel_rate: float = 0.001) -> None:
        self.pixel_rate = pixel_rate

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Rates that are none."""
        return _rate_problems(kwargs, where, ("pixel_rate",))

    def picture(self, scores: CalibrationScores) -> Threshold:
        _need_defects(scores, "BestF1")
        is_bad = np.repeat([False, True], [len(scores.good), len(scores.bad)])
        at, good, bad = ranking.counts_of(np.concatenate([scores.good, scores.bad]), is_bad)
        f1, place = ranking.best_f1(good, bad)
        below = at[place + 1] if place + 1 < len(at) else at[place]
        text = f"best F1, {f1:.3f}, on {len(scores.good)} good and {len(scores.bad)} bad pictures"
        return Threshold(float((at[place] + below) / 2), text)

    def pixel(self, scores: CalibrationScores) -> Threshold:
        return best_pixels(scores) or FalseAlarmRate(pixel_rate=self.pixel_rate).pixel(scores)


@Registers.calibrators.register("EscapeRate")
class EscapeRate(Calibrator):
    """The highest threshold that lets at most a wanted share of the defective calibration pictures pass.

    rate: share of bad parts that may escape, 0 for none of them; pixel_rate: as in BestF1.
    """

    by_bad = True

    def __init__(self, rate: float = 0.01, pixel_rate: float = 0.001) -> None:
        self.rate, self.pixel_rate = rate, pixel_rate

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Rates that are none."""
        return _rate_problems(kwargs, where, ("rate",), none=True) + _rate_problems(kwargs, where, ("pixel_rate",))

    def picture(self, scores: CalibrationScores) -> Threshold:
        _need_defects(scores, "EscapeRate")
        ordered = np.sort(scores.bad)
        lowest_caught = float(ordered[int(self.rate * len(ordered) + 1e-9)])
        below = np.concatenate([scores.good, scores.bad])
        below = below[below < lowest_caught]
        room = MARGIN * max(abs(lowest_caught), 1e-6)
        value = between(float(below.max()) if len(below) else lowest_caught - room, lowest_caught)
        alarms = float((scores.good >= value).mean()) if len(scores.good) else float("nan")
        text = f"{self.rate:.2%} escapes of {counted(len(ordered), 'bad picture')}, {alarms:.2%} false alarms among the good ones"
        return Threshold(value, text)

    def pixel(self, scores: CalibrationScores) -> Threshold:
        return best_pixels(scores) or FalseAlarmRate(pixel_rate=self.pixel_rate).pixel(scores)


def best_pixels(scores: CalibrationScores) -> Threshold | None:
    """The pixel threshold with the highest F1, where masks say which pixels are defective."""
    keys, (good, bad) = aligned(scores.good_pixels, scores.bad_pixels)
    if not bad.sum():
        return None
    f1, place = ranking.best_f1(good, bad)
    return Threshold(float(score_of(keys[place : place + 1])[0]), f"best F1 of pixels, {f1:.3f}")


def _need_defects(scores: CalibrationScores, rule: str) -> None:
    if not len(scores.bad):
        raise DataError(
            f"{rule} needs defective pictures, and the calibration set has none. Name some that are not in the test set "
            'in "calibration": {"dataloader": ...}, or use FalseAlarmRate, which good ones alone suffice for'
        )
