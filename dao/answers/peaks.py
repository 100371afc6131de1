"""The highest threshold that leaves a region of some size in a map: looked for where it can be, so that the cost stays near
that of labelling the map a few times, on noise as on smooth maps."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
SAMPLE = 4096  # pixels that tell how a map's values are spread
MANY = 5_000  # pixels that are added one by one
GROWTH = 4  # from one level to the next so many times the pixels are called
OUTSIDE, SURE = np.float32(-1), np.float32(2)  # below and above every score


def region_peak(scores: Map, min_area: int) -> float:
    """The highest threshold at which a connected region of ``min_area`` pixels is left: a picture's badness, by masks.

    scores: (H, W), at least 0. A picture is called bad at ``t`` exactly when this is at least ``t``; 0 where no region can
    be so large.
    """
    flat = scores.reshape(-1)
    if flat.size < min_area:
        return 0.0
    if min_area <= 1:
        return float(flat.max())
    sample = np.sort(flat[:: max(1, flat.size // SAMPLE)])[::-1]
    high = _nth_highest(flat, sample, min_area)
    if has_region(scores >= high, min_area):
        return float(high)
    return _below(scores, sample[sample < high], high, min_area)


def has_region(mask: NDArray[np.bool_], min_area: int) -> bool:
    """Whether so many pixels that are set touch, diagonals included."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return False
    near = np.ascontiguousarray(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return bool((_labelled(near)[1][1:, cv2.CC_STAT_AREA] >= min_area).any())


def _labelled(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    return labels, stats


def _nth_highest(flat: Map, sample: Map, n: int) -> np.float32:
    """No region of ``n`` pixels can be above it."""
    if n <= len(sample):
        above = flat[flat > sample[n - 1]]
        if len(above) < n:
            return sample[n - 1]
        flat = above
    return np.partition(flat, flat.size - n)[flat.size - n]


def _below(scores: Map, sample: Map, high: np.float32, min_area: int) -> float:
    """`region_peak` of a map that has no region at ``high``. sample: some of its values below that, falling."""
    levels = [sample[GROWTH**i - 1] for i in range(16) if GROWTH**i <= len(sample)]
    for level in [*levels, scores.min()]:
        labels, stats = _labelled(scores >= level)
        large = stats[:, cv2.CC_STAT_AREA] >= min_area
        large[0] = False
        if large.any():  # at the lowest value everything is one region
            break
    return _best_of(scores, labels, stats, np.flatnonzero(large), high, min_area)


def _best_of(
    scores: Map,
    labels: NDArray[np.int32],
    stats: NDArray[np.int32],
    large: NDArray[np.int64],
    high: np.float32,
    min_area: int,
) -> float:
    """The highest peak inside the regions of a level: those that may have a higher one are looked at first."""
    bounds = np.full(len(large), np.nextafter(high, OUTSIDE), np.float32)
    small = stats[large, cv2.CC_STAT_AREA] <= SAMPLE  # of large ones a sort would cost more than it saves
    bounds[small] = np.minimum(bounds[small], _bounds(scores, labels, large[small], len(stats), min_area))
    best = OUTSIDE
    for place in np.argsort(-bounds, kind="stable"):
        if bounds[place] <= best:
            break
        left, top, width, height, _ = (int(value) for value in stats[large[place]])
        box = (slice(top, top + height), slice(left, left + width))
        inside = np.where(labels[box] == large[place], scores[box], OUTSIDE)
        best = _peak_between(inside, best, bounds[place], min_area)
    return float(best)


def _bounds(
    scores: Map, labels: NDArray[np.int32], large: NDArray[np.int64], regions: int, min_area: int
) -> NDArray[np.float32]:
    """(N,) the ``min_area``-th highest value inside each of these regions."""
    chosen = np.zeros(regions, bool)
    chosen[large] = True
    if not len(large):
        return np.zeros(0, np.float32)
    pixels = np.flatnonzero(chosen[labels.reshape(-1)])
    of, values = labels.reshape(-1)[pixels], scores.reshape(-1)[pixels]
    order = np.lexsort((-values, of))
    first = np.searchsorted(of[order], large)
    return values[order][first + min_area - 1]


def _peak_between(inside: Map, low: np.float32, bound: np.float32, min_area: int) -> np.float32:
    """The highest value above ``low``, and up to ``bound``, that leaves a region; ``low`` where none does.

    inside: (H, W), without a region above ``bound``.
    """
    values = inside[(inside > low) & (inside <= bound)]
    while len(values) > MANY and values.min() < values.max():
        middle = max(np.median(values[:: len(values) // MANY]), np.nextafter(values.min(), SURE))
        if has_region(inside >= middle, min_area):
            low = max(low, np.nextafter(middle, OUTSIDE))
            values = values[values >= middle]
        else:
            values = values[values < middle]
            bound = values.max()
    return _joined(inside, low, bound, min_area)


def _joined(inside: Map, low: np.float32, bound: np.float32, min_area: int) -> np.float32:
    """`_peak_between`, by adding pixel to pixel, the highest first, and joining what touches."""
    labels, stats = _labelled(inside > bound)
    area, parent = stats[:, cv2.CC_STAT_AREA].tolist(), list(range(len(stats)))
    padded = np.pad(labels, 1).reshape(-1)  # so that every pixel has eight neighbours
    width = inside.shape[1] + 2
    rows, columns = np.nonzero((inside > low) & (inside <= bound))
    values = inside[rows, columns]
    order = np.argsort(-values, kind="stable")
    for value, place in zip(values[order], ((rows + 1) * width + columns + 1)[order].tolist()):
        root = len(parent)
        parent.append(root)
        area.append(1)
        padded[place] = root
        for step in (-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1):
            other = _root(parent, int(padded[place + step]))
            if other and other != root:
                parent[other] = root
                area[root] += area[other]
        if area[root] >= min_area:
            return value
    return low


def _root(parent: list[int], node: int) -> int:
    while parent[node] != node:
        parent[node] = node = parent[parent[node]]
    return node
