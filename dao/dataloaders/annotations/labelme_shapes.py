"""The shapes of a LabelMe file as objects: areas as they are, lines with a width, groups as one."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.dataloaders.annotations.coco_shape import refuse_far
from dao.dataloaders.annotations.json_file import flag_of, shown, text_of
from dao.dataloaders.annotations.regions import decode_rle, encode_rle, rle_area, rle_of_patch
from dao.dataloaders.annotations.structures import AnnotatedObject
from dao.dataloaders.census import Census
from dao.dataloaders.guard import noting

CIRCLE_POINTS = 64  # corners that a circle is drawn with
AREAS = {"polygon": 3, "rotation": 3, "oriented_rectangle": 3, "rectangle": 2, "circle": 2, "mask": 2}  # points needed
OUTLINES = ("polygon", "rotation", "oriented_rectangle")
LINES = {"line": 2, "linestrip": 2, "point": 1, "points": 1}  # without an area of their own
Hw = tuple[int, int]
Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape as written. found: the object that it is; None for one without an area."""

    number: int
    label: str
    kind: str
    group: int | str | None
    found: AnnotatedObject | None


def read_shapes(
    shapes: Sequence[Any], hw: Hw | None, line_width: float | None, census: Census, name: str
) -> tuple[list[AnnotatedObject], int, list[str]]:
    """The objects of a file's shapes, how many were lost, and what is wrong with it, one line each.

    Shapes of one label and ``group_id`` are one object. Lines and points are drawn ``line_width`` pixels wide; without
    it they are lost, and named, unless their group has an area, whose keypoints they are. name: the file, for messages.
    """
    read: list[Shape] = []
    problems: list[str] = []
    for number, shape in enumerate(shapes):
        with noting(problems, f"shape {number}"):
            read.append(_shape(number, shape, hw, line_width))
    outlined = {shape.group for shape in read if shape.group is not None and shape.found is not None}
    lost = 0
    grouped: dict[Any, AnnotatedObject] = {}
    for shape in read:
        place = f"{name} shape {shape.number} ({shape.label})"
        if shape.found is None and shape.group in outlined:
            census.adjust("shapes without an area, of a group that has one, passed over", place)
        elif shape.found is None:
            census.omit(f"shapes without an area ({shape.kind}) left out; line_width draws them", place)
            lost += 1
        elif shape.found.rle is not None and not rle_area(shape.found.rle):
            census.omit("masks without a pixel left out", place)
            lost += 1
        else:
            key = (shape.label, shape.group) if shape.group is not None else (shape.number,)
            grouped[key] = joined(grouped[key], shape.found, hw) if key in grouped else shape.found
    return list(grouped.values()), lost, problems


def _shape(number: int, shape: Any, hw: Hw | None, line_width: float | None) -> Shape:
    if not isinstance(shape, dict):
        raise ValueError(f"it is no object: {shown(shape)}")
    label = text_of(shape.get("label") or "", "its label").strip()
    if not label:
        raise ValueError(f"shape {number} has no label")
    kind = text_of(shape.get("shape_type") or "polygon", "its shape_type")
    group = shape.get("group_id")
    if group is not None and (isinstance(group, bool) or not isinstance(group, (int, str))):
        raise ValueError(f"shape {number} ({label}) has a group_id that is no number: {shown(group)}")
    try:
        points = np.array(shape["points"], np.float64)
    except (KeyError, ValueError, TypeError, OverflowError):
        raise ValueError(f"shape {number} ({label}) has no list of points") from None
    if points.ndim == 2 and points.shape[1] != 2:
        raise ValueError(f"shape {number} ({label}) has points of {points.shape[1]} numbers; x and y are two")
    if points.size % 2:
        raise ValueError(f"shape {number} ({label}) has no list of points")
    points = points.reshape(-1, 2)
    found = _object(f"shape {number} ({label})", label, kind, points, shape, hw, line_width)
    flags = shape.get("flags") or {}
    if found is not None and isinstance(flags, dict):
        found.difficult = flag_of(flags.get("difficult", False), "the flag 'difficult'")
        found.crowd = flag_of(flags.get("crowd", False), "the flag 'crowd'")
    return Shape(number, label, kind, group, found)


