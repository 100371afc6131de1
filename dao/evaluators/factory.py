"""The two numbers a factory asks: how many bad parts escape, and how many good parts are thrown away.

escape rate       bad parts that were called good / bad parts
false-alarm rate  good parts that were called bad / good parts (also: overkill, pseudo-reject)

Both come with a 95 % interval: no escape among 20 bad parts does not mean that none will escape.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from dao.answers.verdicts import between

Z95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution
OPERATING_POINTS = (0.005, 0.01, 0.02, 0.05)


def mistake(bad: bool, called_bad: bool) -> str:
    """What kind of mistake a verdict is: "escape", "false alarm", or "" for none."""
    return "" if bad == called_bad else "escape" if bad else "false alarm"


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of counted parts with its Wilson interval; NaN where nothing was counted."""

    value: float
    low: float
    high: float
    count: int
    total: int

    def text(self) -> str:
        """``2.0 % (1 of 50; 95 %: 0.4 to 10.5 %)``."""
        if not self.total:
            return "none counted"
        spread = f"{self.low * 100:.1f} to {self.high * 100:.1f} %"
        return f"{self.value * 100:.1f} % ({self.count} of {self.total}; 95 %: {spread})"


def wilson(count: int, total: int, z: float = Z95) -> Rate:
    """Share ``count / total`` with Wilson's score interval (Wilson 1927)."""
    if total == 0:
        nan = float("nan")
        return Rate(nan, nan, nan, 0, 0)
    p = count / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * ((p * (1 - p) / total + z * z / (4 * total * total)) ** 0.5)
    low = 0.0 if count == 0 else max(0.0, centre - half)  # exactly 0 and 1 at the ends, where rounding would miss
    high = 1.0 if count == total else min(1.0, centre + half)
    return Rate(p, low, high, count, total)


def auroc(scores: NDArray[np.floating], bad: NDArray[np.bool_]) -> float:
    """Probability that a bad part scores higher than a good one, ties counted half (Mann-Whitney); NaN without both.

    scores: (N,) higher is worse; bad: (N,).
    """
    positives, negatives = int(bad.sum()), int((~bad).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse]  # mean rank of each group of equal scores, from 1
    return float((ranks[bad].sum() - positives * (positives + 1) / 2) / (positives * negatives))


@dataclass(frozen=True, slots=True)
class Curve:
    """Both rates at every threshold that tells parts apart. A part is called bad at score >= threshold.

    thresholds, escape, false_alarm: (M,), thresholds falling from infinity (everything passes).
    limits: between which a threshold can be set, the lower one not included: a score of 0 may mean that nothing was found.
    """

    thresholds: NDArray[np.float64]
    escape: NDArray[np.float64]
    false_alarm: NDArray[np.float64]
    bad_total: int
    good_total: int
    limits: tuple[float, float] = (0.0, 1.0)

    def best_escape_at(self, false_alarm: float) -> dict[str, object]:
        """The lowest escape rate whose false-alarm rate stays within ``false_alarm``; then the fewest false alarms."""
        allowed = self._settable(self.false_alarm <= false_alarm + 1e-12)
        if not len(allowed):
            return self._none("max_false_alarm", false_alarm)
        first = int(np.argmax(self.escape[allowed] == self.escape[allowed].min()))
        return self._at(int(allowed[first]), "max_false_alarm", false_alarm)

    def best_false_alarm_at(self, escape: float) -> dict[str, object]:
        """The lowest false-alarm rate whose escape rate stays within ``escape``; then the fewest escapes."""
        allowed = self._settable(self.escape <= escape + 1e-12)
        if not len(allowed):
            return self._none("max_escape", escape)
        last = int(np.flatnonzero(self.false_alarm[allowed] == self.false_alarm[allowed].min())[-1])
        return self._at(int(allowed[last]), "max_escape", escape)

    def _settable(self, wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.flatnonzero(wanted & (self.thresholds > self.limits[0]))

    def _none(self, wanted: str, limit: float) -> dict[str, object]:
        """No threshold reaches it: such parts score as those of which nothing was said."""
        return {wanted: limit, "threshold": None, "escape_rate": None, "false_alarm_rate": None}

    def _at(self, i: int, wanted: str, limit: float) -> dict[str, object]:
        escapes, alarms = round(self.escape[i] * self.bad_total), round(self.false_alarm[i] * self.good_total)
        return {
            wanted: limit,
            "threshold": self._proposed(i),
            "escape_rate": asdict(wilson(escapes, self.bad_total)),
            "false_alarm_rate": asdict(wilson(alarms, self.good_total)),
        }

    def _proposed(self, i: int) -> float | None:
        """A short number that does what the i-th threshold does, well away from the scores on both sides; None where
        everything must pass, and a score is as high as a threshold can be."""
        high = float(self.thresholds[i])
        if i + 1 < len(self.thresholds):
            low = max(float(self.thresholds[i + 1]), self.limits[0])
        else:
            low = max(high - max(abs(high), 1e-6), self.limits[0])
        if np.isfinite(high):
            return between(low, high)
        high = min(low + max(abs(low), 1e-6), self.limits[1])
        return between(low, high) if high > low else None


def curve(
    scores: NDArray[np.floating], bad: NDArray[np.bool_], limits: tuple[float, float] = (0.0, 1.0)
) -> Curve | None:
    """Escape against false alarm over all thresholds; None unless good and bad parts are both present.

    limits: of the thresholds that can be set, see `Curve`; of scores without any (-inf, inf).
    """
    bad_total, good_total = int(bad.sum()), int((~bad).sum())
    if not bad_total or not good_total:
        return None
    order = np.argsort(-scores, kind="stable")
    ordered, is_bad = scores[order], bad[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    caught, alarms = np.cumsum(is_bad)[last_of_ties], np.cumsum(~is_bad)[last_of_ties]
    return Curve(
        thresholds=np.concatenate([[np.inf], ordered[last_of_ties]]),
        escape=np.concatenate([[1.0], (bad_total - caught) / bad_total]),
        false_alarm=np.concatenate([[0.0], alarms / good_total]),
        bad_total=bad_total,
        good_total=good_total,
        limits=limits,
    )
