"""Where a picture lies in a model's input, and the way back to its own pixels; numpy and OpenCV alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

ResizeKind = Literal["letterbox", "stretch", "crop", "tile"]
Position = Literal["center", "top_left"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies in the model's input: scaled to (height, width), its corner at (top, left) pixels."""

    height: int
    width: int
    top: int
    left: int


def placement(
    original_hw: tuple[int, int],
    size: tuple[int, int],
    kind: ResizeKind,
    position: Position = "center",
    smaller: Callable[[int, int], int] = min,
    larger: Callable[[int, int], int] = max,
) -> Placement:
    """Placement of a picture of ``original_hw`` in an input of ``size``; integer arithmetic.

    A negative corner means that the scaled picture is larger than the input and is cut ("crop").
    smaller, larger: of two numbers; where a graph is traced, those that it can hold (`dao.preprocess.module`).
    """
    h, w = original_hw
    th, tw = size
    if kind == "stretch":
        return Placement(th, tw, 0, 0)
    if kind == "tile":
        return Placement(h, w, 0, 0)
    fit_h, fit_w = (2 * h * tw + w) // (2 * w), (2 * w * th + h) // (2 * h)  # rounded to the nearest pixel
    if kind == "letterbox":
        nh = smaller(th, larger(1, fit_h))
        nw = smaller(tw, larger(1, fit_w))
        return _positioned(nh, nw, (th - nh) // 2, (tw - nw) // 2, position)
    nh, nw = larger(th, fit_h), larger(tw, fit_w)
    # halved as positive numbers: ONNX rounds a negative quotient towards zero, Python away from it
    return _positioned(nh, nw, -((nh - th) // 2), -((nw - tw) // 2), position)


def _positioned(height: int, width: int, top: int, left: int, position: Position) -> Placement:
    return Placement(height, width, top, left) if position == "center" else Placement(height, width, 0, 0)


def place_pixels(scaled: NDArray[Any], place: Placement, size: tuple[int, int], value: int) -> NDArray[Any]:
    """(place.height, place.width, C) pixels at their place in ``size``: padded with ``value``, or cut."""
    if (place.height, place.width) == tuple(size):
        return scaled
    scaled = scaled[max(-place.top, 0) :, max(-place.left, 0) :][: size[0], : size[1]]
    top, left = max(place.top, 0), max(place.left, 0)
    canvas = np.full((*size, scaled.shape[2]), value, scaled.dtype)
    canvas[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return canvas


def map_to_picture(values: NDArray[np.float32], place: Placement, original_hw: tuple[int, int]) -> NDArray[np.float32]:
    """A map (h, w) over the model's input -> the same over the picture; 0 where the model saw nothing of it."""
    canvas = np.zeros((place.height, place.width), np.float32)
    top, left = max(place.top, 0), max(place.left, 0)
    seen = values[top : top + place.height, left : left + place.width]
    y, x = max(-place.top, 0), max(-place.left, 0)
    canvas[y : y + seen.shape[0], x : x + seen.shape[1]] = seen
    return cv2.resize(canvas, (original_hw[1], original_hw[0]), interpolation=cv2.INTER_LINEAR)


def boxes_to_picture(boxes: NDArray[np.float32], place: Placement, original_hw: tuple[int, int]) -> NDArray[np.float32]:
    """(..., 4) corners in input pixels -> in the picture's, clipped to it; as `dao.tasks.detection.restored` does."""
    height, width = original_hw
    scale = np.array([width / place.width, height / place.height] * 2, boxes.dtype)
    corner = np.array([place.left, place.top] * 2, boxes.dtype)
    return np.clip((boxes - corner) * scale, 0, np.array([width, height] * 2, boxes.dtype))
