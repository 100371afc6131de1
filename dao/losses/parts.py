"""A batch that comes in parts: on several processes, and in the iterations of an accumulation window.

What a loss divides by, and what it sums up before it divides, is that of all parts. Those on other processes are there at
the same time; those of a window are not, so it is gone through twice: measured, then learnt from (`Window`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from dao.processes import dist


class Window:
    """What the losses of a window's iterations have asked for, in the order they asked: one list an iteration."""

    def __init__(self) -> None:
        self.asked: list[list[Tensor]] = []
        self.part: int | None = None  # that is learnt from; None while measured
        self.place = 0

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """One more iteration: its losses are its own, and what they ask for is written down."""
        self.asked.append([])
        self.part = None
        with _inside(self):
            yield

    @contextmanager
    def learning(self, part: int) -> Iterator[None]:
        """Iteration ``part`` once more: its losses are its part in those of the whole window."""
        self.part, self.place = part, 0
        with _inside(self):
            yield

    @property
    def parts(self) -> int:
        """Of how many iterations a loss is a part; 1 while they are measured."""
        return 1 if self.part is None else len(self.asked)

    def mean(self, value: Tensor) -> Tensor:
        if self.part is None:
            self.asked[-1].append(dist.mean_of_processes(value).detach())
            return self.asked[-1][-1]
        place = self._next()
        return torch.stack([asked[place] for asked in self.asked]).mean(0)

    def sum(self, value: Tensor) -> Tensor:
        here = dist.sum_with_gradient(value)
        if self.part is None:
            self.asked[-1].append(here.detach())
            return here
        place = self._next()
        others = sum(asked[place] for part, asked in enumerate(self.asked) if part != self.part)
        # the update takes the mean of the iterations' gradients, and this loss is the whole window's in each of them
        return others + here.detach() + len(self.asked) * (here - here.detach())

    def _next(self) -> int:
        self.place += 1
        return self.place - 1


_window: Window | None = None


@contextmanager
def _inside(window: Window) -> Iterator[None]:
    global _window
    _window = window
    try:
        yield
    finally:
        _window = None


def count() -> int:
    """How many parts there are: the gradient that is taken is the mean of theirs."""
    return dist.world_size() * (_window.parts if _window else 1)


def alone() -> bool:
    """Whether there is nobody to ask."""
    return dist.world_size() == 1 and _window is None


def mean(value: Tensor) -> Tensor:
    """Mean of a tensor over all parts, without gradient."""
    return _window.mean(value) if _window else dist.mean_of_processes(value)


def sum_with_gradient(value: Tensor) -> Tensor:
    """Sum of a tensor over all parts, to be differentiated."""
    return _window.sum(value) if _window else dist.sum_with_gradient(value)
