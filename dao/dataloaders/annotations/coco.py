"""COCO annotation files: pictures, categories with ids of any numbering, boxes, polygons, run-length masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dao.dataloaders.annotations.boxes import clip_box
from dao.dataloaders.annotations.coco_shape import rings_of
from dao.dataloaders.annotations.json_file import flag_of, key_of, number_of, parse_json, shown, size_of, text_of
from dao.dataloaders.annotations.regions import rle_area
from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Annotations
from dao.dataloaders.census import Census
from dao.dataloaders.datasets.base import raise_listed, resolve_path
from dao.dataloaders.guard import noting, reading
from dao.errors import DataError

Key = int | str


def read_coco(json_file: str | Path, data_dir: str | Path | None = None) -> Annotations:
    """The pictures and objects of a COCO file, classes in the order of their category ids.

    data_dir: folder that ``file_name`` starts from; without it the annotation file's own folder.
    Raises DataError for a file that is no COCO annotation, or whose parts do not fit together.
    """
    path = Path(json_file)
    content = parse_json(path, "COCO file")
    with reading(path, "COCO file"):
        missing = [key for key in ("images", "annotations", "categories") if not isinstance(_get(content, key), list)]
        if missing:
            raise DataError(f"{path} is not a COCO annotation file: it has no list called {', '.join(missing)}")
        names = _categories(path, content["categories"])
        images = _images(path, content["images"], Path(data_dir) if data_dir else path.parent)
        census = Census()
        _add_objects(path, content["annotations"], images, names, census)
        _refuse_shares(path, list(images.values()))
        return Annotations(list(images.values()), list(names.values()), str(path), census)


def _get(content: Any, key: str) -> Any:
    return content.get(key) if isinstance(content, dict) else None


def _categories(path: Path, entries: list[Any]) -> dict[Key, str]:
    """Names by id, in the order of the ids. Raises DataError where one is missing, or stands twice."""
    names: dict[Key, str] = {}
    problems: list[str] = []
    for number, entry in enumerate(entries):
        with noting(problems, f"category {number}"):
            key, name = key_of(_need(entry, "id"), "its id"), text_of(_need(entry, "name"), "its name")
            if key in names:
                raise ValueError(f"the categories '{names[key]}' and '{name}' share the id {key}")
            if name in names.values():
                raise ValueError(f"categories share a name: {name}; which one is meant cannot be known")
            names[key] = name
    raise_listed(str(path), problems, "Every category needs an id and a name of its own.")
    return {key: names[key] for key in sorted(names, key=lambda key: (isinstance(key, str), key))}


def _images(path: Path, entries: list[Any], folder: Path) -> dict[Key, AnnotatedImage]:
    images: dict[Key, AnnotatedImage] = {}
    first_of: dict[str, Key] = {}
    problems: list[str] = []
    for number, entry in enumerate(entries):
        with noting(problems, f"image {number}"):
            key, name = key_of(_need(entry, "id"), "its id"), _need(entry, "file_name")
            if not isinstance(name, str) or not name:
                raise ValueError(f"its file_name is no text: {shown(name)}")
            image = AnnotatedImage(resolve_path(name, folder), size_of(entry.get("height"), entry.get("width")))
            if key in images:
                raise ValueError(f"the images {images[key].path} and {image.path} share the id {key}")
            if image.path in first_of:
                raise ValueError(f"the images {first_of[image.path]} and {key} are the same file, {name}")
            images[key], first_of[image.path] = image, key
    raise_listed(str(path), problems, "Every image needs an id and a file_name of its own.")
    return images


def _add_objects(
    path: Path, entries: list[Any], images: dict[Key, AnnotatedImage], names: dict[Key, str], census: Census
) -> None:
    problems: list[str] = []
    seen: dict[Key, int] = {}
    for number, entry in enumerate(entries):
        given = entry.get("id", "none") if isinstance(entry, dict) else "none"
        with noting(problems, f"annotation {number} (id {shown(given)})"):
            image = images.get(key_of(_need(entry, "image_id"), "its image_id"))
            if image is None:
                raise ValueError(f"there is no image with id {shown(entry['image_id'])}")
            if entry.get("id") is not None:
                key = key_of(entry["id"], "its id")
                if seen.setdefault(key, number) != number:
                    raise ValueError(f"annotation {seen[key]} has the same id")
            marked = _object(entry, names, census, f"{image.path} object {len(image.objects) + image.lost}")
            image.lost += marked is None
            image.objects += [] if marked is None else [marked]
    raise_listed(str(path), problems, "Every annotation needs an image_id, a category_id and a bbox that exist.")


def _refuse_shares(path: Path, images: list[AnnotatedImage]) -> None:
    """Raise DataError where all boxes lie within one pixel: they are parts of the picture's sides, as YOLO writes them."""
    boxes = [marked.box_xyxy for image in images for marked in image.objects if marked.box_xyxy is not None]
    numbers = [value for box in boxes for value in box]
    if numbers and all(0 <= value <= 1 for value in numbers) and any(value % 1 for value in numbers):
        raise DataError(
            f"{path}: every bbox lies between 0 and 1, e.g. {list(boxes[0])}; COCO counts pixels: left, top, width, height. "
            "Multiply by the pictures' width and height"
        )


