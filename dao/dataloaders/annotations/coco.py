"""COCO annotation files: pictures, categories with ids of any numbering, boxes, polygons, run-length masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Annotations
from dao.dataloaders.datasets.base import raise_listed, read_text, resolve_path
from dao.errors import DataError


def read_coco(json_file: str | Path, data_dir: str | Path | None = None) -> Annotations:
    """The pictures and objects of a COCO file, classes in the order of their category ids.

    data_dir: folder that ``file_name`` starts from; without it the annotation file's own folder.
    Raises DataError for a file that is no COCO annotation, or whose parts do not fit together.
    """
    path = Path(json_file)
    content = parse_json(path, "COCO file")
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(_get(content, key), list)]
    if missing:
        raise DataError(f"{path} is not a COCO annotation file: it has no list called {', '.join(missing)}")
    folder = Path(data_dir) if data_dir else path.parent
    try:
        names = {int(c["id"]): str(c["name"]) for c in sorted(content["categories"], key=lambda c: int(c["id"]))}
        images = {
            image["id"]: AnnotatedImage(resolve_path(str(image["file_name"]), folder), _size(image))
            for image in content["images"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: a category or an image lacks a usable {error}") from None
    _refuse_twice(path, list(names.values()))
    problems = []
    for number, entry in enumerate(content["annotations"]):
        try:
            images[entry["image_id"]].objects.append(_object(entry, names))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            problems.append(_explain(number, entry, error, images, names))
    raise_listed(str(path), problems, "Every annotation needs an image_id, a category_id and a bbox that exist.")
    return Annotations(list(images.values()), list(names.values()), str(path))


def parse_json(path: Path, what: str) -> Any:
    """A JSON file's content. Raises DataError naming the file, and the place where it stops being JSON."""
    try:
        return json.loads(read_text(path, what))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: the {what} is not JSON: {error}") from None


def _get(content: Any, key: str) -> Any:
    return content.get(key) if isinstance(content, dict) else None


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    return (int(image["height"]), int(image["width"])) if image.get("height") and image.get("width") else None


def _refuse_twice(path: Path, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: categories share a name: {', '.join(twice)}; which one is meant cannot be known")


def _object(entry: dict[str, Any], names: dict[int, str]) -> AnnotatedObject:
    found = AnnotatedObject(names[int(entry["category_id"])], crowd=bool(entry.get("iscrowd", 0)))
    found.difficult = bool(entry.get("difficult", 0))  # not of COCO; our converter keeps it there
    found.area = None if entry.get("area") is None else float(entry["area"])
    if entry.get("bbox") is not None:
        left, top, width, height = (float(value) for value in entry["bbox"])
        found.box_xyxy = (left, top, left + width, top + height)
    shape = entry.get("segmentation")
    if isinstance(shape, dict):
        found.rle = {"size": list(shape["size"]), "counts": shape["counts"]}
    elif shape:
        found.polygons = [np.array(ring, np.float64).reshape(-1, 2) for ring in shape]
    if found.box_xyxy is None and found.rle is None and not found.polygons:
        raise ValueError("neither a bbox nor a segmentation")
    return found


def _explain(number: int, entry: Any, error: Exception, images: dict[Any, Any], names: dict[int, str]) -> str:
    place = f"annotation {number}"
    if not isinstance(entry, dict):
        return f"{place} is not an object"
    place = f"{place} (id {entry.get('id', 'none')})"
    if entry.get("image_id") not in images:
        return f"{place}: there is no image with id {entry.get('image_id')}"
    if isinstance(error, KeyError) and entry.get("category_id") not in names:
        known = ", ".join(f"{key} {name}" for key, name in list(names.items())[:10])
        return f"{place}: there is no category {entry.get('category_id')}; there are: {known}"
    return f"{place}: {error}"
