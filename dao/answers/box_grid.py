"""Which boxes of a long list may touch, found by a grid of cells: the cost is that of the boxes and their neighbours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

MOST_PAIRS = 1 << 17  # looked at in one go, unless one box alone has more
CELLS_A_BOX = 16  # that boxes lie in, at most, in the mean

Index = NDArray[np.int64]


class BoxGrid:
    """Boxes filed under every cell of a grid that they reach into, each label by itself.

    xyxy: (N, 4); labels: (N,). All boxes of one label that touch or are equal share a cell.
    """

    def __init__(self, xyxy: NDArray[np.floating], labels: Index) -> None:
        low, spans = _cells(np.asarray(xyxy, np.float64))
        counts = spans.prod(axis=1)
        box = np.repeat(np.arange(len(counts)), counts)
        number = ranges(counts)
        cell = low[box] + np.stack([number % spans[box, 0], number // spans[box, 0]], axis=1)
        columns, rows = (low + spans).max(axis=0, initial=1)
        label = np.unique(labels, return_inverse=True)[1]
        key = (label[box] * rows + cell[:, 1]) * columns + cell[:, 0]
        order = np.argsort(key, kind="stable")
        self._box, key = box[order], key[order]  # by cell, and within a cell in the order of the list
        # two boxes meet first in the cell whose column is the first one of either, and whose row is
        self._corner = ((cell == low[box]) * np.array([1, 2])).sum(axis=1).astype(np.uint8)[order]
        self._end = np.searchsorted(key, key, side="right")  # of the cell
        self._place = np.empty_like(order)  # of each box's entries among these
        self._place[order] = np.arange(len(order))
        self._first = np.concatenate([[0], np.cumsum(counts)])  # of each box's entries

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The list in stretches [start, stop) of so many boxes that their pairs fit into memory."""
        later = np.concatenate([[0], np.cumsum(self._end[self._place] - self._place - 1)])[self._first]
        start, count = 0, len(self._first) - 1
        while start < count:
            stop = int(np.searchsorted(later, later[start] + MOST_PAIRS, side="right")) - 1
            stop = min(max(stop, start + 1), count)
            yield start, stop
            start = stop

    def pairs(self, start: int, stop: int, alive: NDArray[np.bool_] | None = None) -> tuple[Index, Index]:
        """Each box of a stretch with every later box of the list that shares a cell; rising in the first.

        alive: (N,), boxes that are still to be looked at.
        """
        entry = self._place[self._first[start] : self._first[stop]]
        if alive is not None:
            entry = entry[alive[self._box[entry]]]
        counts = self._end[entry] - entry - 1
        one, other = np.repeat(entry, counts), np.repeat(entry + 1, counts) + ranges(counts)
        once = (self._corner[one] | self._corner[other]) == 3
        if alive is not None:
            once &= alive[self._box[other]]
        return self._box[one[once]], self._box[other[once]]


def ranges(counts: Index) -> Index:
    """0, 1, ... for each of ``counts``, one after the other: [2, 3] -> [0, 1, 0, 1, 2]."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _cells(xyxy: NDArray[np.float64]) -> tuple[Index, Index]:
    """(N, 2) column and row of each box's first cell, and (N, 2) how many columns and rows it reaches into.

    Cells are as large as a usual box; larger where some boxes would lie in very many.
    """
    if not len(xyxy):
        return np.zeros((0, 2), np.int64), np.ones((0, 2), np.int64)
    near, far = xyxy[:, :2], np.maximum(xyxy[:, 2:], xyxy[:, :2])
    corner, side = near.min(axis=0), max(1.0, float((far - near).mean()))
    while True:
        low = np.floor((near - corner) / side).astype(np.int64)
        spans = np.floor((far - corner) / side).astype(np.int64) - low + 1
        if spans.prod(axis=1).sum() <= CELLS_A_BOX * len(xyxy):
            return low, spans
        side *= 2
