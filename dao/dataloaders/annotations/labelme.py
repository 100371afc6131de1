"""LabelMe annotation files: one JSON beside each picture, with polygons, rectangles, circles and masks."""

from __future__ import annotations

import base64
import binascii
import math
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.dataloaders.annotations.coco import parse_json
from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Annotations, encode_rle
from dao.dataloaders.datasets.base import derive_classes, raise_listed, resolve_path
from dao.dataloaders.datasets.image_io import IMAGE_EXTENSIONS
from dao.dataloaders.files import files_below
from dao.errors import DataError

CIRCLE_POINTS = 64  # corners that a circle is drawn with
IGNORED_SHAPES = ("point", "line", "linestrip", "points")  # without an area


def read_labelme(folder: str | Path, images_dir: str | Path | None = None, recursive: bool = True) -> Annotations:
    """Every LabelMe file of a folder, in the order of names, with its picture; and pictures without a file, which are
    taken for pictures where nothing was marked.

    images_dir: where pictures lie when not beside their JSON files. Classes are all labels, sorted.
    Raises DataError listing every file that is not LabelMe's or has a shape it cannot draw.
    """
    where = Path(folder)
    if not where.is_dir():
        raise DataError(f"{where}: the folder of LabelMe files does not exist (working directory: {Path.cwd()})")
    pictures_dir = Path(images_dir) if images_dir else None
    files = files_below(where, (".json",), recursive)
    images, problems = [], []
    for file in files:
        try:
            images.append(_read(file, pictures_dir))
        except (DataError, ValueError) as error:
            problems.append(str(error) if str(file) in str(error) else f"{file}: {error}")
    raise_listed(str(where), problems, "Save the picture in LabelMe once more, or remove the file.")
    images += _unmarked(pictures_dir or where, {os.path.normcase(image.path) for image in images}, recursive)
    if not images:
        raise DataError(f"{where}: no LabelMe file (*.json) and no picture was found there")
    labels = {marked.label for image in images for marked in image.objects}
    return Annotations(sorted(images, key=lambda image: image.path), derive_classes(labels), str(where))


def _unmarked(folder: Path, known: set[str], recursive: bool) -> list[AnnotatedImage]:
    pictures = map(str, files_below(folder, IMAGE_EXTENSIONS, recursive))
    return [AnnotatedImage(path) for path in pictures if os.path.normcase(path) not in known]


def _read(file: Path, images_dir: Path | None) -> AnnotatedImage:
    content = parse_json(file, "LabelMe file")
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list) or not content.get("imagePath"):
        raise DataError(f"{file} is not a LabelMe file: it needs 'shapes' and 'imagePath'")
    name = str(content["imagePath"]).replace("\\", "/")
    path = resolve_path(Path(name).name if images_dir else name, images_dir or file.parent)
    height, width = content.get("imageHeight"), content.get("imageWidth")
    hw = (int(height), int(width)) if height and width else None
    shapes = [_shape(number, shape, hw) for number, shape in enumerate(content["shapes"])]
    return AnnotatedImage(path, hw, [shape for shape in shapes if shape is not None])


def _shape(number: int, shape: dict[str, Any], hw: tuple[int, int] | None) -> AnnotatedObject | None:
    label = str(shape.get("label", "")).strip()
    if not label:
        raise ValueError(f"shape {number} has no label")
    kind = shape.get("shape_type") or "polygon"
    if kind in IGNORED_SHAPES:
        return None
    try:
        points = np.array(shape["points"], np.float64).reshape(-1, 2)
    except (KeyError, ValueError):
        raise ValueError(f"shape {number} ({label}) has no list of points") from None
    found = _with_area(number, label, kind, points, shape, hw)
    flags = shape.get("flags") or {}
    found.difficult, found.crowd = bool(flags.get("difficult", False)), bool(flags.get("crowd", False))
    return found


def _with_area(
    number: int,
    label: str,
    kind: str,
    points: NDArray[np.float64],
    shape: dict[str, Any],
    hw: tuple[int, int] | None,
) -> AnnotatedObject:
    needs = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2}
    if kind not in needs:
        raise ValueError(f"shape {number} ({label}) is a '{kind}'; known are {', '.join(needs)}")
    if len(points) < needs[kind]:
        raise ValueError(f"shape {number} ({label}) is a {kind} of {len(points)} points; it needs {needs[kind]}")
    if not np.isfinite(points).all():
        raise ValueError(f"shape {number} ({label}) has a point that is no number")
    if kind == "polygon":
        return AnnotatedObject(label, polygons=[points])
    if kind == "circle":
        return AnnotatedObject(label, polygons=[circle(points[0], points[1])])
    (left, top), (right, bottom) = points[:2].min(0), points[:2].max(0)
    if kind == "rectangle":
        return AnnotatedObject(label, (float(left), float(top), float(right), float(bottom)))
    # a mask's second point is its last pixel, not the edge behind it
    box = (float(left), float(top), float(right) + 1, float(bottom) + 1)
    return AnnotatedObject(label, box, rle=_mask(number, label, shape, (round(left), round(top)), hw))


def circle(centre: NDArray[np.float64], on_edge: NDArray[np.float64]) -> NDArray[np.float64]:
    """(CIRCLE_POINTS, 2): the circle that LabelMe stores as its centre and one point on its edge."""
    radius = math.dist(centre, on_edge)
    angles = np.arange(CIRCLE_POINTS) * (2 * math.pi / CIRCLE_POINTS)
    return centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _mask(
    number: int, label: str, shape: dict[str, Any], corner_xy: tuple[int, int], hw: tuple[int, int] | None
) -> dict[str, Any]:
    """A drawn mask, stored as a PNG of its box, as a run-length mask of the whole picture."""
    if hw is None:
        raise ValueError(f"shape {number} ({label}) is a mask, and the file does not say how large its picture is")
    try:
        packed = np.frombuffer(base64.b64decode(shape["mask"], validate=True), np.uint8)
    except (KeyError, TypeError, binascii.Error):
        packed = np.zeros(0, np.uint8)
    patch = cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE) if packed.size else None
    if patch is None:
        raise ValueError(f"shape {number} ({label}) is a mask whose picture cannot be read")
    left, top = corner_xy
    canvas = np.zeros(hw, bool)
    part = canvas[max(top, 0) : top + patch.shape[0], max(left, 0) : left + patch.shape[1]]
    part[:] = patch[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]] > 0
    return encode_rle(canvas)
