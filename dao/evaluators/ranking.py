"""How well scores rank bad before good: areas under curves, from counts at falling scores. Pure functions.

Every ``good`` and ``bad`` is (K,) float64: weight of good and bad at each of K distinct scores, the highest first.
Areas are NaN where good or bad is missing altogether.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
PRO_LIMIT = 0.3  # false-positive rate up to which AUPRO is integrated (Bergmann et al. 2021)
NAN = float("nan")


def counts_of(scores: NDArray[np.floating], bad: NDArray[np.bool_]) -> tuple[NDArray[np.floating], Weights, Weights]:
    """(K,) distinct scores, falling, and how many good and bad ones have each."""
    distinct, inverse = np.unique(scores, return_inverse=True)
    count = len(distinct)
    of_bad = np.bincount(inverse[bad], minlength=count).astype(np.float64)
    of_good = np.bincount(inverse[~bad], minlength=count).astype(np.float64)
    return distinct[::-1], of_good[::-1], of_bad[::-1]


def auroc(good: Weights, bad: Weights) -> float:
    """Area under the receiver operating curve; equal scores count half."""
    if not good.sum() or not bad.sum():
        return NAN
    caught = np.concatenate([[0.0], np.cumsum(bad)])
    area = (good * (caught[:-1] + caught[1:]) / 2).sum()
    return float(area / (good.sum() * bad.sum()))


def average_precision(good: Weights, bad: Weights) -> float:
    """Area under the steps of precision over recall; equal scores come together, as scikit-learn has it."""
    if not good.sum() or not bad.sum():
        return NAN
    caught, called = np.cumsum(bad), np.cumsum(bad + good)
    return float((bad / bad.sum() * (caught / np.maximum(called, 1e-300))).sum())


def best_f1(good: Weights, bad: Weights) -> tuple[float, int]:
    """The highest F1 of any threshold, and the place of the score from which on that one calls bad."""
    if not bad.sum():
        return NAN, 0
    caught, called = np.cumsum(bad), np.cumsum(bad + good)
    f1 = 2 * caught / (called + bad.sum())
    place = int(np.argmax(f1))
    return float(f1[place]), place


def aupro(good: Weights, overlap: Weights, limit: float = PRO_LIMIT) -> float:
    """Area under the per-region-overlap curve up to a false-positive rate of ``limit``, as a share of it.

    good: defect-free pixels at each score; overlap: at each score, the share that its pixels have in their region,
    summed over regions (so that the whole sums to the number of regions). Integrated by trapezoids, the last one cut
    at the limit.
    """
    if not good.sum() or not overlap.sum():
        return NAN
    rate = np.concatenate([[0.0], np.cumsum(good) / good.sum()])
    pro = np.concatenate([[0.0], np.cumsum(overlap) / overlap.sum()])
    inside = rate <= limit
    x, y = rate[inside], pro[inside]
    if x[-1] < limit:  # rate ends at 1, so there is a next point
        after = int(inside.sum())
        share = (limit - x[-1]) / (rate[after] - x[-1])
        x, y = np.append(x, limit), np.append(y, y[-1] + share * (pro[after] - y[-1]))
    return float(np.trapezoid(y, x) / limit)
