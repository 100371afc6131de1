"""Regions of a class map as plain values: where each lies, how large it is, its outline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

MOST = 1000  # regions that are described, the largest first; noise has tens of thousands


def describe_regions(
    mask: NDArray[np.uint8], defect_map: NDArray[np.float32], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Every connected region of a class but the first, the largest first.

    mask: (H, W) class indices; defect_map: (H, W) probability of a defect.
    Each has its label, its area in pixels, its highest probability, its box as [x, y, width, height], and its outline
    as polygons [x, y, x, y, ...] on pixel centres (the outer border; what is inside holes is not taken away).
    """
    found = []
    for k in np.unique(mask):
        if k == 0 or k >= len(classes):
            continue
        total, labels, stats, _ = cv2.connectedComponentsWithStats((mask == k).astype(np.uint8), connectivity=8)
        found += [(int(stats[i, cv2.CC_STAT_AREA]), int(k), labels, stats[i], i) for i in range(1, total)]
    found.sort(key=lambda item: -item[0])
    return [_describe(classes[k], labels, row, i, defect_map) for _, k, labels, row, i in found[:MOST]]


def _describe(
    name: str, labels: NDArray[np.int32], row: NDArray[np.int32], index: int, defect_map: NDArray[np.float32]
) -> dict[str, Any]:
    left, top, width, height, area = (int(value) for value in row)
    box = (slice(top, top + height), slice(left, left + width))
    own = labels[box] == index
    contours, _ = cv2.findContours(own.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top))
    return {
        "label": name,
        "pixels": area,
        "score": round(float(defect_map[box][own].max()), 6),
        "box": [left, top, width, height],
        "polygons": [contour.reshape(-1).tolist() for contour in contours],
    }
