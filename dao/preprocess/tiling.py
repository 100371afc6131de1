"""Pictures larger than a model's input: cut into overlapping windows, and the answers put together again.

Memory is bounded by the picture's own pixels and one band of windows across it, whatever its height.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a picture: its corner and its size in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """The first column right of it."""
        return self.left + self.width

    def of(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The window's pixels, a view."""
        return image[self.top : self.bottom, self.left : self.right]


def starts(length: int, tile: int, overlap: float) -> list[int]:
    """Where windows of ``tile`` pixels begin along a side of ``length``: as few as overlap by at least ``overlap`` of
    a window, spread evenly, the last one ending with the side."""
    if length <= tile:
        return [0]
    step = max(1, int(tile * (1 - overlap)))
    count = -(-(length - tile) // step) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def windows(hw: tuple[int, int], tile_hw: tuple[int, int], overlap: float) -> list[Window]:
    """Windows that cover a picture of ``hw`` pixels, row by row.

    tile_hw: size of a window; smaller only where the picture is. overlap: least share that neighbours have in common,
    0 <= overlap < 1.
    """
    height, width = min(hw[0], tile_hw[0]), min(hw[1], tile_hw[1])
    return [
        Window(top, left, height, width)
        for top in starts(hw[0], tile_hw[0], overlap)
        for left in starts(hw[1], tile_hw[1], overlap)
    ]


def ramp(hw: tuple[int, int]) -> NDArray[np.float32]:
    """(h, w) weights of a window's pixels, highest in the middle: near its borders a model sees little around a pixel.

    A pyramid, not a bell: it never falls to zero, so that a pixel seen by one window alone keeps its answer.
    """

    def side(length: int) -> NDArray[np.float32]:
        inward = np.minimum(np.arange(length), np.arange(length)[::-1]) + 1
        return (inward / inward.max()).astype(np.float32)

    return side(hw[0])[:, None] * side(hw[1])[None, :]


@dataclass(frozen=True, slots=True)
class Band:
    """Finished rows of a blended map: values (C, rows, W) from row ``top`` on."""

    top: int
    values: NDArray[np.float32]


def blend(answers: Iterable[tuple[Window, NDArray[np.float32]]], width: int) -> Iterator[Band]:
    """Maps of windows, weighted by `ramp`, as one map of the picture, given out band by band from its top.

    answers: windows in the order of `windows` with their maps (C, h, w). Only rows that later windows may still reach
    are held.
    """
    values: NDArray[np.float32] | None = None
    weights = np.zeros((0, width), np.float32)
    start = 0  # the picture row of the first row held
    for window, answer in answers:
        if values is None:
            values = np.zeros((len(answer), 0, width), np.float32)
        if window.top > start:  # windows come row by row: nothing above this one is touched again
            done = window.top - start
            yield Band(start, values[:, :done] / weights[:done])
            values, weights, start = values[:, done:], weights[done:], window.top
        missing = window.bottom - start - len(weights)
        if missing > 0:
            values = np.concatenate([values, np.zeros((len(values), missing, width), np.float32)], axis=1)
            weights = np.concatenate([weights, np.zeros((missing, width), np.float32)])
        weight = ramp((window.height, window.width))
        rows, columns = slice(window.top - start, window.bottom - start), slice(window.left, window.right)
        values[:, rows, columns] += answer * weight
        weights[rows, columns] += weight
    if values is not None:
        yield Band(start, values / weights)


def batches(items: Sequence[Window], size: int) -> Iterator[Sequence[Window]]:
    """Windows in groups of at most ``size``, in order."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
