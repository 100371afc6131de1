"""Transforms of ours that change a whole Sample: those that need other pictures, and those that albumentations is slow at.

They stand in a config's ``transforms`` like any other. Each is a function of the random numbers it is given, and these
come from (seed, epoch, index); the other pictures that it draws are drawn from them as well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dao.dataloaders.box_geometry import MIN_VISIBLE
from dao.errors import ConfigError, Problem
from dao.structures import Sample

Draw = Callable[[int, np.random.Generator], list[Sample]]


def _no_others(count: int, rng: np.random.Generator) -> list[Sample]:
    raise ConfigError(Problem("transforms", "this transform needs other pictures, and here there are none to draw"))


@dataclass(frozen=True, slots=True)
class Around:
    """What a transform may ask for beyond the picture it changes.

    size_hw: the model's input in pixels; pad_value: grey level of borders.
    min_visible: share of a box's area that a cut must leave for the box to stay.
    draw: ``draw(count, rng)`` gives other pictures of the whole set, as they are before any transform.
    """

    size_hw: tuple[int, int]
    pad_value: int = 114
    draw: Draw = _no_others
    min_visible: float = MIN_VISIBLE


class SampleTransform(ABC):
    """A change of a Sample with its boxes, made with probability ``p``.

    needs_others: how many other pictures it draws; prepares: whether it stays on when augmentation is closed;
    needs_original: whether it must see pictures in their own resolution, so that nothing is resized before it; moves:
    whether it moves, cuts or covers pixels, which an evaluation refuses.
    """

    moves: ClassVar[bool] = True
    needs_others: ClassVar[int] = 0
    prepares: ClassVar[bool] = False
    needs_original: ClassVar[bool] = False

    def __init__(self, p: float = 1.0) -> None:
        self.p = p

    def __call__(self, sample: Sample, around: Around, rng: np.random.Generator) -> Sample:
        """The changed Sample, or the given one itself; the one given is left as it is."""
        return self.apply(sample, around, rng) if rng.random() < self.p else sample

    @abstractmethod
    def apply(self, sample: Sample, around: Around, rng: np.random.Generator) -> Sample:
        """The change itself."""

    @classmethod
    def check_config(cls, kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Values out of range; a subclass adds its own."""
        p = kwargs.get("p", 1.0)
        return [] if 0 <= p <= 1 else [Problem(f"{where}.p", f"is a probability, 0 to 1; got {p:g}")]


def range_problems(kwargs: Mapping[str, Any], where: str, name: str, least: float) -> list[Problem]:
    """Whether ``kwargs[name]``, where given, is [low, high] with ``least`` < low <= high."""
    if name not in kwargs:
        return []
    low, high = kwargs[name]
    if least < low <= high:
        return []
    return [Problem(f"{where}.{name}", f"expected [low, high] with {least:g} < low <= high, got [{low:g}, {high:g}]")]
