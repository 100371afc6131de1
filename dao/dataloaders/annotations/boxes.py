"""Boxes as they are found in annotation files, made fit for use: inside the picture, with an area, or named and left out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from faster_coco_eval.core import mask as coco_mask
from loguru import logger

from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Box

MAX_NAMED = 5  # boxes that a warning names


@dataclass(slots=True)
class Complaints:
    """What was wrong with the boxes of a set. dropped: one sentence a box; clipped: how many reached over a border."""

    dropped: list[str] = field(default_factory=list)
    clipped: int = 0

    def warn(self, source: str) -> None:
        """Say it once for the whole set."""
        if self.dropped:
            named = "\n".join(f"  {text}" for text in self.dropped[:MAX_NAMED])
            more = f"\n  ... and {len(self.dropped) - MAX_NAMED} more" if len(self.dropped) > MAX_NAMED else ""
            plural = "box was" if len(self.dropped) == 1 else "boxes were"
            logger.warning("{}: {} {} left out:\n{}{}", source, len(self.dropped), plural, named, more)
        if self.clipped:
            logger.info("{}: {} boxes reached over the picture's border and were clipped to it", source, self.clipped)


def usable_boxes(image: AnnotatedImage, complaints: Complaints) -> list[tuple[AnnotatedObject, Box]]:
    """The objects of a picture with their boxes, clipped to it where its size is known.

    Boxes that are no numbers or have no area inside the picture are left out and named in ``complaints``.
    """
    found = []
    for number, marked in enumerate(image.objects):
        given = box_of(marked)
        box, wrong = clip_box(given, image.hw)
        if box is None:
            numbers = ", ".join(f"{value:g}" for value in given)
            complaints.dropped.append(f"{image.path}: object {number} ({marked.label}) {wrong}: {numbers}")
            continue
        complaints.clipped += box != given
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
        return None, "has a box that is no number"
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        return None, "has a box without area"
    if hw is None:
        return box, ""
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(hw[1])), min(bottom, float(hw[0])))
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        return None, f"lies outside its picture of {hw[1]} x {hw[0]} pixels"
    return inside, ""
