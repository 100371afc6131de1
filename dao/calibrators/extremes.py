"""How high the score of a good part may come: quantiles beyond what was seen. Pure functions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

EULER = 0.5772156649015329
MARGIN = 1e-3  # of a score, by which a threshold stays above good scores that do not differ at all


def gumbel_fit(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Location and scale of the Gumbel distribution with the scores' first two L-moments (Hosking 1990).

    A picture's score is the highest value of a map, and the highest of many tends to this distribution. L-moments are
    linear in the scores, so a single odd one moves them little. Scale 0 where all scores are equal.
    """
    ordered = np.sort(scores)
    n = len(ordered)
    first = float(ordered.mean())
    weighted = float((ordered * np.arange(n)).sum() / (n * (n - 1))) if n > 1 else first / 2
    second = max(2 * weighted - first, 0.0)
    scale = second / math.log(2)
    return first - EULER * scale, scale


def gumbel_quantile(location: float, scale: float, exceeded: float) -> float:
    """The score that a share ``exceeded`` of good parts reaches, 0 < exceeded < 1."""
    return location - scale * math.log(-math.log1p(-exceeded))


def empirical_quantile(scores: NDArray[np.float64], exceeded: float) -> float:
    """The lowest threshold that at most a share ``exceeded`` of the scores reaches: half-way between the two scores it
    lies between; above the highest by as far as that one is from the next lower where none may reach it."""
    ordered = np.sort(scores)[::-1]
    allowed = math.floor(exceeded * len(ordered) + 1e-9)
    while allowed and ordered[allowed - 1] == ordered[min(allowed, len(ordered) - 1)]:
        allowed -= 1  # equal scores fall on the same side
    if allowed:
        return float((ordered[allowed - 1] + ordered[allowed]) / 2)
    lower = ordered[ordered < ordered[0]]
    gap = ordered[0] - lower[0] if len(lower) else MARGIN * max(abs(ordered[0]), 1e-6)
    return float(ordered[0] + gap)


def above_typical(value: float, scores: NDArray[np.float64]) -> float:
    """The threshold, or one just above the middle good score where it fell to or below that: no model may end up with a
    threshold that throws most good parts away."""
    middle = float(np.median(scores))
    least = middle + MARGIN * max(abs(middle), 1e-6)
    return max(value, least)
