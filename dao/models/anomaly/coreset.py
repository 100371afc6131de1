"""Greedy k-centre: the patches that, taken one by one, are each the farthest from all taken before (Roth et al. 2022).

What is chosen is exactly what the literal greedy chooses. Two things make it fast:

- A point's distance to its nearest centre only ever falls, so an old value of it is an upper bound. Only points whose
  bound reaches the front are brought up to date ("lazy greedy", Minoux 1978): the few highest make up a pool, and as
  long as the pool's farthest point lies above every bound outside, it is the farthest of all. Most pairs of a point and
  a late centre are never looked at.
- Those that are, come many at once, as a matrix product. Its rounding is bounded, and where it could decide anything,
  the distance is computed again by differences, by the same arithmetic as the literal greedy's.

Memory beside the points: a few numbers a point, and one block of products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
POOL = 2048  # points that compete at a time
BLOCK = 256  # of them that are brought up to date together
ROWS = 8192  # of them that are passed through at once
UNIT = 2.0**-24  # rounding of one operation in float32


@dataclass(slots=True)
class Work:
    """Pairs of a point and a centre: looked at as products, computed by differences, and what the literal greedy takes."""

    products: int = 0
    differences: int = 0
    literal: int = 0


def greedy_k_centre(points: Floats, count: int, first: int = 0) -> tuple[NDArray[np.int64], Work]:
    """(count,) places of the chosen points, in the order of choice; of equally far ones the lowest place is chosen.

    points: (N, d) float32; first: the place to start from; 1 <= count <= N.
    """
    return _LazyGreedy(np.ascontiguousarray(points, np.float32), count, first).run()


def brute_force_k_centre(points: Floats, count: int, first: int = 0) -> NDArray[np.int64]:
    """The same, literally: every distance to every new centre. For tests, and to say what the fast one must equal."""
    best = squared_distances(points, points[first])
    chosen = [first]
    while len(chosen) < count:
        new = int(best.argmax())
        chosen.append(new)
        np.minimum(best, squared_distances(points, points[new]), out=best)
    return np.array(chosen)


def squared_distances(points: Floats, centre: Floats) -> Floats:
    """(N,) by differences, so that a distance is the same number whichever other points it is computed with."""
    out = np.empty(len(points), np.float32)
    for start in range(0, len(points), ROWS):  # all differences at once would be as large as the points
        gap = points[start : start + ROWS] - centre
        out[start : start + ROWS] = np.einsum("nd,nd->n", gap, gap)
    return out


class _LazyGreedy:
    """State of one selection.

    best: (N,) squared distance of every point to the nearest of the first ``age`` centres; chosen: places so far.
    middle: subtracted before products are taken, so that lengths, and with them rounding, stay small.
    """

    def __init__(self, points: Floats, count: int, first: int) -> None:
        self.points, self.count = points, count
        self.middle = points.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.squares = np.empty(len(points), np.float32)
        for start in range(0, len(points), ROWS):
            part = points[start : start + ROWS] - self.middle
            self.squares[start : start + ROWS] = np.einsum("nd,nd->n", part, part)
        # what |x|^2 + |c|^2 - 2 x.c may be off by, at worst: 2 d roundings of the product, of the greatest squared length
        self.rounding = np.float32((2 * points.shape[1] + 8) * UNIT * float(self.squares.max()))
        self.best = squared_distances(points, points[first])
        self.age = np.ones(len(points), np.int64)
        self.chosen = np.zeros(count, np.int64)
        self.chosen[0], self.number = first, 1
        self.centres = np.zeros((count, points.shape[1]), np.float32)  # with the middle taken off
        self.centres[0] = points[first] - self.middle
        self.work = Work(0, len(points), len(points) * count)

    def run(self) -> tuple[NDArray[np.int64], Work]:
        """All of it."""
        while self.number < self.count:
            size = min(POOL, len(self.points))
            pool = np.sort(np.argpartition(self.best, len(self.points) - size)[-size:])
            self._update(pool)
            outside = self.best.copy()
            outside[pool] = -1
            before = self.number
            self._compete(pool, float(outside.max()))
            if self.number == before:
                self._add(self._farthest())
        return self.chosen, self.work

    def _add(self, place: int) -> None:
        """A new centre."""
        self.chosen[self.number] = place
        self.centres[self.number] = self.points[place] - self.middle
        self.number += 1

    def _compete(self, pool: NDArray[np.int64], outside: float) -> None:
        """Choose from the pool, which is up to date and in order of place, while its farthest is the farthest of all."""
        own, best = self.points[pool], self.best[pool]
        centred, squares = own - self.middle, self.squares[pool]
        while self.number < self.count:
            winner = int(best.argmax())
            if best[winner] <= outside:
                break
            self._add(int(pool[winner]))
            products = squares + (squares[winner] - 2 * (centred @ centred[winner]))
            near = np.flatnonzero(products < best + self.rounding)
            best[near] = np.minimum(best[near], squared_distances(own[near], own[winner]))
            self.work.products += len(pool)
            self.work.differences += len(near)
        self.best[pool], self.age[pool] = best, self.number

    def _farthest(self) -> int:
        """The farthest point of all, the lowest place among equals, however many there are."""
        while True:
            top = np.flatnonzero(self.best == self.best.max())
            late = top[self.age[top] < self.number]
            if not len(late):
                return int(top[0])
            self._update(late)

    def _update(self, places: NDArray[np.int64]) -> None:
        """Bring points up to date with all centres, those of about the same age together."""
        late = places[self.age[places] < self.number]
        late = late[np.argsort(self.age[late], kind="stable")]
        for start in range(0, len(late), BLOCK):
            self._update_block(late[start : start + BLOCK])
        self.age[late] = self.number

    def _update_block(self, places: NDArray[np.int64]) -> None:
        oldest = int(self.age[places].min())
        centres = self.centres[oldest : self.number]
        own = self.points[places]
        lengths = self.squares[self.chosen[oldest : self.number]]
        products = (own - self.middle) @ centres.T
        products *= -2
        products += lengths
        products += self.squares[places][:, None]
        limit = np.minimum(products.min(axis=1) + self.rounding, self.best[places]) + self.rounding
        row, column = np.nonzero(products <= limit[:, None])
        gap = own[row] - self.points[self.chosen[oldest + column]]
        np.minimum.at(self.best, places[row], np.einsum("nd,nd->n", gap, gap))
        self.work.products += products.size
        self.work.differences += len(row)