def _object(
    what: str, label: str, kind: str, points: Points, shape: dict[str, Any], hw: Hw | None, line_width: float | None
) -> AnnotatedObject | None:
    needs = AREAS | LINES
    if kind not in needs:
        raise ValueError(f"{what} is a '{kind}'; known are {', '.join(needs)}")
    if len(points) < needs[kind]:
        raise ValueError(f"{what} is a {kind} of {len(points)} points; it needs {needs[kind]}")
    if not np.isfinite(points).all():
        raise ValueError(f"{what} has a point that is no number")
    refuse_far(points)
    if kind in LINES:
        return AnnotatedObject(label, polygons=strokes(points, line_width, kind)) if line_width else None
    if kind in OUTLINES:
        return AnnotatedObject(label, polygons=[points])
    if kind == "circle":
        return AnnotatedObject(label, polygons=[circle(points[0], points[1])])
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    if kind == "rectangle":
        return AnnotatedObject(label, (left, top, right, bottom))
    # a mask's second point is its last pixel, not the edge behind it
    return AnnotatedObject(
        label, (left, top, right + 1, bottom + 1), rle=_mask(what, shape, (round(left), round(top)), hw)
    )


def circle(centre: Points, on_edge: Points) -> Points:
    """(CIRCLE_POINTS, 2): the circle that LabelMe stores as its centre and one point on its edge."""
    return disc(centre, math.dist(centre, on_edge))


def disc(centre: Points, radius: float) -> Points:
    """(CIRCLE_POINTS, 2): the outline of a circle."""
    angles = np.arange(CIRCLE_POINTS) * (2 * math.pi / CIRCLE_POINTS)
    return centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def strokes(points: Points, width: float, kind: str) -> list[Points]:
    """Outlines that together are the line through points (P, 2), ``width`` pixels wide with round ends, or a disc of
    that width round each point."""
    half = width / 2
    outlines = [disc(point, half) for point in points]
    for start, end in pairwise(points) if kind in ("line", "linestrip") else ():
        length = math.dist(start, end)
        if length:
            across = np.array([start[1] - end[1], end[0] - start[0]]) * (half / length)
            outlines.append(np.stack([start + across, end + across, end - across, start - across]))
    return outlines


def joined(one: AnnotatedObject, other: AnnotatedObject, hw: Hw | None) -> AnnotatedObject:
    """Two shapes as the one object that their group says they are: regions together, the box round both."""
    flags = {"crowd": one.crowd or other.crowd, "difficult": one.difficult or other.difficult}
    if one.rle is not None or other.rle is not None:
        if hw is None:
            raise ValueError("a group holds a mask, and the file does not say how large its picture is")
        return replace(one, box_xyxy=None, polygons=[], rle=encode_rle(_region(one, hw) | _region(other, hw)), **flags)
    return replace(one, box_xyxy=None, polygons=_outlines(one) + _outlines(other), **flags)


def _region(marked: AnnotatedObject, hw: Hw) -> NDArray[np.bool_]:
    return decode_rle(marked.rle, hw) if marked.rle is not None else marked.region(hw)


def _outlines(marked: AnnotatedObject) -> list[Points]:
    if marked.polygons or marked.box_xyxy is None:
        return marked.polygons
    left, top, right, bottom = marked.box_xyxy
    return [np.array([[left, top], [right, top], [right, bottom], [left, bottom]])]


def _mask(what: str, shape: dict[str, Any], corner_xy: tuple[int, int], hw: Hw | None) -> dict[str, Any]:
    """A drawn mask, stored as a PNG of its box, as a run-length mask of the whole picture."""
    if hw is None:
        raise ValueError(f"{what} is a mask, and the file does not say how large its picture is")
    patch = _decoded(shape.get("mask"), hw)
    if patch is None:
        raise ValueError(f"{what} is a mask whose picture cannot be read")
    return rle_of_patch(patch > 0, corner_xy, hw)


def _decoded(packed: Any, hw: Hw) -> NDArray[np.uint8] | None:
    """The picture of a mask; None for what is none, or larger than the picture that it is a part of."""
    from PIL import Image

    try:
        data = base64.b64decode(packed, validate=True)
        with Image.open(io.BytesIO(data)) as opened:
            if opened.width > hw[1] + 1 or opened.height > hw[0] + 1:
                return None
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except Exception:  # Pillow raises many kinds for damaged files
        return None
