"""Fabric: a twill with two sewn-on buttons."""

from __future__ import annotations

from functools import partial

import numpy as np

from dao.samples.scene import (
    Disc,
    Painter,
    Picture,
    Plane,
    Scene,
    View,
    assemble,
    blend,
    cloud,
    disc_at,
    drop_shadow,
    smoothstep,
)

BUTTONS = ((-34.0, -30.0), (34.0, 30.0))
BUTTON_RADIUS = 11.5
HOLES = ((-0.24, -0.24), (0.24, -0.24), (-0.24, 0.24), (0.24, 0.24))  # in button radii
PARTS = len(BUTTONS)
YARN = 3.6  # units from yarn to yarn
# warp and weft colour, button colour
CLOTHS = (
    ((0.20, 0.29, 0.46), (0.60, 0.64, 0.69), (0.83, 0.79, 0.70)),  # denim, horn buttons
    ((0.45, 0.43, 0.39), (0.66, 0.63, 0.57), (0.17, 0.16, 0.17)),  # grey-beige, black buttons
    ((0.24, 0.33, 0.28), (0.47, 0.55, 0.46), (0.45, 0.29, 0.18)),  # moss, brown buttons
)


def fabric(view: View, rng: np.random.Generator, lot: np.random.Generator, missing: int | None) -> Scene:
    """A cloth; dye and button belong to the lot, the yarns' unevenness to the single piece."""
    warp, weft, button = (np.array(c, np.float32) for c in CLOTHS[lot.integers(len(CLOTHS))])
    dye = lot.uniform(0.94, 1.06, 3).astype(np.float32)
    ground = _twill(view, rng, warp * dye, weft * dye)
    parts: list[Painter] = [partial(_button, view=view, x=x, y=y, colour=button) for x, y in BUTTONS]
    seats: list[Painter] = [partial(_needle_marks, view=view, x=x, y=y, thread=weft) for x, y in BUTTONS]
    return assemble(ground, parts, seats, missing)


def _twill(view: View, rng: np.random.Generator, warp: Picture, weft: Picture) -> Picture:
    u, v = view.grid()
    # the loom's tension is uneven: yarns wander by a fraction of their width
    u = u / YARN + 0.25 * cloud(rng, view.side, 4) + 100
    v = v / YARN + 0.25 * cloud(rng, view.side, 4) + 100
    left, top = np.floor(u), np.floor(v)
    column, row = left.astype(np.int32), top.astype(np.int32)
    warp_on_top = ((column + row) % 3 != 0)[..., None]
    across_u, across_v = 2 * (u - left) - 1, 2 * (v - top) - 1
    warp_light = _yarn(rng, column, across_u, across_v)
    weft_light = _yarn(rng, row, across_v, across_u)
    cloth = np.where(warp_on_top, warp_light[..., None] * warp, weft_light[..., None] * weft)
    return cloth * (1 + 0.05 * cloud(rng, view.side, 3))[..., None]


def _yarn(rng: np.random.Generator, number: np.ndarray, across: Plane, along: Plane) -> Plane:
    """Brightness of yarns: round in section, dipping where they cross, no two quite alike."""
    uneven = rng.normal(1.0, 0.06, 256).astype(np.float32)[number % 256]
    return uneven * (1.12 - 0.42 * across * across) * (1.0 - 0.12 * along * along)


def _button(image: Picture, view: View, x: float, y: float, colour: Picture) -> Plane:
    disc = disc_at(view, x, y, BUTTON_RADIUS)
    patch = image[disc.window]
    drop_shadow(patch, disc, view.light, depth=0.5)
    (lx, ly), r = view.light, disc.r
    towards = (disc.dx * lx + disc.dy * ly) / np.maximum(r, 0.05)
    ring = smoothstep(0.62, 0.74, r) * smoothstep(1.02, 0.86, r)  # raised, round a shallow dish
    slope = smoothstep(0.84, 1.0, r) - 0.8 * smoothstep(0.6, 0.72, r) * smoothstep(0.84, 0.72, r)
    shade = 0.9 + 0.34 * towards * slope + 0.1 * ring
    gleam = 0.25 * np.exp(-((disc.dx - 0.62 * lx) ** 2 + (disc.dy - 0.62 * ly) ** 2) / 0.03)
    footprint = disc.inside(r, 1.0)
    blend(patch, shade[..., None] * colour + gleam[..., None], footprint)
    _stitches(patch, disc)
    return disc.spread(footprint)


def _stitches(patch: Picture, disc: Disc) -> None:
    """Four holes and the thread that crosses between them."""
    dx, dy = disc.dx, disc.dy
    for hx, hy in HOLES:
        blend(patch, 0.06, disc.inside(np.hypot(dx - hx, dy - hy), 0.12))
    square = disc.inside(np.maximum(np.abs(dx), np.abs(dy)), 0.25)
    for diagonal in (dx - dy, dx + dy):
        blend(patch, (0.72, 0.7, 0.64), disc.inside(np.abs(diagonal), 0.075) * square)


def _needle_marks(image: Picture, view: View, x: float, y: float, thread: Picture) -> Plane:
    """What a lost button leaves: cloth that never saw the light, four pricks and a torn thread."""
    disc = disc_at(view, x, y, BUTTON_RADIUS)
    patch, dx, dy = image[disc.window], disc.dx, disc.dy
    footprint = disc.inside(disc.r, 0.96)
    patch *= (1 - footprint * (0.2 + 0.12 * smoothstep(0.72, 0.94, disc.r)))[..., None]
    for hx, hy in HOLES:
        blend(patch, 0.05, disc.inside(np.hypot(dx - hx, dy - hy), 0.1))
    torn = disc.inside(np.abs(dy - 0.3 * np.sin(4 * dx) - 0.1), 0.06) * disc.inside(np.abs(dx), 0.42)
    blend(patch, np.minimum(1.25 * thread + 0.12, 0.95), torn)
    return disc.spread(footprint)