def _need(entry: Any, key: str) -> Any:
    if not isinstance(entry, dict):
        raise ValueError(f"is not an object: {shown(entry)}")
    if entry.get(key) is None:
        raise ValueError(f"it has no {key}")
    return entry[key]


def _object(entry: dict[str, Any], names: dict[Key, str], census: Census, place: str) -> AnnotatedObject | None:
    """An annotation; None, and named, where nothing is left of it. Raises ValueError for one that means nothing."""
    category = key_of(_need(entry, "category_id"), "its category_id")
    if category not in names:
        known = ", ".join(f"{key} {name}" for key, name in list(names.items())[:10])
        raise ValueError(f"there is no category {shown(category)}; there are: {known}")
    found = AnnotatedObject(names[category], crowd=flag_of(entry.get("iscrowd", 0), "iscrowd"))
    found.difficult = flag_of(entry.get("difficult", 0), "difficult")  # not of COCO; our converter keeps it there
    place = f"{place} ({found.label})"
    _take_area(found, entry.get("area"), census, place)
    box, shape = entry.get("bbox"), entry.get("segmentation")
    if box is not None:
        if not isinstance(box, list) or len(box) != 4:
            raise ValueError(f"its bbox is not four numbers: {shown(box)}")
        left, top, width, height = (number_of(value, "a number of its bbox") for value in box)
        found.box_xyxy = (left, top, left + width, top + height)
    if isinstance(shape, dict):
        found.rle = {"size": list(shape["size"]), "counts": shape["counts"]}
    elif shape is not None and shape != []:
        found.polygons = rings_of(shape)
    elif box is None:
        raise ValueError("neither a bbox nor a segmentation")
    return _with_region(found, bool(shape), census, place)


def _take_area(found: AnnotatedObject, given: Any, census: Census, place: str) -> None:
    """The area as stated; tools that do not know it write 0 or -1."""
    area = None if given is None else number_of(given, "its area")
    if area is not None and 0 < area < float("inf"):
        found.area = area
    elif area:
        census.adjust("areas that are no number of pixels, passed over", place)


def _with_region(found: AnnotatedObject, outlined: bool, census: Census, place: str) -> AnnotatedObject | None:
    """The object with what has a region: its box where the outline is empty, the outline's where the box is."""
    boxed = found.box_xyxy is not None and clip_box(found.box_xyxy, None)[0] is not None
    empty_mask = found.rle is not None and not rle_area(found.rle)
    if empty_mask or (outlined and found.rle is None and not found.polygons):
        found.rle = None
        if not boxed:
            census.omit("objects with an empty outline and no box left out", place)
            return None
        census.adjust("empty outlines, taken for their box", place)
    elif not boxed and found.box_xyxy is not None and (found.rle is not None or found.polygons):
        found.box_xyxy = None
        census.adjust("boxes without area, taken round their outline", place)
    return found
