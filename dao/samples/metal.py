"""Brushed metal: a plate held by four rivets."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from dao.samples.scene import Painter, Picture, Plane, Scene, View, assemble, blend, disc_at, drop_shadow, smoothstep

RIVETS = ((-44.0, -44.0), (44.0, -44.0), (-44.0, 44.0), (44.0, 44.0))
RIVET_RADIUS = 8.0
PARTS = len(RIVETS)


def metal(view: View, rng: np.random.Generator, lot: np.random.Generator, missing: int | None) -> Scene:
    """A plate; tint and grain belong to the lot, the grain's course to the single plate."""
    ground = _plate(view, rng, lot)
    parts: list[Painter] = [partial(_rivet, view=view, x=x, y=y) for x, y in RIVETS]
    seats: list[Painter] = [partial(_countersink, view=view, x=x, y=y) for x, y in RIVETS]
    return assemble(ground, parts, seats, missing)


def _plate(view: View, rng: np.random.Generator, lot: np.random.Generator) -> Picture:
    tint = np.array([1.0, 1.0, 1.0]) + lot.uniform(-0.025, 0.025) * np.array([1.0, 0.2, -1.2])
    level, contrast = lot.uniform(0.52, 0.6), lot.uniform(0.8, 1.2)
    grain = _brushing(rng, view.side) * np.float32(0.045 * contrast)
    u, _ = view.grid()
    # light on brushed metal spreads across the brushing, so the highlight is an upright band
    band = 0.17 * np.exp(-(((u - rng.uniform(-25, 25)) / rng.uniform(32, 45)) ** 2))
    plane = (level + grain) * (0.92 + band)
    return plane[..., None] * tint.astype(np.float32)


def _brushing(rng: np.random.Generator, side: int) -> Plane:
    """(S, S) streaks of mean 0 and deviation about 1: fine long ones over broad faint bands."""
    total = np.zeros((side, side), np.float32)
    for rows, columns, weight in ((side, 4, 0.6), (side, 16, 0.6), (side // 2, 6, 0.5), (side // 12, 3, 0.35)):
        noise = rng.standard_normal((rows, columns), dtype=np.float32)
        total += np.float32(weight) * cv2.resize(noise, (side, side), interpolation=cv2.INTER_LINEAR)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), float(rng.uniform(-2, 2)), 1.03)
    return cv2.warpAffine(total, turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _rivet(image: Picture, view: View, x: float, y: float) -> Plane:
    disc = disc_at(view, x, y, RIVET_RADIUS)
    patch = image[disc.window]
    drop_shadow(patch, disc, view.light)
    (lx, ly), r = view.light, disc.r
    towards = disc.dx * lx + disc.dy * ly
    gleam = np.exp(-((disc.dx - 0.34 * lx) ** 2 + (disc.dy - 0.34 * ly) ** 2) / 0.07)
    shade = 0.5 + 0.26 * towards * np.clip(r, 0, 1) - 0.18 * smoothstep(0.82, 1.0, r) + 0.42 * gleam
    footprint = disc.inside(r, 1.0)
    blend(patch, shade[..., None] * np.array([1.0, 0.985, 0.96], np.float32), footprint)
    return disc.spread(footprint)


def _countersink(image: Picture, view: View, x: float, y: float) -> Plane:
    """The seat a lost rivet leaves: a bright cone, lit on the side away from the lamp, round a pilot hole."""
    disc = disc_at(view, x, y, RIVET_RADIUS)
    patch = image[disc.window]
    away = -(disc.dx * view.light[0] + disc.dy * view.light[1]) / np.maximum(disc.r, 0.05)
    footprint = disc.inside(disc.r, 0.94)
    blend(patch, (0.5 + 0.24 * away)[..., None], footprint)
    blend(patch, (0.09, 0.085, 0.08), disc.inside(disc.r, 0.5))
    return disc.spread(footprint)
