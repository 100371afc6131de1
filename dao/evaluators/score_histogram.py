"""Counts of scores, fine enough to rank by, that add up over pictures and processes in bounded memory.

A score is filed under its 16 leading binary digits, so scores that differ by more than 1 part in 32,768 are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

DROPPED_BITS = 8  # of the 23 of a float32's mantissa
LOWEST, HIGHEST = 2.0**-24, 2.0**24  # scores beyond are filed as these


def key_of(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Integers in the order of the scores, (any shape) float >= 0; equal for scores that agree in 16 digits."""
    clipped = np.clip(np.asarray(scores, np.float32), np.float32(LOWEST), np.float32(HIGHEST))
    return (clipped.view(np.int32) >> DROPPED_BITS).astype(np.int64)


def score_of(keys: NDArray[np.int64]) -> NDArray[np.float32]:
    """The least score of each key."""
    return (np.asarray(keys, np.int64) << DROPPED_BITS).astype(np.int32).view(np.float32)


@dataclass(slots=True)
class ScoreHistogram:
    """How much weight lies at each key. first: the key of ``weights[0]``; the array grows with what it meets."""

    first: int = 0
    weights: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def add(self, scores: NDArray[np.floating], weight: float = 1.0) -> None:
        """Take in scores, each with the same weight."""
        if not scores.size:
            return
        keys = key_of(scores).reshape(-1)
        low, high = int(keys.min()), int(keys.max())
        self._make_room(low, high)
        counts = np.bincount(keys - low, minlength=high - low + 1)
        self.weights[low - self.first : high - self.first + 1] += counts * weight

    def merge(self, other: ScoreHistogram) -> None:
        """Take in another one."""
        if other.weights.size:
            self._make_room(other.first, other.first + len(other.weights) - 1)
            start = other.first - self.first
            self.weights[start : start + len(other.weights)] += other.weights

    def _make_room(self, low: int, high: int) -> None:
        if not self.weights.size:
            self.first, self.weights = low, np.zeros(high - low + 1)
            return
        before, after = max(0, self.first - low), max(0, high - self.first - len(self.weights) + 1)
        if before or after:
            self.weights = np.pad(self.weights, (before, after))
            self.first -= before

    @property
    def total(self) -> float:
        """All weight together."""
        return float(self.weights.sum())

    def quantile(self, share: float) -> float:
        """The score below which at least ``share`` of the weight lies; NaN of nothing."""
        if not self.weights.size:
            return float("nan")
        below = np.cumsum(self.weights)
        place = int(np.searchsorted(below, share * below[-1]))
        return float(score_of(np.array([self.first + min(place, len(below) - 1) + 1]))[0])


def aligned(*histograms: ScoreHistogram) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """Keys that any of them has weight at, falling, and the weight of each of them there."""
    filled = [h for h in histograms if h.weights.size]
    if not filled:
        return np.zeros(0, np.int64), [np.zeros(0) for _ in histograms]
    first = min(h.first for h in filled)
    last = max(h.first + len(h.weights) for h in filled)
    table = np.zeros((len(histograms), last - first))
    for row, h in zip(table, histograms):
        row[h.first - first : h.first - first + len(h.weights)] = h.weights
    used = np.flatnonzero(table.any(axis=0))[::-1]
    return used + first, list(table[:, used])
