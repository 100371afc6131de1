"""Regions of a class map as plain values: where each lies, how large it is, its outline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.drawing.class_map import count_pixels

MOST = 1000  # regions that are described, the largest first; noise has tens of thousands


def describe_regions(
    mask: NDArray[np.uint8], defect_map: NDArray[np.float32], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Every connected region of a class but the first, the largest first.

    mask: (H, W) class indices; defect_map: (H, W) probability of a defect.
    Each has its label, its area in pixels, its highest probability, its box as [x, y, width, height], and its outline
    as polygons [x, y, x, y, ...] on pixel centres (the outer border; what is inside holes is not taken away).
    """
    counts = count_pixels(mask, len(classes))
    found: list[dict[str, Any]] = []
    for k in range(1, len(classes)):
        if counts[k]:
            found += _of_class(mask == k, classes[k], defect_map)
    return sorted(found, key=lambda region: -region["pixels"])[:MOST]


def _of_class(region: NDArray[np.bool_], name: str, defect_map: NDArray[np.float32]) -> list[dict[str, Any]]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(region.view(np.uint8), connectivity=8)
    largest = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:MOST]
    return [_describe(name, labels, stats[i], int(i), defect_map) for i in largest]


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
