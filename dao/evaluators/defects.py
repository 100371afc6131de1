"""What an inspector counts on masks: defects that were found and alarms that were none, region by region.

A region is a set of pixels that touch, diagonals included. A true defect is found when at least ``min_overlap`` of
its pixels are called a defect of any kind. A false alarm is a called region of at least ``min_area`` pixels in which
nothing is marked, be it as small as it may. Smaller called regions are no answer: they find nothing and alarm nobody.
Unlabelled pixels join what touches them (a border that was left open belongs to its defect), and count for nothing: a
region has ``min_area`` where so many of its labelled pixels touch, for an alarm as for the verdict on the picture.
The verdict of the class map and the curve over thresholds count by this one rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.answers.verdicts import least_float32
from dao.evaluators.pixels import around, kinds_in

IGNORE = 255
# from which probability on a pixel counts as defective: dense at both ends, where trained networks put most of theirs
THRESHOLDS = np.array([0.01, 0.02, 0.05, *np.arange(0.1, 0.91, 0.05).round(2), 0.95, 0.98, 0.99, 0.995, 0.999])
Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class TrueDefect:
    """A marked region. score: it is found at those levels that are not above it; found, right_kind: by the class map."""

    label: int
    area: int
    score: float
    found: bool
    right_kind: bool


@dataclass(frozen=True, slots=True)
class Counted:
    """One picture. alarms: false alarms of the class map; alarms_at: (T,) those at each level of the sweep; undecided:
    whether something is marked in it, and nothing of ``min_area``: nobody knows whether such a part is good."""

    defects: list[TrueDefect]
    alarms: int
    alarms_at: NDArray[np.int32]
    undecided: bool = False


def count(
    truth: Mask,
    predicted: Mask,
    defect_map: NDArray[np.float32],
    min_area: int,
    min_overlap: float,
    levels: NDArray[np.float64] = THRESHOLDS,
) -> Counted:
    """Compare one picture's class map (H, W) and defect probability (H, W) with the truth (H, W).

    levels: (T,) thresholds on the probability, rising, that the curve has points at.
    """
    marked, labelled = (truth > 0) & (truth != IGNORE), truth != IGNORE
    labelled = None if labelled.all() else labelled
    labels, counts = _counting(predicted > 0, labelled, min_area)
    predicted = predicted * counts[labels]
    true = _marked_regions(truth, min_area) if marked.any() else []
    which = np.zeros(truth.shape, np.int32)
    for number, (_, box, region) in enumerate(true, start=1):
        which[box][region] = number
    suspect = around(defect_map >= levels[0])  # the sweep need not look where no threshold is reached
    known = labelled if labelled is None else labelled[suspect]
    alarms_at, hits_at = _sweep(
        defect_map[suspect], marked[suspect], known, which[suspect], len(true), levels, min_area
    )
    defects = [
        _judged(label, predicted[box][region], defect_map[box][region], hits_at[:, i], levels, min_overlap)
        for i, (label, box, region) in enumerate(true)
    ]
    undecided = bool(marked.any()) and not true
    return Counted(defects, _alarms(counts, labels[marked]), alarms_at, undecided)


def _counting(
    called: NDArray[np.bool_], labelled: NDArray[np.bool_] | None, min_area: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The called regions, by number, and which of them count: ``min_area`` pixels of it touch, all of them labelled.

    labelled: None where every pixel is.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(called.view(np.uint8), connectivity=8)
    if labelled is None:
        counts = stats[:, cv2.CC_STAT_AREA] >= min_area
    else:
        _, inner, inside, _ = cv2.connectedComponentsWithStats((called & labelled).view(np.uint8), connectivity=8)
        large = inside[:, cv2.CC_STAT_AREA] >= min_area
        large[0] = False
        counts = np.zeros(len(stats), bool)
        counts[labels[large[inner]]] = True
    counts[0] = False
    return labels, counts


def _alarms(counts: NDArray[np.bool_], touched: NDArray[np.int32]) -> int:
    """How many of the regions that count are none of those that hold a marked pixel."""
    touching = np.zeros(len(counts), bool)
    touching[touched] = True
    return int((counts & ~touching).sum())


def _sweep(
    heat: NDArray[np.float32],
    there: NDArray[np.bool_],
    labelled: NDArray[np.bool_] | None,
    which: NDArray[np.int32],
    defects: int,
    levels: NDArray[np.float64],
    min_area: int,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """(T,) false alarms at each level, and (T, N) how many pixels of each marked region are called there."""
    alarms, hits = np.zeros(len(levels), np.int32), np.zeros((len(levels), defects), np.int64)
    explained, marked = np.flatnonzero(there), np.flatnonzero(which)  # most of a picture is neither
    of_defect = which.reshape(-1)[marked]
    before = -1
    for row, level in enumerate(levels):
        called = heat >= least_float32(level)
        count = cv2.countNonZero(called.view(np.uint8))
        if not count:
            break  # the levels rise
        if count == before:  # no pixel was lost
            alarms[row], hits[row] = alarms[row - 1], hits[row - 1]
            continue
        before = count
        labels, counts = _counting(called, labelled, min_area)
        labels = labels.reshape(-1)
        alarms[row] = _alarms(counts, labels[explained])
        hits[row] = np.bincount(of_defect[counts[labels[marked]]], minlength=defects + 1)[1:]
    return alarms, hits


def _marked_regions(truth: Mask, min_area: int) -> list[tuple[int, tuple[slice, slice], NDArray[np.bool_]]]:
    """The regions that count: class, where each lies, its own pixels there."""
    kinds = [int(k) for k in np.flatnonzero(kinds_in(truth)) if k not in (0, IGNORE)]
    return [(k, box, region) for k in kinds for box, region in regions(truth == k, min_area)]


def _judged(
    label: int,
    called: NDArray[np.uint8],
    probability: NDArray[np.float32],
    hits_at: NDArray[np.int64],
    levels: NDArray[np.float64],
    min_overlap: float,
) -> TrueDefect:
    """One marked region by its pixels' classes and probabilities, both (P,), and how many are called at each level (T,)."""
    needed = max(1, int(np.ceil(min_overlap * len(called))))
    score = float(np.sort(probability)[::-1][needed - 1])
    reached = levels[hits_at >= needed]
    if len(reached) < (levels <= score).sum():  # where only regions too small to count are left
        score = float(reached[-1]) if len(reached) else 0.0
    hits = called[called > 0]
    kind = int(np.bincount(hits).argmax()) if len(hits) else 0
    found = len(hits) >= needed
    return TrueDefect(label, len(called), score, found, found and kind == label)


