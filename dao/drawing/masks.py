"""Masks for people: overlays with outlines and a legend. Pure functions on uint8 RGB arrays, as in `pictures`."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.drawing.class_map import ROWS, count_pixels
from dao.drawing.pictures import FAINT, INK, PAPER, enlarge, text_unit, thumbnail, to_rgb
from dao.drawing.text import Color, Image, draw_text, fit_text, text_width
from dao.words.counted import counted

Mask = NDArray[np.uint8]
IGNORE = 255
UNLABELLED: Color = (150, 150, 150)
FILL = 0.35  # how much of the class's colour lies over the picture
# Okabe & Ito 2008 again, the hues that stand out on grey metal first
DEFECT_COLORS: tuple[Color, ...] = (
    (230, 100, 0), (0, 130, 200), (240, 200, 0), (200, 80, 160), (0, 158, 115), (86, 200, 240), (160, 90, 30),
)  # fmt: skip


def defect_color(label: int) -> Color:
    """The colour of a class from 1 up; 255, unlabelled, is grey."""
    if label == IGNORE:
        return UNLABELLED
    shade = (1.0, 0.68, 0.45)[(label - 1) // len(DEFECT_COLORS) % 3]
    red, green, blue = DEFECT_COLORS[(label - 1) % len(DEFECT_COLORS)]
    return round(red * shade), round(green * shade), round(blue * shade)


def overlay_mask(image: Image, mask: Mask, fill: float = FILL, line: int | None = None) -> Image:
    """The picture with every class but the first outlined, and tinted where it is wide enough to be seen through, in its
    own size.

    mask: (H, W) class indices, 255 unlabelled. line: width of outlines in pixels; None goes by the picture's size.
    """
    out = to_rgb(image).copy()
    width = line or max(1, round(max(out.shape[:2]) / 450))
    counts = count_pixels(mask, 256)
    for k in np.flatnonzero(counts[1:]) + 1:
        region, colour = mask == k, defect_color(int(k))
        for top in range(0, mask.shape[0], ROWS) if is_wide(region) else ():  # in blocks, whose copies are small
            tint(out[top : top + ROWS], region[top : top + ROWS], colour, fill)
        outline(out, region.view(np.uint8), colour, width)
    return out


def outline(canvas: Image, region: Mask, colour: Color, line: int) -> None:
    """Draw round the regions of a mask (H, W), 0 or 1, in place: beside their pixels, none of which is covered."""
    reach = 2 * line + 1
    grown = cv2.dilate(region, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
    inner = cv2.dilate(region, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * (reach - line) + 1,) * 2))
    canvas[(grown > 0) & (inner == 0)] = colour


def is_wide(region: NDArray[np.bool_]) -> bool:
    """Whether a class's pixels stay to be seen under a tint: more than a hair, or a dot, of the picture."""
    return int(region.sum()) > 0.002 * region.size


def tint(image: Image, region: NDArray[np.bool_], colour: Color, fill: float) -> None:
    """Mix a colour into the pixels of a region, in place."""
    mixed = image[region] * np.float32(1 - fill) + np.array(colour, np.float32) * np.float32(fill)
    image[region] = np.round(mixed).astype(np.uint8)


def annotate_segmentation(image: Image, mask: Mask, classes: Sequence[str]) -> Image:
    """The picture with its mask over it, and a legend: colour, name, share of the picture, number of regions.

    The picture keeps its size, in the upper left corner; very small ones are enlarged by a whole factor.
    """
    picture = enlarge(to_rgb(image))
    factor = picture.shape[0] // mask.shape[0]
    large = np.repeat(np.repeat(mask, factor, axis=0), factor, axis=1) if factor > 1 else mask
    shown = overlay_mask(picture, large)
    unit = text_unit(picture)
    rows = _legend_rows(mask, classes)
    below = shown.shape[1] > 1.7 * shown.shape[0]
    return _legend_below(shown, rows, unit) if below else _legend_beside(shown, rows, unit)


def _legend_rows(mask: Mask, classes: Sequence[str]) -> list[tuple[int, str, str]]:
    """(class index, name, what is said of it), the largest first; one row that says so where nothing was found."""
    counts = count_pixels(mask, len(classes))
    rows = []
    for k in sorted((k for k in range(1, len(classes)) if counts[k]), key=lambda k: -counts[k]):
        regions = cv2.connectedComponents((mask == k).view(np.uint8), connectivity=8)[0] - 1
        share = f"{counts[k] / mask.size:.2%}" if counts[k] / mask.size >= 0.0001 else f"{counts[k]} px"
        rows.append((k, classes[k], f"{share} in {counted(regions, 'region')}"))
    return rows or [(0, "no defect found", "")]


