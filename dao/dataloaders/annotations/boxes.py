"""Boxes as they are found in annotation files, made fit for use: inside the picture, with an area, or named and left out."""

from __future__ import annotations

import math

from dao.dataloaders.annotations.regions import FARTHEST, refuse_other_size, rle_box, runs_of
from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Box
from dao.dataloaders.census import Census
from dao.errors import DataError


def usable_boxes(image: AnnotatedImage, census: Census) -> list[tuple[AnnotatedObject, Box]]:
    """The objects of a picture with their boxes, clipped to it where its size is known.

    Boxes that are no numbers or have no area inside the picture are left out and named in ``census``.
    """
    found = []
    for number, marked in enumerate(image.objects):
        if marked.rle is not None and image.hw is not None:
            try:
                refuse_other_size(runs_of(marked.rle)[1], image.hw)
            except DataError as error:
                raise DataError(f"{image.path} object {number} ({marked.label}): {error}") from None
        given = box_of(marked)
        box, wrong = clip_box(given, image.hw)
        if box is None:
            numbers = ", ".join(f"{value:g}" for value in given)
            census.omit(f"{wrong} left out", f"{image.path} object {number} ({marked.label}, {numbers})")
            continue
        if box != given:
            census.adjust("boxes reaching over the picture's border, clipped to it", f"{image.path} object {number}")
        found.append((marked, box))
    return found


def box_of(marked: AnnotatedObject) -> Box:
    """The object's box: as given, or round its outline or run-length mask; NaN where there is none of these."""
    bounds = marked.bounds()
    if bounds is not None:
        return bounds
    around = rle_box(marked.rle) if marked.rle is not None else None
    return around or (math.nan,) * 4


def clip_box(box: Box, hw: tuple[int, int] | None) -> tuple[Box | None, str]:
    """The part of a box (left, top, right, bottom; pixels) inside a picture of ``hw``; or None and what is wrong."""
    if not all(math.isfinite(value) for value in box):
        return None, "boxes that are no numbers"
    left, top, right, bottom = box
    if max(map(abs, box)) > FARTHEST:
        return None, "boxes beyond any picture"
    if right <= left or bottom <= top:
        return None, "boxes without area"
    if hw is None:
        return box, ""
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(hw[1])), min(bottom, float(hw[0])))
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        return None, "boxes outside their picture"
    return inside, ""
