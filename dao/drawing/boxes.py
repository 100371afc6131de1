"""Pictures with boxes on them, for people. Pure functions on uint8 RGB arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.drawing.pictures import color_of, thumbnail, to_rgb
from dao.drawing.text import Color, Image, draw_text, text_width
from dao.structures import GroundTruth

SMALLEST = 640  # pictures whose longer side is shorter are enlarged by a whole factor, so that names find room
LIGHT, DARK = (255, 255, 255), (20, 20, 20)
NO_BOXES = np.zeros((0, 4))
Tag = tuple[int, int, int, int]  # left, top, right, bottom, pixels


def annotate_boxes(
    image: Image,
    classes: Sequence[str],
    xyxy: NDArray[np.floating],
    labels: NDArray[np.integer],
    scores: NDArray[np.floating] | None = None,
    *,
    truth: GroundTruth | None = None,
) -> Image:
    """The picture with every box in its class's colour and a tag with name and score, as little covered as can be.

    image: (H, W, 3) or grey uint8; xyxy: (N, 4) pixels; labels: (N,); scores: (N,) or None.
    truth: what is really there, dashed and without tags. Small pictures come back enlarged by a whole factor.
    """
    picture = to_rgb(image)
    factor = max(1, math.ceil(SMALLEST / max(picture.shape[:2])))
    canvas = np.repeat(np.repeat(picture, factor, axis=0), factor, axis=1).copy()
    line = line_width(canvas.shape[:2])
    if isinstance(truth, GroundTruth):
        for box, label in zip(truth.boxes_xyxy * factor, truth.labels, strict=True):
            _dashed(canvas, box, color_of(int(label)), line)
    order = np.arange(len(xyxy)) if scores is None else np.argsort(-scores, kind="stable")
    names = [classes[int(labels[i])] + ("" if scores is None else f" {scores[i]:.2f}") for i in order]
    size = max(11, round(max(canvas.shape[:2]) / 55))
    mark(canvas, xyxy[order] * factor, [color_of(int(labels[i])) for i in order], names, line, size)
    return canvas


def mark(
    canvas: Image, xyxy: NDArray[np.floating], colors: Sequence[Color], names: Sequence[str], line: int, size: int,
    seen: NDArray[np.floating] = NO_BOXES,
) -> None:  # fmt: skip
    """Draw boxes (N, 4), pixels, and their names in place, the most important first: those lie on top, and their names
    stand where they are best read; "" bears none. line: of the frames, size: of the letters, pixels; seen: boxes (M, 4) that no
    name should cover either."""
    for box, color in reversed(list(zip(xyxy, colors, strict=True))):
        _outline(canvas, box, color, line)
    taken: list[Tag] = []
    uncovered = np.concatenate([xyxy, seen])
    for box, color, name in zip(xyxy, colors, names, strict=True):
        if name:
            _tag(canvas, name, box, color, size, taken, uncovered)


def small_boxes(image: Image, xyxy: NDArray[np.floating], labels: NDArray[np.integer], side: int = 256) -> Image:
    """A contact sheet's picture: shrunk to ``side`` pixels, boxes without names."""
    canvas = thumbnail(image, side).copy()
    scale = canvas.shape[1] / image.shape[1]
    for box, label in zip(xyxy, labels, strict=True):
        _outline(canvas, box * scale, color_of(int(label)), 2)
    return canvas


def line_width(hw: tuple[int, int]) -> int:
    """Pixels of a frame's line on a picture of this size, for objects that are large enough."""
    return max(2, round(max(hw) / 400))


