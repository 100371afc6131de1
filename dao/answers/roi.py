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

Ring = list[list[float]]
Parts = list[list[Ring]]
SHIFT = 8  # binary digits behind the point in OpenCV's coordinates
HALF = 0.5  # of a pixel: places are those of pixels' centres


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
