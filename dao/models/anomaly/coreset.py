"""Greedy k-centre: the patches that, taken one by one, are each the farthest from all taken before (Roth et al. 2022).

What is chosen is exactly what the literal greedy chooses; distances that cannot matter are not computed. Every point
belongs to its nearest centre so far. A new centre at distance D from an old one cannot be nearer than the old one to
any of that one's points within D / 2 (triangle inequality), so whole groups are passed over by their farthest point,
and single points inside the others by their own distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SLACK = 1e-4  # of a bound: what rounding may take from a distance in float32


@dataclass(slots=True)
class Work:
    """How many distances a selection computed, and how many the literal greedy would have."""

    computed: int = 0
    literal: int = 0


def greedy_k_centre(points: NDArray[np.float32], count: int, first: int = 0) -> tuple[NDArray[np.int64], Work]:
    """(count,) places of the chosen points, in the order of choice; of equally far ones the lowest place is chosen.

    points: (N, d) float32; first: the place to start from; 1 <= count <= N.
    """
    return _Greedy(np.ascontiguousarray(points, np.float32), count).run(first)


def brute_force_k_centre(points: NDArray[np.float32], count: int, first: int = 0) -> NDArray[np.int64]:
    """The same, literally: every distance to every new centre. For tests, and to say what pruning must equal."""
    best = squared_distances(points, points[first])
    chosen = [first]
    while len(chosen) < count:
        new = int(np.argmax(best))
        chosen.append(new)
        np.minimum(best, squared_distances(points, points[new]), out=best)
    return np.array(chosen)


def squared_distances(points: NDArray[np.float32], centre: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) by differences, so that a distance is the same number whichever other points it is computed with."""
    gap = points - centre
    return np.einsum("nd,nd->n", gap, gap)


class _Greedy:
    """State of one selection.

    best: (N,) squared distance of every point to its nearest centre; owner: (N,) which centre that is.
    members: for each centre the places of its points; radius: their greatest distance; farthest: who has it.
    """

    def __init__(self, points: NDArray[np.float32], count: int) -> None:
        self.points, self.count = points, count
        self.members: list[NDArray[np.int64]] = []
        self.radius2 = np.zeros(count, np.float32)
        self.farthest = np.zeros(count, np.int64)
        self.centres = np.zeros((count, points.shape[1]), np.float32)
        self.chosen = np.zeros(count, np.int64)
        self.work = Work()

    def run(self, first: int) -> tuple[NDArray[np.int64], Work]:
        """All of it."""
        n = len(self.points)
        self.best = squared_distances(self.points, self.points[first])
        self.chosen[0], self.centres[0] = first, self.points[first]
        self.members.append(np.arange(n))
        self._measure(0)
        self.work.computed = self.work.literal = n
        for number in range(1, self.count):
            self._add(number, self._next(number))
            self.work.literal += n
        return self.chosen, self.work

    def _next(self, number: int) -> int:
        """The point farthest from all centres; the lowest place among equals, as argmax over all points has it."""
        radii = self.radius2[:number]
        ties = np.flatnonzero(radii == radii.max())
        return int(self.farthest[ties].min())

    def _measure(self, group: int) -> None:
        """Radius of a group and the lowest place that has it; an empty group has none."""
        own = self.members[group]
        if not len(own):
            self.radius2[group], self.farthest[group] = -1.0, len(self.points)
            return
        distances = self.best[own]
        self.radius2[group] = distances.max()
        self.farthest[group] = own[distances == self.radius2[group]].min()

    def _add(self, number: int, place: int) -> None:
        """A new centre: it takes over the points that it is nearer to."""
        centre = self.points[place]
        self.chosen[number], self.centres[number] = place, centre
        to_old = squared_distances(self.centres[:number], centre)
        self.work.computed += number
        reach = to_old * np.float32(0.25 * (1 - SLACK))  # (D / 2)^2: nearer points stay where they are
        taken = []
        for group in np.flatnonzero(self.radius2[:number] > reach):
            own = self.members[group]
            in_doubt = self.best[own] > reach[group]
            candidates = own[in_doubt]
            new = squared_distances(self.points[candidates], centre)
            self.work.computed += len(candidates)
            nearer = new < self.best[candidates]
            moving = candidates[nearer]
            if not len(moving):
                continue
            self.best[moving] = new[nearer]
            taken.append(moving)
            stay = np.ones(len(own), bool)
            stay[np.flatnonzero(in_doubt)[nearer]] = False
            self.members[group] = own[stay]
            self._measure(group)
        self.members.append(np.concatenate(taken) if taken else np.zeros(0, np.int64))
        self._measure(number)
