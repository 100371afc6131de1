"""What an inspector counts on masks: defects that were found and alarms that were none, region by region.

A region is a set of pixels that touch, diagonals included. A true defect is found when at least ``min_overlap`` of
its pixels are called a defect of any kind. A false alarm is a called region of at least ``min_area`` pixels in which
nothing is marked.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

IGNORE = 255
# from which probability on a pixel counts as defective: dense at both ends, where trained networks put most of theirs
THRESHOLDS = np.array([0.01, 0.02, 0.05, *np.arange(0.1, 0.91, 0.05).round(2), 0.95, 0.98, 0.99, 0.995, 0.999])
Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class TrueDefect:
    """A marked region. score: the highest threshold at which it is still found; found, right_kind: by the class map."""

    label: int
    area: int
    score: float
    found: bool
    right_kind: bool


@dataclass(frozen=True, slots=True)
class Counted:
    """One picture. alarms: false alarms of the class map; alarms_at: (T,) those at each of `THRESHOLDS`."""

    defects: list[TrueDefect]
    alarms: int
    alarms_at: NDArray[np.int32]


def count(truth: Mask, predicted: Mask, defect_map: NDArray[np.float32], min_area: int, min_overlap: float) -> Counted:
    """Compare one picture's class map (H, W) and defect probability (H, W) with the truth (H, W)."""
    marked = (truth > 0) & (truth != IGNORE)
    anything = truth > 0  # an alarm on unlabelled pixels proves nothing
    suspect = _around(defect_map >= THRESHOLDS[0])  # the sweep need not look where no threshold is reached
    heat, there = defect_map[suspect], anything[suspect]
    return Counted(
        _true_defects(truth, predicted, defect_map, min_area, min_overlap) if marked.any() else [],
        len(false_alarms(predicted > 0, anything, min_area)),
        np.array([len(false_alarms(heat >= t, there, min_area)) for t in THRESHOLDS], np.int32),
    )


def _around(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The box round the pixels that are set; empty where none is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _true_defects(
    truth: Mask, predicted: Mask, defect_map: NDArray[np.float32], min_area: int, min_overlap: float
) -> list[TrueDefect]:
    found = []
    for k in np.unique(truth):
        if k in (0, IGNORE):
            continue
        for box, region in regions(truth == k, min_area):
            called = predicted[box][region]
            levels = np.sort(defect_map[box][region])[::-1]
            needed = max(1, int(np.ceil(min_overlap * len(levels))))
            hits = called[called > 0]
            kind = int(np.bincount(hits).argmax()) if len(hits) else 0
            is_found = len(hits) >= needed
            found.append(
                TrueDefect(int(k), len(levels), float(levels[needed - 1]), is_found, is_found and kind == int(k))
            )
    return found


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


def false_alarms(called: NDArray[np.bool_], marked: NDArray[np.bool_], min_area: int) -> list[int]:
    """Areas of the called regions, of at least ``min_area`` pixels, that hold no marked pixel."""
    if not called.any():
        return []
    total, labels, stats, _ = cv2.connectedComponentsWithStats(called.astype(np.uint8), connectivity=8)
    touching = np.zeros(total, bool)
    touching[np.unique(labels[marked])] = True
    areas = stats[1:, cv2.CC_STAT_AREA]
    return [int(area) for area, touches in zip(areas, touching[1:]) if area >= min_area and not touches]


@dataclass(frozen=True, slots=True)
class Froc:
    """Free-response curve: share of defects found and false alarms per picture at each of `THRESHOLDS`."""

    recall: NDArray[np.float64]
    alarms_per_picture: NDArray[np.float64]

    def best_at(self, alarms_per_picture: float) -> tuple[float, float]:
        """The highest recall with at most so many false alarms per picture, and its threshold; NaN where there is none.

        Alarms need not fall as the threshold rises: a region may part into two.
        """
        allowed = np.flatnonzero(self.alarms_per_picture <= alarms_per_picture + 1e-12)
        if not len(allowed) or np.isnan(self.recall).all():
            return float("nan"), float("nan")
        best = allowed[np.argmax(self.recall[allowed])]
        return float(self.recall[best]), float(THRESHOLDS[best])


def froc(scores: NDArray[np.float64], alarms_at: NDArray[np.int64], pictures: int) -> Froc:
    """scores: (N,) of all true defects; alarms_at: (T,) false alarms of all pictures together."""
    recall = np.array([(scores >= t).mean() if len(scores) else np.nan for t in THRESHOLDS])
    return Froc(recall, alarms_at / max(pictures, 1))