def regions(mask: NDArray[np.bool_], min_area: int) -> list[tuple[tuple[slice, slice], NDArray[np.bool_]]]:
    """The connected regions of at least ``min_area`` pixels: where each lies, and its own pixels there."""
    if not mask.any():
        return []
    total, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    found = []
    for i in range(1, total):
        left, top, width, height, area = stats[i]
        if area >= min_area:
            box = (slice(top, top + height), slice(left, left + width))
            found.append((box, labels[box] == i))
    return found


@dataclass(frozen=True, slots=True)
class Froc:
    """Free-response curve: share of defects found and false alarms per picture at each of its levels."""

    recall: NDArray[np.float64]
    alarms_per_picture: NDArray[np.float64]
    levels: NDArray[np.float64] = field(default_factory=lambda: THRESHOLDS)

    def best_at(self, alarms_per_picture: float) -> tuple[float, float]:
        """The highest recall with at most so many false alarms per picture, and its threshold; NaN where there is none.

        Alarms need not fall as the threshold rises: a region may part into two.
        """
        allowed = np.flatnonzero(self.alarms_per_picture <= alarms_per_picture + 1e-12)
        if not len(allowed) or np.isnan(self.recall).all():
            return float("nan"), float("nan")
        best = allowed[np.argmax(self.recall[allowed])]
        return float(self.recall[best]), float(self.levels[best])


def froc(
    scores: NDArray[np.float64],
    alarms_at: NDArray[np.int64],
    pictures: int,
    levels: NDArray[np.float64] = THRESHOLDS,
) -> Froc:
    """scores: (N,) of all true defects; alarms_at: (T,) false alarms of all pictures together, at each of the levels."""
    recall = np.array([(scores >= t).mean() if len(scores) else np.nan for t in levels])
    return Froc(recall, alarms_at / max(pictures, 1), levels)