def _legend_width(rows: Sequence[tuple[int, str, str]], unit: int) -> int:
    longest = max(max(text_width(name, unit, bold=True), text_width(note, unit)) for _, name, note in rows)
    return min(max(longest, 8 * unit), 20 * unit) + round(3.5 * unit)


def _legend_height(rows: Sequence[tuple[int, str, str]], unit: int) -> int:
    return len(rows) * round(3.2 * unit) + unit


def _legend_beside(shown: Image, rows: Sequence[tuple[int, str, str]], unit: int) -> Image:
    width, height = _legend_width(rows, unit), max(shown.shape[0], _legend_height(rows, unit))
    canvas = np.full((height, shown.shape[1] + width, 3), PAPER, np.uint8)
    canvas[: shown.shape[0], : shown.shape[1]] = shown
    _draw_legend(canvas, rows, unit, shown.shape[1] + unit, 0, width)
    return canvas


def _legend_below(shown: Image, rows: Sequence[tuple[int, str, str]], unit: int) -> Image:
    width = max(shown.shape[1], _legend_width(rows, unit) + unit)
    canvas = np.full((shown.shape[0] + _legend_height(rows, unit), width, 3), PAPER, np.uint8)
    canvas[: shown.shape[0], : shown.shape[1]] = shown
    _draw_legend(canvas, rows, unit, unit, shown.shape[0], width)
    return canvas


def _draw_legend(
    canvas: Image, rows: Sequence[tuple[int, str, str]], unit: int, left: int, top: int, width: int
) -> None:
    room = width - round(3.5 * unit)
    for number, (k, name, note) in enumerate(rows):
        baseline = top + number * round(3.2 * unit) + round(1.8 * unit)
        text_left = left
        if k:
            swatch = canvas[baseline - round(0.85 * unit) : baseline + round(0.15 * unit), left : left + unit]
            swatch[:] = defect_color(k)
            text_left = left + round(1.5 * unit)
        draw_text(
            canvas, fit_text(name, room, unit, bold=True), (text_left, baseline), unit, INK, anchor="ls", bold=True
        )
        if note:
            below = (text_left, baseline + round(1.3 * unit))
            draw_text(canvas, fit_text(note, room, unit), below, unit, FAINT, anchor="ls")


def small_overlay(image: Image, mask: Mask, side: int = 256) -> Image:
    """The overlay, shrunk to at most ``side`` pixels; drawn after shrinking, so that outlines stay visible."""
    small = thumbnail(image, side)
    size = (small.shape[1], small.shape[0])
    return overlay_mask(small, shrunk(mask, size))


def mask_legend(masks: Sequence[Mask], classes: Sequence[str]) -> dict[str, Color]:
    """The colours of what is marked in masks, by name."""
    counts = sum((count_pixels(mask, 256) for mask in masks), np.zeros(256, np.int64))
    known = {name: defect_color(k) for k, name in enumerate(classes) if k and counts[k]}
    return {**known, "unlabelled": UNLABELLED} if counts[IGNORE] else known


def shrunk(mask: Mask, size_wh: tuple[int, int]) -> Mask:
    """A mask in fewer pixels, in which nothing marked is lost: a hair of a scratch stays a hair."""
    if size_wh[0] >= mask.shape[1]:
        return cv2.resize(mask, size_wh, interpolation=cv2.INTER_NEAREST_EXACT)
    out = np.zeros((size_wh[1], size_wh[0]), np.uint8)
    for k in np.flatnonzero(count_pixels(mask, 256))[::-1]:  # what is not labelled lies below the classes
        if k:
            out[cv2.resize((mask == k).astype(np.float32), size_wh, interpolation=cv2.INTER_AREA) > 0] = k
    return out


def views(image: Image, masks: Sequence[Mask], side: int = 256) -> tuple[Image, ...]:
    """The picture and each mask over it, as small as a contact sheet needs them.

    masks: (H, W) class indices each. Raises ValueError when one is not of the picture's size.
    """
    if any(mask.shape != image.shape[:2] for mask in masks):
        raise ValueError(f"masks of {[mask.shape for mask in masks]} do not fit a picture of {image.shape[:2]} pixels")
    small = thumbnail(image, side)
    return small, *(overlay_mask(small, shrunk(mask, (small.shape[1], small.shape[0]))) for mask in masks)
