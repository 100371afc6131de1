"""Regions of interest: where in a picture to look. Kept in relative coordinates, so that a model card can hold them.

A region is a list of parts, a part a list of rings, a ring a list of [x, y] with 0 the left or upper border of the
picture and 1 the right or lower one. A place lies in a part that an odd number of its rings enclose (so a ring inside
another is a hole), and in the region when it lies in any part.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.dataloaders.datasets.masks import BINARY_THRESHOLD, read_raw_mask
from dao.errors import DataError

Ring = list[list[float]]
Parts = list[list[Ring]]
LONGEST = 1024  # pixels to a side of a mask picture that are kept
SHIFT = 8  # binary digits behind the point in OpenCV's coordinates
HALF = 0.5


def polygon_problem(polygons: Sequence[Sequence[Sequence[float]]]) -> str:
    """What is wrong with polygons of relative coordinates, or ""."""
    if not polygons:
        return "names no polygon; leave it out to look everywhere"
    for number, ring in enumerate(polygons):
        if len(ring) < 3 or any(len(point) != 2 for point in ring):
            return f"polygon {number} needs at least 3 points [x, y], got {list(ring)}"
        if any(not 0 <= value <= 1 for point in ring for value in point):
            return f"polygon {number} leaves the picture: coordinates are shares of its width and height, 0..1"
        x, y = np.array(ring, float).T
        if abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) < 1e-9:
            return f"polygon {number} encloses nothing"
    return ""


def parts_of_polygons(polygons: Sequence[Sequence[Sequence[float]]]) -> Parts:
    """A region that lies in any of the polygons."""
    return [[[[float(x), float(y)] for x, y in ring]] for ring in polygons]


def parts_of_mask(path: str) -> Parts:
    """The region that a picture shows in white. Raises DataError when it cannot be read or shows none."""
    raw = read_raw_mask(path)
    grey = raw.max(axis=2) if raw.ndim == 3 else raw
    # as in masks of defects: 0 and 1, or black and white
    mask = (grey >= (BINARY_THRESHOLD if grey.max() > 1 else 1)).astype(np.uint8)
    if not mask.any():
        raise DataError(f"{path}: the region is empty; white is where to look")
    scale = min(1.0, LONGEST / max(mask.shape))
    if scale < 1:
        size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
    height, width = mask.shape
    rings, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [
        [
            [[round((x + HALF) / width, 5), round((y + HALF) / height, 5)] for x, y in ring[:, 0].tolist()]
            for ring in rings
        ]
    ]


def raster(parts: Parts, hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool, True where to look; pixels on the border of the region are in it."""
    return _raster(json.dumps(parts), hw)


@lru_cache(maxsize=8)
def _raster(parts: str, hw: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(hw, np.uint8)
    for part in json.loads(parts):
        rings = [np.round((np.array(ring) * hw[::-1] - HALF) * 2**SHIFT).astype(np.int32) for ring in part]
        cv2.fillPoly(mask, rings, 1, shift=SHIFT)
    found = mask.astype(bool)
    found.flags.writeable = False  # it is handed out again
    return found
