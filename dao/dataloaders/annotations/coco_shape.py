"""COCO's ``segmentation``, in the forms that it is found in: rings of numbers, pairs, one flat list."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.dataloaders.annotations.json_file import number_of, shown
from dao.dataloaders.annotations.regions import FARTHEST

PAIR = 2


def rings_of(shape: Any) -> list[NDArray[np.float64]]:
    """Outlines (P, 2) of x, y; empty ones are left out. Raises ValueError for what is no outline.

    A flat list of numbers is one outline, and so is a list of pairs, though COCO writes neither.
    """
    if not isinstance(shape, list):
        raise ValueError(f"its segmentation is no outline: {shown(shape)}")
    if all(_is_number(value) for value in shape) or all(_is_pair(value) for value in shape):
        shape = [shape]
    return [ring for ring in map(_ring, shape) if len(ring)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == PAIR and all(map(_is_number, value))


def _ring(values: Any) -> NDArray[np.float64]:
    if not isinstance(values, list):
        raise ValueError(f"its segmentation is no list of outlines: it holds {shown(values)}")
    flat = [number for pair in values for number in pair] if values and all(map(_is_pair, values)) else values
    if len(flat) % PAIR:
        raise ValueError(f"an outline has {len(flat)} numbers; x and y make pairs")
    points = np.array(flat)
    if points.dtype.kind not in "iuf":  # text, objects, whole numbers without end: one by one, and named
        points = np.array([number_of(value, "a coordinate of its outline") for value in flat], np.float64)
    points = points.astype(np.float64)
    return refuse_far(points.reshape(-1, PAIR))


def refuse_far(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (P, 2). Raises ValueError for coordinates that are no numbers, or of no picture."""
    if points.size and not (points.max() <= FARTHEST and points.min() >= -FARTHEST):  # not so for NaN either
        raise ValueError("an outline has a point that is no number, or beyond any picture")
    return points
