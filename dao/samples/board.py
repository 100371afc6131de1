"""Printed board: traces, vias, pads and nine components, at the same places on every board.

The board is drawn once per colour on a sheet of twice the scene's resolution and kept; a picture is a view of that sheet.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.samples.scene import Scene, View, cloud

Colour: TypeAlias = tuple[int, int, int]
Sheet: TypeAlias = NDArray[np.uint8]

MASKS: tuple[Colour, ...] = ((16, 88, 58), (20, 62, 116), (30, 84, 38))  # solder mask: green, blue, olive
TIN: Colour = (196, 198, 192)
GOLD: Colour = (206, 176, 104)
SILK: Colour = (222, 226, 216)
BODY: Colour = (38, 38, 42)
CERAMIC: Colour = (176, 140, 98)
SPAN = 144.0  # units of board on the sheet: the field of view and what jitter may bring into it
SHADOW = (0.9, 1.1)  # units, away from a lamp at the upper left
FRACTION = 4  # bits of cv2's sub-pixel coordinates


@dataclass(frozen=True, slots=True)
class Component:
    """One component: what it is, its middle and its size in units (width, height along the board), its print."""

    kind: Literal["ic", "resistor", "capacitor", "can", "crystal"]
    x: float
    y: float
    width: float
    height: float
    text: str = ""


COMPONENTS = (
    Component("ic", 5, -5, 34, 19, "AC74"),
    Component("can", 38, 38, 25, 25),
    Component("crystal", -34, 42, 28, 13, "16.0"),
    Component("resistor", -42, -45, 15, 8, "103"),
    Component("resistor", -42, -30, 15, 8, "472"),
    Component("capacitor", -47, 4, 8, 15),
    Component("capacitor", -32, 4, 8, 15),
    Component("capacitor", 40, -45, 15, 8),
    Component("resistor", 46, -8, 8, 15, "220"),
)
PARTS = len(COMPONENTS)
REMOVABLE = (
    3  # the first ones; a missing chip resistor changes a dozen pixels, too few for a set of a minute's training
)
LEGS = tuple(5.0 + 4.6 * i for i in range(-3, 4))  # x of the seven legs on each long side of the IC
TRACES: tuple[tuple[tuple[float, float], ...], ...] = (
    ((LEGS[0], -17), (LEGS[0], -24), (-14, -30), (-35, -30)),
    ((LEGS[1], -17), (LEGS[1], -30), (-19, -45), (-35, -45)),
    ((LEGS[2], -17), (LEGS[2], -34), (-4, -39), (-4, -72)),
    ((LEGS[3], -17), (LEGS[3], -36), (2, -39), (2, -72)),
    ((LEGS[4], -17), (LEGS[4], -36), (8, -38), (8, -72)),
    ((LEGS[5], -17), (LEGS[5], -30), (29, -45), (33, -45)),
    ((LEGS[6], -17), (LEGS[6], -20), (26, -28), (38, -28), (46, -20), (46, -14)),
    ((LEGS[0], 7), (LEGS[0], 12), (-18, 22), (-24, 30), (-24, 36)),
    ((LEGS[1], 7), (LEGS[1], 15), (-13, 26), (-13, 72)),
    ((LEGS[2], 7), (LEGS[2], 18), (-7, 26), (-7, 72)),
    ((LEGS[3], 7), (LEGS[3], 20), (-1, 26), (-1, 72)),
    ((LEGS[4], 7), (LEGS[4], 22), (5, 26), (5, 72)),
    ((LEGS[5], 7), (LEGS[5], 15), (24, 24), (29, 30)),
    ((LEGS[6], 7), (LEGS[6], 10), (27, 14), (72, 14)),
    ((-49, -30), (-60, -30), (-60, -6), (-47, -6), (-47, -3)),
    ((-49, -45), (-72, -45)),
    ((-32, -3), (-32, -12), (-20, -18)),
    ((-47, 11), (-47, 24), (-44, 28), (-44, 36)),
    ((-32, 11), (-32, 18), (-56, 30), (-56, 72)),
    ((46, -2), (46, 8), (72, 8)),
    ((47, -45), (72, -45)),
)
VIAS = (
    (-20, -18),
    (-60, -6),
    (-24, 30),
    (27, 14),
    (46, 8),
    (60, -30),
    (-62, 56),
    (14, 56),
    (60, 58),
    (-20, -58),
    (24, -58),
)


def board(view: View, rng: np.random.Generator, lot: np.random.Generator, missing: int | None) -> Scene:
    """A populated board; the mask's colour belongs to the lot, a slight unevenness of lacquer to the single board."""
    colour = int(lot.integers(len(MASKS)))
    density = 2 * view.pixels_per_unit
    lacquer = (lot.uniform(0.95, 1.05, 3) * (1 + 0.035 * cloud(rng, view.side, 4))[..., None]).astype(np.float32)

    def look(sheet: Sheet) -> NDArray[np.float32]:
        to_sheet = np.array([[density, 0, SPAN / 2 * density], [0, density, SPAN / 2 * density]])
        inverse = np.vstack([cv2.invertAffineTransform(view.matrix), (0, 0, 1)])
        seen = cv2.warpAffine(
            sheet,
            to_sheet @ inverse,
            (view.side, view.side),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return seen.astype(np.float32) / 255

    footprints = [_footprint(i, density) for i in range(PARTS)]
    scene = Scene(look(_board_sheet(colour, None, density)) * lacquer, look(np.maximum.reduce(footprints)))
    if missing is not None:
        scene.bare = look(_board_sheet(colour, missing, density)) * lacquer
        scene.removed = look(footprints[missing])
    return scene


class _Pen:
    """Draws on a sheet in the board's units, with smooth edges."""

    def __init__(self, sheet: Sheet, density: float) -> None:
        self.sheet, self.density = sheet, density

    def point(self, x: float, y: float) -> tuple[int, int]:
        scale = self.density * 2**FRACTION
        return round((x + SPAN / 2) * scale), round((y + SPAN / 2) * scale)

    def length(self, units: float) -> int:
        return max(1, round(units * self.density))

    def box(self, x: float, y: float, width: float, height: float, colour: Colour | int) -> None:
        corners = [(x - width / 2, y - height / 2), (x + width / 2, y - height / 2)]
        corners += [(x + width / 2, y + height / 2), (x - width / 2, y + height / 2)]
        polygon = np.array([self.point(*c) for c in corners], np.int32)
        cv2.fillPoly(self.sheet, [polygon], colour, cv2.LINE_AA, FRACTION)

    def disc(self, x: float, y: float, radius: float, colour: Colour | int) -> None:
        scaled = round(radius * self.density * 2**FRACTION)
        cv2.circle(self.sheet, self.point(x, y), scaled, colour, -1, cv2.LINE_AA, FRACTION)

    def line(self, points: tuple[tuple[float, float], ...], width: float, colour: Colour) -> None:
        path = np.array([self.point(*p) for p in points], np.int32)
        cv2.polylines(self.sheet, [path], False, colour, self.length(width), cv2.LINE_AA, FRACTION)

    def text(self, x: float, y: float, height: float, text: str, colour: Colour) -> None:
        font, scale = cv2.FONT_HERSHEY_SIMPLEX, height * self.density / 22
        (width, tall), _ = cv2.getTextSize(text, font, scale, 1)
        left, base = (round((t + SPAN / 2) * self.density) for t in (x, y))
        thickness = max(1, self.length(0.55))
        cv2.putText(
            self.sheet, text, (left - width // 2, base + tall // 2), font, scale, colour, thickness, cv2.LINE_AA
        )


@lru_cache(maxsize=len(MASKS) * (PARTS + 1))
def _board_sheet(colour: int, missing: int | None, density: float) -> Sheet:
    """The whole board (RGB uint8), without component ``missing``."""
    side = round(SPAN * density)
    sheet = np.full((side, side, 3), MASKS[colour], np.uint8)
    pen = _Pen(sheet, density)
    _draw_copper(pen, MASKS[colour])
    for component in COMPONENTS:
        _draw_pads(pen, component)
    for i, component in enumerate(COMPONENTS):
        if i != missing:
            _cast_shadow(sheet, _footprint(i, density), density)
            _DRAW[component.kind](pen, component)
    sheet.flags.writeable = False
    return sheet


@lru_cache(maxsize=PARTS)
def _footprint(index: int, density: float) -> Sheet:
    """Where a component covers the board: 0..255."""
    side = round(SPAN * density)
    sheet = np.zeros((side, side), np.uint8)
    c, pen = COMPONENTS[index], _Pen(sheet, density)
    pen.box(c.x, c.y, c.width, c.height, 255)
    if c.kind == "ic":
        for x in LEGS:
            pen.box(x, c.y, 2.0, c.height + 7, 255)
    sheet.flags.writeable = False
    return sheet


def _cast_shadow(sheet: Sheet, footprint: Sheet, density: float) -> None:
    move = np.array([[1, 0, SHADOW[0] * density], [0, 1, SHADOW[1] * density]])
    moved = cv2.warpAffine(footprint, move, footprint.shape[::-1])
    soft = cv2.GaussianBlur(moved, (0, 0), 0.5 * density)
    sheet[:] = cv2.multiply(sheet, cv2.merge([255 - (soft >> 1)] * 3), scale=1 / 255)


def _draw_copper(pen: _Pen, mask: Colour) -> None:
    """Traces shine through the lacquer as a lighter shade; vias are tinned rings round a hole."""
    covered = tuple(min(255, round(1.22 * c + 18)) for c in mask)
    for trace in TRACES:
        pen.line(trace, 1.9, covered)  # type: ignore[arg-type]  # three ints, as a tuple of unknown length
    for x, y in VIAS:
        pen.disc(x, y, 2.1, GOLD)
        pen.disc(x, y, 0.95, (28, 26, 22))


def _draw_pads(pen: _Pen, c: Component) -> None:
    """Tinned pads and the silk-screen outline: what is left to see when the component is not there."""
    if c.kind == "ic":
        for x in LEGS:
            for side in (-1, 1):
                pen.box(x, c.y + side * (c.height / 2 + 2.2), 2.6, 5.4, TIN)
        pen.line(_frame(c, -2.4), 0.7, SILK)
        pen.disc(c.x - c.width / 2 + 3.6, c.y + 3, 1.1, SILK)
        return
    wide = c.width >= c.height
    reach = (c.width if wide else c.height) / 2
    for side in (-1, 1):
        dx, dy = (side * (reach - 1.2), 0.0) if wide else (0.0, side * (reach - 1.2))
        pad = 0.72 * (c.height if wide else c.width) if c.kind in ("can", "crystal") else c.height if wide else c.width
        pad = min(pad, 9.0)
        pen.box(c.x + dx, c.y + dy, 5.6 if wide else pad, pad if wide else 5.6, TIN)
    pen.line(_frame(c, 1.5), 0.7, SILK)


def _frame(c: Component, grow: float) -> tuple[tuple[float, float], ...]:
    w, h = c.width / 2 + grow, c.height / 2 + grow
    return ((c.x - w, c.y - h), (c.x + w, c.y - h), (c.x + w, c.y + h), (c.x - w, c.y + h), (c.x - w, c.y - h))


def _draw_ic(pen: _Pen, c: Component) -> None:
    for x in LEGS:
        pen.box(x, c.y, 1.8, c.height + 6.6, (214, 216, 212))
    pen.box(c.x, c.y, c.width, c.height, BODY)
    pen.box(c.x, c.y - c.height / 2 + 0.5, c.width, 1.0, (84, 84, 88))
    pen.disc(c.x - c.width / 2 + 3.4, c.y + c.height / 2 - 3.6, 1.3, (72, 72, 76))
    pen.text(c.x + 1, c.y - 1.5, 5.4, c.text, (176, 176, 178))
    pen.line(((c.x - 8, c.y + 5), (c.x + 10, c.y + 5)), 0.9, (120, 120, 122))


def _draw_chip(pen: _Pen, c: Component) -> None:
    """A resistor (black, printed) or a ceramic capacitor (tan): a body between two tinned caps."""
    wide, body = c.width >= c.height, BODY if c.kind == "resistor" else CERAMIC
    pen.box(c.x, c.y, c.width, c.height, (224, 224, 220))
    width, height = (0.62 * c.width, c.height) if wide else (c.width, 0.62 * c.height)
    pen.box(c.x, c.y, width, height, body)
    pen.box(c.x, c.y - height / 2 + 0.5, width, 0.9, tuple(min(255, b + 44) for b in body))  # type: ignore[arg-type]
    if c.text and wide:
        pen.text(c.x, c.y + 0.3, 4.0, c.text, (214, 214, 214))


def _draw_can(pen: _Pen, c: Component) -> None:
    """An aluminium electrolytic capacitor from above: a can on a black base, its negative side marked."""
    pen.box(c.x, c.y, c.width, c.height, (30, 30, 32))
    radius = 0.46 * c.width
    for step in range(12):  # from rim to middle: a dish that grows lighter
        pen.disc(c.x - 0.05 * step, c.y - 0.06 * step, radius * (1 - 0.03 * step), (142 + 5 * step,) * 3)
    centre = pen.point(c.x, c.y)
    scaled = (round(0.9 * radius * pen.density * 2**FRACTION),) * 2
    chord = cv2.ellipse2Poly((0, 0), (1000, 1000), 0, 118, 242, 4) * (scaled[0] / 1000)
    cv2.fillPoly(pen.sheet, [np.int32(chord) + np.int32(centre)], (44, 44, 50), cv2.LINE_AA, FRACTION)
    pen.text(c.x + 2.4, c.y, 4.6, "47", (60, 60, 64))


def _draw_crystal(pen: _Pen, c: Component) -> None:
    """A crystal's metal can: rounded, bright, stamped."""
    end = c.height / 2
    for inset, level in ((0.0, 138), (0.8, 206), (1.9, 184)):
        pen.box(c.x, c.y, c.width - c.height, c.height - 2 * inset, (level, level, level - 6))
        for side in (-1, 1):
            pen.disc(c.x + side * (c.width / 2 - end), c.y, end - inset, (level, level, level - 6))
    pen.text(c.x, c.y, 4.6, c.text, (92, 92, 92))


_DRAW = {"ic": _draw_ic, "resistor": _draw_chip, "capacitor": _draw_chip, "can": _draw_can, "crystal": _draw_crystal}
