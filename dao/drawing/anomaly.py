"""Anomaly maps for people: picture, heat map, outline, verdict. Pure functions on uint8 RGB arrays."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.drawing.masks import outline, shrunk
from dao.drawing.pictures import FAINT, INK, PAPER, RIGHT, TRACK, WRONG, enlarge, text_unit, thumbnail, to_rgb
from dao.drawing.text import Image, draw_text, fit_text, text_width
from dao.structures import Prediction

OUTLINE = (255, 60, 0)
REGION = (0, 140, 255)  # of interest; what lies outside was not looked at
SHOW_FROM = 0.2  # of the normalised map: below, a good part's own ups and downs would colour the picture
THRESHOLD = 0.5


def heat_overlay(image: Image, anomaly_map: NDArray[np.float32], strength: float = 0.65) -> Image:
    """The picture in grey under the map's colours: clear up to 0.2, the threshold 0.5 in the middle of the scale.

    anomaly_map: (H, W) float, 0..1, in the picture's pixels.
    """
    grey = to_rgb(cv2.cvtColor(to_rgb(image), cv2.COLOR_RGB2GRAY))
    heat = np.clip(np.nan_to_num(anomaly_map), 0, 1)
    tint = cv2.applyColorMap(np.round(heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    weight = strength * np.clip((heat - SHOW_FROM) / (THRESHOLD - SHOW_FROM), 0, 1)[:, :, None]
    return np.round(grey * (1 - weight) + tint * weight).astype(np.uint8)


def outlined(
    image: Image, mask: NDArray[Any], line: int | None = None, colour: tuple[int, int, int] = OUTLINE
) -> Image:
    """The picture with the outlines of what lies above the pixel threshold; mask: (H, W), 0 or 1."""
    out = to_rgb(image).copy()
    outline(out, mask.astype(np.uint8), colour, line or max(1, round(max(out.shape[:2]) / 450)))
    return out


def annotate_anomaly(image: Image, prediction: Prediction) -> Image:
    """Picture, heat map and outlines in a row (a column for wide pictures), and the verdict with its score.

    The picture keeps its size, in the upper left corner; very small ones are enlarged by a whole factor.
    """
    picture = enlarge(to_rgb(image))
    height, width = picture.shape[:2]
    factor = height // image.shape[0]
    heat = cv2.resize(prediction.anomaly_map.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    mask = np.repeat(np.repeat(prediction.mask, factor, axis=0), factor, axis=1)
    column, unit = width > 2 * height, text_unit(picture)
    gap = np.full((unit // 3, width, 3) if column else (height, unit // 3, 3), PAPER, np.uint8)
    last = outlined(picture, mask)
    if prediction.region is not None:
        last = outlined(last, np.repeat(np.repeat(prediction.region, factor, axis=0), factor, axis=1), colour=REGION)
    views = [picture, gap, heat_overlay(picture, heat), gap, last]
    shown = np.concatenate(views, axis=0 if column else 1)
    return _with_verdict(shown, prediction, unit)


def _with_verdict(shown: Image, prediction: Prediction, unit: int) -> Image:
    """Below the views: the verdict, a bar of the score with the threshold in its middle, the raw score."""
    bad = bool(prediction.label)
    title = "ANOMALY" if bad else "GOOD"
    size = round(1.5 * unit)
    below = round(4.2 * unit)
    width = max(shown.shape[1], text_width(title, size, bold=True) + 16 * unit)
    canvas = np.full((shown.shape[0] + below, width, 3), PAPER, np.uint8)
    canvas[: shown.shape[0], : shown.shape[1]] = shown
    top = shown.shape[0]
    ink = WRONG if bad else RIGHT
    draw_text(canvas, title, (unit, top + round(2.0 * unit)), size, ink, anchor="ls", bold=True)
    area = f"{prediction.mask.mean():.2%} of the picture outlined" if prediction.mask.any() else "nothing outlined"
    draw_text(canvas, fit_text(area, width // 2, unit), (unit, top + round(3.5 * unit)), unit, FAINT, anchor="ls")
    text = f"score {prediction.anomaly_score:.3f}"
    right = width - unit
    left = max(right - 12 * unit, unit + text_width(title, size, bold=True) + unit)
    draw_text(canvas, text, (right, top + round(1.7 * unit)), unit, INK, anchor="rs", bold=True)
    bar = canvas[top + round(2.2 * unit) : top + round(2.8 * unit), left:right]
    bar[:] = TRACK
    bar[:, : round(float(np.clip(prediction.anomaly_score, 0, 1)) * bar.shape[1])] = ink
    middle = left + (right - left) // 2
    canvas[top + round(2.0 * unit) : top + round(3.0 * unit), middle - 1 : middle + 1] = INK
    draw_text(canvas, "threshold 0.5", (middle, top + round(3.9 * unit)), round(0.8 * unit), FAINT, anchor="ms")
    return canvas


def small_anomaly(image: Image, prediction: Prediction, side: int = 256) -> Image:
    """Heat and outline in one small picture."""
    small = thumbnail(image, side)
    size = (small.shape[1], small.shape[0])
    heat = cv2.resize(prediction.anomaly_map.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return outlined(heat_overlay(small, heat), shrunk(prediction.mask, size))
