"""What an annotation file says, whatever its format: pictures, and the objects marked in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.dataloaders.annotations.regions import Box, decode_rle, fill, fill_box
from dao.dataloaders.census import Census


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
    """One picture of an annotation file. hw: height and width where the file states them.

    lost: objects of the file that could not be taken; a picture that lost all that it had shows no good part.
    """

    path: str
    hw: tuple[int, int] | None = None
    objects: list[AnnotatedObject] = field(default_factory=list)
    lost: int = 0


@dataclass(slots=True)
class Annotations:
    """A whole annotation file or folder. classes: names in the file's own order; source: for messages; census: what
    the files held and the reader did not take as it was written."""

    images: list[AnnotatedImage]
    classes: list[str]
    source: str
    census: Census = field(default_factory=Census)
