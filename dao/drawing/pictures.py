"""Pictures for people: annotated answers, contact sheets, heat-maps. Pure functions on uint8 RGB arrays.

Every ``image`` is (H, W, 3) RGB, (H, W, 1) or (H, W) grey, uint8; what comes back is (H', W', 3) RGB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.drawing.text import Color, Image, draw_text, fit_text, put_text, text_width
from dao.errors import DataError
from dao.files import atomic

__all__ = [
    "annotate_classification",
    "color_of",
    "overlay_heatmap",
    "put_text",
    "thumbnail",
    "to_rgb",
    "write_image",
    "write_pixels",
]

# Okabe & Ito 2008, "Color universal design": told apart with every kind of colour vision
PALETTE: tuple[Color, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
)
RIGHT, WRONG = (0, 128, 94), (200, 70, 0)
PAPER, TRACK, INK, FAINT = (250, 250, 250), (226, 228, 231), (28, 30, 33), (98, 102, 108)

MAX_BARS = 6
SMALLEST = 160  # pictures whose longer side is no longer than this are enlarged, to at least ENLARGED
ENLARGED = 256
JPEG_QUALITY = 92


def color_of(index: int) -> Color:
    """The colour of a class: seven hues for colour-blind eyes, then the same ones darker, twice, then again."""
    shade = (1.0, 0.68, 0.45)[index // len(PALETTE) % 3]
    red, green, blue = PALETTE[index % len(PALETTE)]
    return round(red * shade), round(green * shade), round(blue * shade)


def to_rgb(image: Image) -> Image:
    """(H, W, 3) of a colour or grey picture; colour ones are handed through, not copied."""
    if image.ndim == 2:
        image = image[:, :, None]
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def overlay_heatmap(image: Image, heatmap: NDArray[np.floating], alpha: float = 0.6) -> Image:
    """The picture with a heat-map over it: clear where it is 0, ``alpha`` of the colour where it is 1.

    heatmap: (h, w) float, 0..1 (clipped; NaN counts as 0), resized to the picture when it differs in size.
    """
    rgb = to_rgb(image)
    heat = np.clip(np.nan_to_num(np.asarray(heatmap, np.float32), nan=0.0), 0, 1)
    if heat.shape != rgb.shape[:2]:
        heat = cv2.resize(heat, (rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_LINEAR)
    # inferno's lightness rises evenly: it reads in grey and without red or green as well
    tint = cv2.applyColorMap(np.round(heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    weight = (alpha * heat)[:, :, None]
    return np.round(rgb * (1 - weight) + tint * weight).astype(np.uint8)


# -- one classified picture --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the panel says. title: the label(s), by index in ``said``; bars: (class index, name, score), likeliest first."""

    title: str
    said: Sequence[int]
    score: float
    truth: str | None
    bars: list[tuple[int, str, float]]


