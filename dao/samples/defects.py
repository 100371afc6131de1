"""The five defects. Each paints itself into the scene, in place, and returns what it covers.

A defect changes no pixel where its coverage is 0; the mask of a sample is where the coverage is high.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np

from dao.samples.scene import Picture, Plane, View, blend, cloud, smoothstep

Material: TypeAlias = Literal["metal", "fabric", "board"]


@dataclass(frozen=True, slots=True)
class Spot:
    """Where and on what a defect is painted: centre in scene pixels."""

    view: View
    material: Material
    x: float
    y: float

    def offsets(self) -> tuple[Plane, Plane]:
        """Distance of every pixel from the centre along x (1, S) and y (S, 1), in units."""
        axis = np.arange(self.view.side, dtype=np.float32)
        scale = np.float32(1 / self.view.pixels_per_unit)
        return (axis[None, :] - np.float32(self.x)) * scale, (axis[:, None] - np.float32(self.y)) * scale


# per material two liquids: the dye that multiplies the ground, the colour of what lies on it
_STAINS: dict[str, tuple[tuple[tuple[float, float, float], tuple[float, float, float]], ...]] = {
    "metal": (((0.66, 0.38, 0.18), (0.4, 0.2, 0.06)), ((0.52, 0.38, 0.22), (0.3, 0.2, 0.1))),  # rust, burnt oil
    "fabric": (((0.42, 0.28, 0.17), (0.25, 0.14, 0.06)), ((0.46, 0.38, 0.18), (0.3, 0.2, 0.05))),  # coffee, oil
    "board": (((0.9, 0.62, 0.3), (0.72, 0.5, 0.16)), ((0.62, 0.4, 0.26), (0.4, 0.24, 0.1))),  # rosin, scorched
}


def _lumpy_radius(dx: Plane, dy: Plane, rng: np.random.Generator, lumps: float) -> Plane:
    """Distance from the centre as seen by an outline that is not quite round (harmonics 2 to 5)."""
    angle = np.arctan2(dy, dx)
    wobble = np.ones_like(angle)
    for harmonic in range(2, 6):
        wobble += np.float32(lumps * rng.normal() / harmonic) * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi))
    return np.hypot(dx, dy) / np.clip(wobble, 0.6, 1.5)


def dent(image: Picture, spot: Spot, rng: np.random.Generator) -> Plane:
    """A pressed hollow: the wall by the lamp lies in shadow, the far wall catches the light."""
    dx, dy = spot.offsets()
    turn, long = rng.uniform(0, np.pi), rng.uniform(1.0, 1.35)
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    r = _lumpy_radius((c * dx + s * dy) / long, (c * dy - s * dx) * long**0.5, rng, 0.06) / rng.uniform(10.0, 14.0)
    height = (smoothstep(0.3, 1.0, r) - 1).astype(np.float32)
    slope_x, slope_y = cv2.Sobel(height, -1, 1, 0, ksize=3), cv2.Sobel(height, -1, 0, 1, ksize=3)
    lx, ly = spot.view.light
    lit = -(slope_x * lx + slope_y * ly)
    lit *= np.float32(1 / max(1e-6, float(np.abs(lit).max())))
    strength = rng.uniform(0.58, 0.72)
    image *= (1 + strength * lit * np.where(lit > 0, 0.9, 1.15) + 0.1 * height)[..., None]
    image += (0.4 * strength * np.clip(lit, 0, 1) ** 2)[..., None]
    covered = smoothstep(1.0, 0.8, r)
    return np.where(height < 0, covered, 0).astype(np.float32)


def stain(image: Picture, spot: Spot, rng: np.random.Generator) -> Plane:
    """Dried liquid, soft-edged and darker along its rim: it dyes metal and cloth, and lies on a board as residue."""
    dx, dy = spot.offsets()
    r = _lumpy_radius(dx, dy, rng, 0.2) / rng.uniform(10.0, 14.0)
    r = r + 0.1 * cloud(rng, spot.view.side, 16)
    body = smoothstep(1.1, 0.78, r)
    rim = np.exp(-(((r - 0.84) / 0.11) ** 2))
    amount = body * np.clip(rng.uniform(0.7, 0.85) + 0.2 * rim + 0.18 * cloud(rng, spot.view.side, 12), 0, 1)
    dye, residue = _STAINS[spot.material][int(rng.integers(2))]
    image *= 1 - amount[..., None] * (1 - np.array(dye, np.float32))
    blend(image, residue, (0.72 if spot.material == "board" else 0.12) * amount)
    return smoothstep(1.04, 0.9, r)


def hole(image: Picture, spot: Spot, rng: np.random.Generator) -> Plane:
    """A hole clean through: dark, with a torn or raised rim that is bright on the side away from the lamp."""
    dx, dy = spot.offsets()
    radius = rng.uniform(5.5, 8.5)
    r = _lumpy_radius(dx, dy, rng, 0.12 if spot.material == "fabric" else 0.06) / radius
    towards = (dx * spot.view.light[0] + dy * spot.view.light[1]) / np.maximum(np.hypot(dx, dy), 0.3)
    rim_colour = {"metal": (0.62, 0.62, 0.62), "fabric": (0.62, 0.58, 0.52), "board": (0.62, 0.54, 0.36)}
    outer = 1.0 + 1.7 / radius
    rim = np.clip((outer - r) * radius * spot.view.pixels_per_unit + 0.5, 0, 1)
    fray = 0.5 * cloud(rng, spot.view.side, 40) if spot.material == "fabric" else np.float32(0)
    shade = np.clip(1 - 0.42 * towards + fray, 0.35, 1.6)
    blend(image, shade[..., None] * np.array(rim_colour[spot.material], np.float32), rim)
    inner = np.clip((1 - r) * radius * spot.view.pixels_per_unit + 0.5, 0, 1)
    depth = 0.035 + 0.07 * smoothstep(0.3, 1.0, r) * np.clip(-towards, 0, 1)  # the far wall still gets some light
    blend(image, depth[..., None] * np.array([1.0, 0.97, 0.92], np.float32), inner)
    return rim


def scratch(image: Picture, spot: Spot, rng: np.random.Generator) -> Plane:
    """A thin curved groove: its floor bright and bare, one lip in shadow."""
    k = spot.view.pixels_per_unit
    path = _stroke(rng, rng.uniform(38, 62)) * k + (spot.x, spot.y)
    radii = rng.uniform(1.0, 1.35) * k * _pressure(rng, len(path))
    core = _brush(path, radii, spot.view.side)
    lip = _brush(path - 0.9 * radii[:, None] * spot.view.light, 0.9 * radii, spot.view.side)
    colour = {"metal": (0.97, 0.97, 0.98), "fabric": (0.93, 0.91, 0.86), "board": (0.98, 0.84, 0.62)}[spot.material]
    blend(image, 0.08, 0.62 * lip * (1 - core))
    blend(image, colour, core * np.float32(rng.uniform(0.86, 0.96)))
    return np.maximum(core, lip)


def _stroke(rng: np.random.Generator, length: float) -> np.ndarray:
    """(N, 2) points of a slowly turning line about the origin, in units, a point each half unit."""
    count = max(8, round(2 * length))
    bend = rng.uniform(-0.8, 0.8)
    heading = rng.uniform(0, 2 * np.pi) + bend * np.linspace(-0.5, 0.5, count) + 0.035 * rng.normal(size=count).cumsum()
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length / count)
    points = steps.cumsum(axis=0)
    return points - (points.min(axis=0) + points.max(axis=0)) / 2


def _pressure(rng: np.random.Generator, count: int) -> np.ndarray:
    """(N,) how hard the tool pressed, about 1: sets in quickly, wavers, lets go slowly."""
    along = np.linspace(0, 1, count)
    ends = np.clip(along / 0.08, 0.35, 1) * np.clip((1 - along) / 0.3, 0.35, 1)
    waver = np.interp(along, np.linspace(0, 1, 9), rng.uniform(0.75, 1.25, 9))
    return ends * waver


def _brush(path: np.ndarray, radii: np.ndarray, side: int) -> Plane:
    """Coverage of a stroke along ``path``, (N, 2) pixels, with a radius (pixels) at every point."""
    sheet = np.zeros((side, side), np.uint8)
    for (x, y), r in zip(np.rint(path * 16).astype(int).tolist(), np.rint(radii * 16).astype(int).tolist()):
        cv2.circle(sheet, (x, y), r, 255, -1, cv2.LINE_AA, 4)
    return sheet.astype(np.float32) / 255


DEFECTS: dict[str, Callable[[Picture, Spot, np.random.Generator], Plane]] = {
    "scratch": scratch,
    "dent": dent,
    "stain": stain,
    "hole": hole,
}
