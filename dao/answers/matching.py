"""Lists of scored boxes, and which of one list are which of another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAME_PLACE = 0.99  # IoU above which two boxes are one


@dataclass(frozen=True, slots=True)
class Boxes:
    """xyxy: (N, 4) float32; labels: (N,) int64; scores: (N,) float32."""

    xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, index: NDArray) -> Boxes:
        """The boxes at an index or under a mask."""
        return Boxes(self.xyxy[index], self.labels[index], self.scores[index])

    def above(self, score: float) -> Boxes:
        """Those with at least this score."""
        return self.take(self.scores >= score)

    def first(self, count: int) -> Boxes:
        """At most so many."""
        return self.take(np.arange(min(count, len(self))))


def box_areas(xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
    """(..., 4) -> (...)."""
    return (xyxy[..., 2] - xyxy[..., 0]).astype(np.float64) * (xyxy[..., 3] - xyxy[..., 1])


def common_area(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Area that boxes share, (..., 4) and (..., 4) that broadcast -> (...)."""
    low = np.maximum(first[..., :2], second[..., :2]).astype(np.float64)
    high = np.minimum(first[..., 2:], second[..., 2:])
    return np.clip(high - low, 0, None).prod(axis=-1)


def iou(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union, (..., 4) and (..., 4) that broadcast -> (...); 1 for two equal boxes without area."""
    common = common_area(first, second)
    union = box_areas(first) + box_areas(second) - common
    equal = (first == second).all(axis=-1)
    return np.where(equal, 1.0, common / np.maximum(union, 1e-12))


def iou_matrix(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """`iou` of each of (N, 4) with each of (M, 4) boxes, (N, M)."""
    return iou(first[:, None], second[None])


def match(first: Boxes, second: Boxes, least: float = 0.5) -> list[tuple[int, int, float]]:
    """Pairs of one class, (index, index, IoU) each, made greedily from the greatest overlap down to ``least``."""
    overlap = iou_matrix(first.xyxy, second.xyxy)
    overlap = np.where(first.labels[:, None] == second.labels[None], overlap, 0.0)
    pairs: list[tuple[int, int, float]] = []
    seen: tuple[set[int], set[int]] = set(), set()
    for i, j in zip(*np.unravel_index(np.argsort(-overlap, axis=None, kind="stable"), overlap.shape)):
        if overlap[i, j] < least:
            break
        if i not in seen[0] and j not in seen[1]:
            seen[0].add(int(i))
            seen[1].add(int(j))
            pairs.append((int(i), int(j), float(overlap[i, j])))
    return pairs


def same_boxes(first: Boxes, second: Boxes, score_tolerance: float, threshold: float | None = None) -> bool:
    """Whether every box of each has its like in the other: class, IoU above 0.99, score within the tolerance.

    threshold: the least score answered with; a box that near to it may be missing in one of them.
    """
    pairs = match(first, second)
    for i, j, iou in pairs:
        if iou < SAME_PLACE or abs(first.scores[i] - second.scores[j]) > score_tolerance:
            return False
    alone = [np.delete(first.scores, [i for i, _, _ in pairs]), np.delete(second.scores, [j for _, j, _ in pairs])]
    limit = -np.inf if threshold is None else threshold + score_tolerance
    return bool((np.concatenate(alone) <= limit).all())
