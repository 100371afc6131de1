"""What the materials share: the scene, how the part lies under the camera, and a few brushes.

All lengths are in units of 1/128 of the picture's width, so that a set of any size shows the same parts.
Scenes are painted at twice the picture's size (`OVERSAMPLE`) and shrunk at the end, which smooths every edge.
Pictures are (S, S, 3) float32, RGB, 0..1; coverages are (S, S) float32, 0 untouched to 1 covered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

OVERSAMPLE = 2
FIELD = 128.0  # the picture's width in units
Picture: TypeAlias = NDArray[np.float32]
Plane: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class View:
    """How the part lies under the camera, and from where it is lit.

    side: S, pixels of the painted scene; angle: radians; shift: units; zoom: 1 is nominal.
    light: unit vector in the picture's plane (x right, y down) that points TO the lamp.
    """

    side: int
    angle: float
    shift: tuple[float, float]
    zoom: float
    light: tuple[float, float]

    @property
    def pixels_per_unit(self) -> float:
        """Pixels of the painted scene to one unit, before zoom."""
        return self.side / FIELD

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 3): from the part's own units (origin in its middle) to the scene's pixels."""
        scale = self.pixels_per_unit * self.zoom
        c, s = scale * np.cos(self.angle), scale * np.sin(self.angle)
        middle = self.side / 2 - 0.5
        x, y = (middle + t * self.pixels_per_unit for t in self.shift)
        return np.array([[c, -s, x], [s, c, y]])

    def to_pixels(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the part lies in the scene."""
        px, py = self.matrix @ (x, y, 1.0)
        return float(px), float(py)

    def grid(self) -> tuple[Plane, Plane]:
        """The part's own coordinates (units) under every pixel: two planes (S, S)."""
        (a, b, c), (d, e, f) = cv2.invertAffineTransform(self.matrix)
        x, y = np.meshgrid(np.arange(self.side), np.arange(self.side), sparse=True)
        return (a * x + b * y + c).astype(np.float32), (d * x + e * y + f).astype(np.float32)


@dataclass(slots=True)
class Scene:
    """One part of one material, before defects and camera.

    clean: the good part; occupied: where its components sit (defects keep off them).
    bare, removed: the same without one component, and that component's footprint; only when one was asked away.
    """

    clean: Picture
    occupied: Plane
    bare: Picture | None = None
    removed: Plane | None = None


Painter: TypeAlias = Callable[[Picture], Plane]
"""Paints one component into the picture, in place, and returns its footprint."""


def random_view(rng: np.random.Generator, side: int) -> View:
    """A part laid down by a good fixture: within 2 degrees and 2.5 units, lit from the upper left."""
    lamp = np.deg2rad(rng.uniform(205, 245))
    return View(
        side=side,
        angle=float(np.deg2rad(rng.uniform(-2, 2))),
        shift=(float(rng.uniform(-2.5, 2.5)), float(rng.uniform(-2.5, 2.5))),
        zoom=float(rng.uniform(0.985, 1.015)),
        light=(float(np.cos(lamp)), float(np.sin(lamp))),
    )


def assemble(ground: Picture, parts: Sequence[Painter], seats: Sequence[Painter], missing: int | None) -> Scene:
    """Put every part on the ground; where ``missing`` names one, also the picture that shows its empty seat."""
    clean = ground.copy()
    footprints = [paint(clean) for paint in parts]
    scene = Scene(clean, np.max(footprints, axis=0))
    if missing is not None:
        bare = ground.copy()
        for i, paint in enumerate(parts):
            (seats[i] if i == missing else paint)(bare)
        scene.bare, scene.removed = bare, footprints[missing]
    return scene


def blend(image: Picture, colour: Picture | Sequence[float] | float, alpha: Plane) -> None:
    """Lay a colour (one, three, or a picture) over the image, in place."""
    weight = alpha[..., None]
    image *= 1 - weight
    image += weight * np.asarray(colour, np.float32)


def smoothstep(low: float, high: float, value: Plane) -> Plane:
    """0 below ``low``, 1 above ``high``, smooth between (low > high falls instead of rising)."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True, slots=True)
class Disc:
    """The surroundings of a round component, in its own measure: r is 1 at its edge.

    window: where they lie in the scene; dx, dy, r: offsets from its middle along the picture's axes, and their length.
    pixels: length of r = 1; side: S.
    """

    window: tuple[slice, slice]
    dx: Plane
    dy: Plane
    r: Plane
    pixels: float
    side: int

    def inside(self, distance: Plane, edge: float) -> Plane:
        """Coverage of distance < edge, with an edge one pixel soft."""
        return np.clip((edge - distance) * np.float32(self.pixels) + 0.5, 0, 1)

    def spread(self, coverage: Plane) -> Plane:
        """The window's coverage as a plane of the whole scene."""
        plane = np.zeros((self.side, self.side), np.float32)
        plane[self.window] = coverage
        return plane


def disc_at(view: View, x: float, y: float, radius: float) -> Disc:
    """The surroundings (to 1.4 radii) of a round component of ``radius`` units at a point of the part."""
    px, py = view.to_pixels(x, y)
    pixels = radius * view.pixels_per_unit
    columns, rows = (slice(max(0, int(p - 1.4 * pixels)), max(0, int(p + 1.4 * pixels) + 2)) for p in (px, py))
    axis = np.arange(view.side, dtype=np.float32)
    dx, dy = np.broadcast_arrays((axis[None, columns] - px) / pixels, (axis[rows, None] - py) / pixels)
    dx, dy = dx.astype(np.float32), dy.astype(np.float32)
    return Disc((rows, columns), dx, dy, np.hypot(dx, dy), pixels, view.side)


def drop_shadow(patch: Picture, disc: Disc, light: tuple[float, float], depth: float = 0.45) -> None:
    """The soft shadow that a raised disc throws away from the lamp; ``patch`` is the image in the disc's window."""
    r = np.hypot(disc.dx + 0.16 * light[0], disc.dy + 0.16 * light[1])
    patch *= (1 - depth * smoothstep(1.14, 0.9, r))[..., None]


def cloud(rng: np.random.Generator, side: int, cells: int) -> Plane:
    """(S, S) smooth noise, about -1..1, with ``cells`` bumps to a side."""
    coarse = rng.uniform(-1, 1, (cells + 3, cells + 3)).astype(np.float32)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