def annotate_classification(
    image: Image,
    classes: Sequence[str],
    scores: NDArray[np.floating],
    label: int,
    *,
    truth: str | None = None,
    heatmap: NDArray[np.floating] | None = None,
    labels: Sequence[int] | None = None,
) -> Image:
    """The picture beside a panel with the label, its score and a bar for each of the likeliest classes (6 at most).

    scores: (K,) 0..1 in the order of ``classes``; label: the likeliest one's index; labels: the answer's, where it may
    hold several or none; truth: the right name, where known.
    The picture's pixels stay as they are, in the upper left corner; very small ones are enlarged by a whole factor.
    With a ``heatmap`` (see `overlay_heatmap`) the picture follows a second time, under it.
    """
    picture = enlarge(to_rgb(image))
    height, width = picture.shape[:2]
    unit = text_unit(picture)
    below = width > 1.7 * height
    views = [picture]
    if heatmap is not None:
        gap = np.full((unit // 3, width, 3) if below else (height, unit // 3, 3), PAPER, np.uint8)
        views += [gap, overlay_heatmap(picture, heatmap)]
    shown = np.concatenate(views, axis=0 if below else 1)
    order = np.argsort(-np.asarray(scores), kind="stable")[:MAX_BARS]
    bars = [(int(i), classes[i], float(scores[i])) for i in order]
    said = [label] if labels is None else labels
    answer = _Answer(", ".join(classes[i] for i in said) or "no label", said, float(scores[label]), truth, bars)
    return _with_panel_below(shown, answer, unit) if below else _with_panel_beside(shown, answer, unit)


def text_unit(picture: Image) -> int:
    """Size of letters, in pixels, that reads well beside a picture."""
    height, width = picture.shape[:2]
    return max(13, round(0.033 * math.sqrt(height * width)), round(0.011 * max(height, width)))


def enlarge(picture: Image) -> Image:
    """Very small pictures by a whole factor, pixel by pixel; others as they are."""
    longest = max(picture.shape[:2])
    if longest > SMALLEST:
        return picture
    factor = math.ceil(ENLARGED / longest)
    return np.repeat(np.repeat(picture, factor, axis=0), factor, axis=1)


def _wanted_width(answer: _Answer, unit: int) -> int:
    """Panel width at which no name is cut, within reason."""
    names = max(text_width(name, unit) for _, name, _ in answer.bars) + text_width("0.000", unit) + unit
    title = text_width(answer.title, round(1.5 * unit), bold=True)
    return min(max(names, title, 11 * unit), 22 * unit) + 2 * unit


def _bars_height(answer: _Answer, unit: int) -> int:
    return len(answer.bars) * round(2.35 * unit)


def _header_height(answer: _Answer, unit: int) -> int:
    return round((5.6 if answer.truth is not None else 3.9) * unit)


def _with_panel_beside(shown: Image, answer: _Answer, unit: int) -> Image:
    header, width = _header_height(answer, unit), _wanted_width(answer, unit)
    height = max(shown.shape[0], 2 * unit + header + _bars_height(answer, unit))
    canvas = np.full((height, shown.shape[1] + width, 3), PAPER, np.uint8)
    canvas[: shown.shape[0], : shown.shape[1]] = shown
    left = shown.shape[1] + unit
    _draw_header(canvas, answer, unit, left, unit, width - 2 * unit)
    _draw_bars(canvas, answer, unit, left, unit + header, width - 2 * unit)
    return canvas


def _with_panel_below(shown: Image, answer: _Answer, unit: int) -> Image:
    wanted = _wanted_width(answer, unit) - 2 * unit
    width = max(shown.shape[1], 2 * wanted + 4 * unit)  # a picture can be too narrow for header and bars side by side
    bars_left = max(round(0.42 * width), wanted + 2 * unit)
    panel = 2 * unit + max(_header_height(answer, unit), _bars_height(answer, unit))
    canvas = np.full((shown.shape[0] + panel, width, 3), PAPER, np.uint8)
    canvas[: shown.shape[0], : shown.shape[1]] = shown
    top = shown.shape[0] + unit
    _draw_header(canvas, answer, unit, unit, top, bars_left - 2 * unit)
    _draw_bars(canvas, answer, unit, bars_left, top, width - bars_left - unit)
    return canvas


def _draw_header(canvas: Image, answer: _Answer, unit: int, left: int, top: int, width: int) -> None:
    """Label, its score, and whether it is right; `_header_height` high."""
    size = round(1.5 * unit)
    while size > unit and text_width(answer.title, size, bold=True) > width:
        size -= 1
    title = fit_text(answer.title, width, size, bold=True)
    draw_text(canvas, title, (left, top + round(1.4 * unit)), size, INK, anchor="ls", bold=True)
    draw_text(canvas, f"score {answer.score:.3f}", (left, top + round(2.9 * unit)), unit, FAINT, anchor="ls")
    if answer.truth is not None:
        right = answer.truth == answer.title
        text = "correct" if right else fit_text(f"wrong: it is {answer.truth}", width, unit, bold=True)
        draw_text(
            canvas, text, (left, top + round(4.5 * unit)), unit, RIGHT if right else WRONG, anchor="ls", bold=True
        )


def _draw_bars(canvas: Image, answer: _Answer, unit: int, left: int, top: int, width: int) -> None:
    row, thick = round(2.35 * unit), max(4, round(0.5 * unit))
    for number, (index, name, score) in enumerate(answer.bars):
        baseline, bold = top + number * row + unit, index in answer.said
        value = f"{score:.3f}"
        room = width - text_width(value, unit, bold) - unit
        draw_text(canvas, fit_text(name, room, unit, bold), (left, baseline), unit, INK, anchor="ls", bold=bold)
        draw_text(canvas, value, (left + width, baseline), unit, INK if bold else FAINT, anchor="rs", bold=bold)
        bar = canvas[baseline + round(0.4 * unit) :][:thick, left : left + width]
        bar[:] = TRACK
        bar[:, : round(float(np.clip(np.nan_to_num(score), 0, 1)) * width)] = color_of(index)


# -- many pictures -----------------------------------------------------------------------------------------------------


def thumbnail(image: Image, side: int = 256) -> Image:
    """The picture for a contact sheet: as many pixels as a square of ``side`` has, but to a side no more than twice that.

    Small ones grow, so that what is drawn on them stays thin.
    """
    height, width = image.shape[:2]
    scale = min(side / math.sqrt(height * width), 2 * side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (width, height):
        return to_rgb(image)
    return to_rgb(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))


def write_image(path: str | Path, rgb: Image) -> None:
    """Write a PNG or JPEG (by the name's ending), folders included.

    Raises DataError for what is no such picture, RunError when the disk refuses.
    """
    write_pixels(path, to_rgb(rgb))


def write_pixels(path: str | Path, image: Image) -> None:
    """Write a picture as it is, grey (H, W) or RGB (H, W, 3): `write_image` without making grey ones colour."""
    path = Path(path)
    bgr = image if image.ndim == 2 else image[:, :, ::-1]
    try:
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix.lower() in (".jpg", ".jpeg") else []
        done, data = cv2.imencode(path.suffix or ".", np.ascontiguousarray(bgr), options)
    except cv2.error as error:
        message = f"a picture of {image.shape[1]} x {image.shape[0]} pixels cannot become a '{path.suffix}' file"
        raise DataError(f"{path}: {message}; name it .png or .jpg ({error.err})") from None
    if not done:
        raise DataError(f"{path}: the picture could not be encoded as {path.suffix}")
    # by Python: any file name on any system, and the reason when it fails
    atomic.write_bytes(path, data.tobytes(), durable=False)
