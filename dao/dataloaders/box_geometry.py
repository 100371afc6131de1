"""Boxes under affine maps, crops and scales: pure functions of arrays. Boxes are (N, 4) left, top, right, bottom."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.errors import Problem

Boxes = NDArray[np.float32]
Matrix = NDArray[np.float64]  # (2, 3), maps (x, y, 1) to (x, y)
MIN_VISIBLE = 0.1  # share of a box that must be left for it to be learnt, where nobody says otherwise


def areas(boxes: Boxes) -> NDArray[np.float32]:
    """(N,) square pixels; 0 for a box whose sides are the wrong way round."""
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)


def clip(boxes: Boxes, hw: tuple[int, int]) -> Boxes:
    """The parts of the boxes inside a picture of ``hw``."""
    height, width = hw
    return np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))


def scale_and_shift(boxes: Boxes, scale_xy: tuple[float, float], shift_xy: tuple[float, float]) -> Boxes:
    """Boxes scaled, then moved."""
    factor, offset = np.array(scale_xy * 2, np.float32), np.array(shift_xy * 2, np.float32)
    return boxes * factor + offset


def warp(boxes: Boxes, matrix: Matrix) -> Boxes:
    """(N, 4): the upright boxes round the mapped corners of the given ones."""
    x, y = boxes[:, [0, 2, 2, 0]], boxes[:, [1, 1, 3, 3]]  # (N, 4) corners, clockwise
    mapped_x = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
    mapped_y = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
    sides = [mapped_x.min(1), mapped_y.min(1), mapped_x.max(1), mapped_y.max(1)]
    return np.stack(sides, axis=1).astype(np.float32).reshape(-1, 4)


def keep_visible(
    before: Boxes, hw: tuple[int, int], least: float, seen: NDArray[np.float32] | float = 1.0
) -> tuple[Boxes, NDArray[np.bool_]]:
    """Boxes cut to a picture of ``hw``, and (N,) which of them stay: the one rule for every crop, window and map.

    least: share of a box's area that must be left, ``seen`` being what earlier cuts have left of each. Less than a pixel
    to a side never stays.
    """
    after, share = visible(before, hw)
    return after, (share * seen >= least) & large_enough(after)


def visible(before: Boxes, hw: tuple[int, int]) -> tuple[Boxes, NDArray[np.float32]]:
    """Boxes clipped to a picture, and (N,) which share of each one's area is left."""
    after = clip(before, hw)
    return after, areas(after) / np.maximum(areas(before), 1e-9)


def large_enough(boxes: Boxes, side: float = 1.0) -> NDArray[np.bool_]:
    """(N,) whether both sides are at least ``side`` pixels long."""
    return ((boxes[:, 2:] - boxes[:, :2]) >= side).all(1) if len(boxes) else np.zeros(0, bool)


def affine(
    degrees: float,
    scale: float,
    shear_xy: tuple[float, float],
    centre_xy: tuple[float, float],
    to_xy: tuple[float, float],
) -> Matrix:
    """(2, 3) map that turns (anticlockwise on the screen), scales, then shears about ``centre_xy`` and puts that point
    at ``to_xy``. Angles in degrees."""
    angle, (shear_x, shear_y) = math.radians(degrees), (math.tan(math.radians(value)) for value in shear_xy)
    turn = scale * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    linear = np.array([[1.0, shear_x], [shear_y, 1.0]]) @ turn
    offset = np.array(to_xy) - linear @ np.array(centre_xy)
    return np.concatenate([linear, offset[:, None]], axis=1)


def share_problems(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
    """Whether ``min_visible``, where given, is a share."""
    given = kwargs.get("min_visible")
    return (
        [] if given is None or 0 <= given <= 1 else [Problem(f"{where}.min_visible", f"expected 0 to 1, got {given:g}")]
    )
