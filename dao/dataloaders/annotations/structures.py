"""What an annotation file says, whatever its format: pictures, and the objects marked in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

from dao.errors import DataError

Box = tuple[float, float, float, float]


@dataclass(slots=True)
class AnnotatedObject:
    """One marked object, in pixels of its picture; a point's coordinates are those of a pixel grid's corners.

    label: class name. box_xyxy: left, top, right, bottom; None where the format marks an outline alone.
    polygons: outlines (P, 2) of x, y that are filled together. rle: a COCO run-length mask {"size", "counts"}.
    crowd: stands for several objects at once; difficult: need not be found. Neither counts in an evaluation.
    area: pixels of the object as the file states them; None where it does not.
    """

    label: str
    box_xyxy: Box | None = None
    polygons: list[NDArray[np.float64]] = field(default_factory=list)
    rle: dict[str, Any] | None = None
    crowd: bool = False
    difficult: bool = False
    area: float | None = None

    def bounds(self) -> Box | None:
        """The box as given, else the one round the outline."""
        if self.box_xyxy is not None:
            return self.box_xyxy
        if self.polygons:
            points = np.concatenate(self.polygons)
            (left, top), (right, bottom) = points.min(0), points.max(0)
            return float(left), float(top), float(right), float(bottom)
        return None

    def region(self, hw: tuple[int, int]) -> NDArray[np.bool_]:
        """(H, W) bool: the pixels of the object, from its run-length mask, its outlines, or else its box."""
        if self.rle is not None:
            return decode_rle(self.rle, hw)
        return fill(self.polygons, hw) if self.polygons else fill_box(self.bounds(), hw)


@dataclass(slots=True)
class AnnotatedImage:
    """One picture of an annotation file. hw: height and width where the file states them."""

    path: str
    hw: tuple[int, int] | None = None
    objects: list[AnnotatedObject] = field(default_factory=list)


@dataclass(slots=True)
class Annotations:
    """A whole annotation file or folder. classes: names in the file's own order; source: for messages."""

    images: list[AnnotatedImage]
    classes: list[str]
    source: str


def fill(polygons: Sequence[NDArray[np.float64]], hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool: the pixels inside any of the outlines (P, 2), by COCO's own rule."""
    rings = [polygon.reshape(-1).tolist() for polygon in polygons if len(polygon) >= 3]
    if not rings:
        return np.zeros(hw, bool)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, *hw))).astype(bool)


def fill_box(box: Box | None, hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool: the pixels of a box, borders rounded to whole pixels."""
    canvas = np.zeros(hw, bool)
    if box is not None:
        left, top, right, bottom = (max(0, round(value)) for value in box)
        canvas[top:bottom, left:right] = True
    return canvas


def decode_rle(rle: dict[str, Any], hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool of a COCO run-length mask: runs down the columns, the first of them background.

    counts: a list of lengths, or COCO's compressed text. Raises DataError where it does not fill the picture.
    """
    try:
        size = tuple(int(side) for side in rle["size"])
        packed = coco_mask.frPyObjects(rle, *size) if isinstance(rle["counts"], list) else rle
        region = coco_mask.decode(packed)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"a run-length mask cannot be read: {error}") from None
    if size != tuple(hw):
        raise DataError(
            f"a run-length mask is {size[0]}x{size[1]} pixels (height x width), its picture {hw[0]}x{hw[1]}"
        )
    return region.astype(bool)


def encode_rle(region: NDArray[np.bool_]) -> dict[str, Any]:
    """An (H, W) bool region as a COCO run-length mask, its counts as compressed text."""
    packed = coco_mask.encode(np.asfortranarray(region.astype(np.uint8)))
    return {"size": [int(side) for side in packed["size"]], "counts": packed["counts"].decode("ascii")}