def frame_of(box: NDArray[np.floating], line: int, hw: tuple[int, int]) -> tuple[tuple[int, int, int, int], int]:
    """Where the middle of a frame's line runs, x0, y0, x1, y1, and how wide it is: outside of the object, with a gap, and
    thin round a small one, so that what it marks is left to be seen. Where the object ends at the picture's edge, so does
    the frame."""
    x0, y0, x1, y1 = (float(v) for v in box)
    width = max(1, min(line, round(min(x1 - x0, y1 - y0) / 12)))
    away = max(2, line) + width // 2 + 1
    high, wide = hw[0] - 1 - width // 2, hw[1] - 1 - width // 2
    left, top = max(round(x0) - away, width // 2), max(round(y0) - away, width // 2)
    right, bottom = min(round(x1) - 1 + away, wide), min(round(y1) - 1 + away, high)
    return (min(left, wide), min(top, high), max(right, 0), max(bottom, 0)), width


def _outline(canvas: Image, box: NDArray[np.floating], color: Color, line: int) -> None:
    """A frame with a hair of dark outside of it, so that it shows on any ground."""
    (x0, y0, x1, y1), width = frame_of(box, line, canvas.shape[:2])
    hair = width // 2 + 1
    cv2.rectangle(canvas, (x0 - hair, y0 - hair), (x1 + hair, y1 + hair), DARK, 1)
    cv2.rectangle(canvas, (x0, y0), (x1, y1), color, width)


def _dashed(canvas: Image, box: NDArray[np.floating], color: Color, line: int) -> None:
    """A dashed rectangle, light between the dashes."""
    (x0, y0, x1, y1), line = frame_of(box, line, canvas.shape[:2])
    dash = max(4, 4 * line)
    for (ax, ay), (bx, by) in (
        ((x0, y0), (x1, y0)), ((x0, y1), (x1, y1)), ((x0, y0), (x0, y1)), ((x1, y0), (x1, y1)),
    ):  # fmt: skip
        length = max(bx - ax, by - ay)
        for number, start in enumerate(range(0, length, dash)):
            stop = min(start + dash, length)
            horizontal = bx > ax
            first = (ax + start, ay) if horizontal else (ax, ay + start)
            last = (ax + stop, ay) if horizontal else (ax, ay + stop)
            cv2.line(canvas, first, last, LIGHT if number % 2 else color, line)


def _tag(
    canvas: Image, text: str, box: NDArray[np.floating], color: Color, size: int, taken: list[Tag],
    boxes: NDArray[np.floating],
) -> None:  # fmt: skip
    """Name and score on a plate of the class's colour, where it covers least of other names and of what is marked."""
    width, height = text_width(text, size, bold=True) + size // 2, round(1.35 * size)
    left, top = free_place(box, (height, width), canvas.shape[:2], taken, boxes)
    taken.append((left, top, left + width, top + height))
    cv2.rectangle(canvas, (left, top), (left + width - 1, top + height - 1), color, -1)
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    ink = DARK if bright > 140 else LIGHT
    draw_text(canvas, text, (left + size // 4, top + height // 2), size, ink, anchor="lm", bold=True)


def free_place(
    box: NDArray[np.floating],
    tag_hw: tuple[int, int],
    canvas_hw: tuple[int, int],
    taken: Sequence[Tag],
    boxes: NDArray[np.floating] = NO_BOXES,
) -> tuple[int, int]:
    """Left and top of a tag, whole inside the picture where it fits: of the places above the box, below it, beside it
    and inside it the one that covers the fewest pixels of other tags, then of ``boxes`` (N, 4); of equal ones the first."""
    gap = line_width(canvas_hw) + 3  # the frame lies outside of the box
    x0, y0, x1, y1 = (round(float(v)) for v in (box[0] - gap, box[1] - gap, box[2] + gap, box[3] + gap))
    height, width = tag_hw
    rows = [y0 - height, y1, y0, y1 - height, y0 - 2 * height, y1 + height, y0 + height, y1 - 2 * height]
    wishes = [(x, y) for y in rows[:2] for x in (x0, x1 - width)] + [(x1, y0), (x0 - width, y0)]
    wishes += [(x, y) for y in rows[2:] for x in (x0, x1 - width)] + [(x1, y1 - height), (x0 - width, y1 - height)]
    right, bottom = max(canvas_hw[1] - width, 0), max(canvas_hw[0] - height, 0)
    places = np.array([(min(max(x, 0), right), min(max(y, 0), bottom)) for x, y in wishes])
    tags = np.concatenate([places, places + np.array([width, height])], axis=1)
    moved = np.abs(places - np.array(wishes)).sum(1)  # into the picture: it may cover its own box then
    costs = np.stack([moved, _covered(tags, np.asarray(boxes, float)), _covered(tags, np.array(taken).reshape(-1, 4))])
    best = places[np.lexsort(costs)[0]]
    return int(best[0]), int(best[1])


def _covered(tags: NDArray[np.integer], boxes: NDArray[Any]) -> NDArray[np.float64]:
    """(T,) pixels of boxes (N, 4) that each of (T, 4) tags covers, counted once for every box."""
    low, high = np.maximum(tags[:, None, :2], boxes[None, :, :2]), np.minimum(tags[:, None, 2:], boxes[None, :, 2:])
    return np.clip(high - low, 0, None).prod(2).sum(1)
