"""Boxes as they are found in annotation files, made fit for use: inside the picture, with an area, or named and left out."""

from __future__ import annotations

import math

from faster_coco_eval.core import mask as coco_mask

from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Box
from dao.dataloaders.census import Census


def usable_boxes(image: AnnotatedImage, census: Census) -> list[tuple[AnnotatedObject, Box]]:
    """The objects of a picture with their boxes, clipped to it where its size is known.

    Boxes that are no numbers or have no area inside the picture are left out and named in ``census``.
    """
    found = []
    for number, marked in enumerate(image.objects):
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
    if marked.rle is not None:
        counts, size = marked.rle["counts"], [int(side) for side in marked.rle["size"]]
        packed = coco_mask.frPyObjects(marked.rle, *size) if isinstance(counts, list) else marked.rle
        left, top, width, height = (float(value) for value in coco_mask.toBbox(packed))
        return left, top, left + width, top + height
    return (math.nan,) * 4


def clip_box(box: Box, hw: tuple[int, int] | None) -> tuple[Box | None, str]:
    """The part of a box (left, top, right, bottom; pixels) inside a picture of ``hw``; or None and what is wrong."""
    if not all(math.isfinite(value) for value in box):
        return None, "boxes that are no numbers"
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        return None, "boxes without area"
    if hw is None:
        return box, ""
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(hw[1])), min(bottom, float(hw[0])))
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        return None, "boxes outside their picture"
    return inside, ""
