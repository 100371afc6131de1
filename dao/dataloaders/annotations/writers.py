"""Annotations written in the four formats of the field, and what each of them has no place for.

Every writer takes cleaned annotations (boxes inside their pictures, sizes known), the folder of the set, the split's
name and where each picture lies in the set, and returns one sentence for each kind of thing that was lost.
"""

from __future__ import annotations

import base64
import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from dao.dataloaders.annotations.boxes import box_of
from dao.dataloaders.annotations.placing import Place, count_text, number, objects, outlined, write_text
from dao.dataloaders.annotations.regions import outline_area, rle_area
from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Annotations, Box
from dao.dataloaders.annotations.voc_xml import LABELS_FILE, read_labels
from dao.dataloaders.annotations.yolo_yaml import read_data_yaml, read_names
from dao.errors import DataError

YOLO_FILE = "data.yaml"
TIGHT = 0.5  # pixels by which a box may differ from its outline's and still be the same


Writer = Callable[..., list[str]]  # (annotations, out, split, places) -> what was lost


# -- COCO ------------------------------------------------------------------------------------------------------------


def write_coco(annotations: Annotations, out: Path, split: str, places: Sequence[Place]) -> list[str]:
    """``annotations/instances_<split>.json``; ``difficult`` is a key of ours, which other software passes over."""
    images, rows, file = [], [], out / "annotations" / f"instances_{split}.json"
    for key, (image, place) in enumerate(zip(annotations.images, places, strict=True), start=1):
        height, width = image.hw or (0, 0)
        name = place.name if place.inside else place.seen_from(file.parent)
        images.append({"id": key, "file_name": name, "width": width, "height": height})
        rows += [_coco_object(marked, key, image, annotations.classes) for marked in image.objects]
    for key, row in enumerate(rows, start=1):
        row["id"] = key
    categories = [{"id": i, "name": name} for i, name in enumerate(annotations.classes, start=1)]
    content = {"images": images, "annotations": rows, "categories": categories}
    write_text(file, json.dumps(content) + "\n")
    return count_text(
        sum(marked.difficult for marked in objects(annotations)),
        "objects are marked 'difficult', a key that only AICore reads",
    )


def _coco_object(
    marked: AnnotatedObject, image_id: int, image: AnnotatedImage, classes: Sequence[str]
) -> dict[str, Any]:
    left, top, right, bottom = box_of(marked)
    shape: Any = [[number(value) for value in ring.reshape(-1)] for ring in marked.polygons]
    row = {
        "id": 0,
        "image_id": image_id,
        "category_id": classes.index(marked.label) + 1,
        "bbox": [number(value) for value in (left, top, right - left, bottom - top)],
        "area": number(area_of(marked, image.hw)),
        "iscrowd": int(marked.crowd),
        "segmentation": marked.rle if marked.rle is not None else shape,
    }
    return {**row, "difficult": 1} if marked.difficult else row


def area_of(marked: AnnotatedObject, hw: tuple[int, int] | None) -> float:
    """Pixels of the object's mask or outline, else of its box."""
    if marked.rle is not None:
        return float(rle_area(marked.rle))
    if marked.polygons and hw is not None:
        return float(outline_area(marked.polygons, hw))
    left, top, right, bottom = box_of(marked)
    return (right - left) * (bottom - top)


# -- Pascal VOC ------------------------------------------------------------------------------------------------------


def write_voc(annotations: Annotations, out: Path, split: str, places: Sequence[Place]) -> list[str]:
    """``Annotations/<split>/*.xml``, ``ImageSets/Main/<split>.txt``, and ``labels.txt``, which keeps the classes' order."""
    stems = []
    for image, place in zip(annotations.images, places, strict=True):
        stem = f"{split}/{os.path.splitext(place.name)[0]}"  # noqa: PTH122 (a name, not a path)
        file = out / "Annotations" / f"{stem}.xml"
        name = os.path.basename(place.name) if place.inside else place.seen_from(file.parent)  # noqa: PTH119
        write_text(file, _voc_file(image, name, os.path.dirname(place.name)))  # noqa: PTH120
        stems.append(stem)
    write_text(out / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))
    write_text(out / LABELS_FILE, "".join(f"{name}\n" for name in annotations.classes))
    every = objects(annotations)
    return [
        *count_text(sum(outlined(marked) for marked in every), "outlines or masks: VOC has boxes alone"),
        *count_text(
            sum(marked.crowd for marked in every), "boxes of several objects (crowd), marked 'difficult' instead"
        ),
    ]


def _voc_file(image: AnnotatedImage, name: str, folder: str) -> str:
    root = ET.Element("annotation")
    _text(root, "folder", folder)
    _text(root, "filename", name)
    size = ET.SubElement(root, "size")
    height, width = image.hw or (0, 0)
    for key, value in (("width", width), ("height", height), ("depth", 3)):
        _text(size, key, str(value))
    _text(root, "segmented", "0")
    for marked in image.objects:
        node = ET.SubElement(root, "object")
        flags = (("pose", "Unspecified"), ("truncated", "0"), ("difficult", str(int(marked.difficult or marked.crowd))))
        for key, text in (("name", marked.label), *flags):
            _text(node, key, text)
        box = ET.SubElement(node, "bndbox")
        for key, side in zip(("xmin", "ymin", "xmax", "ymax"), box_of(marked), strict=True):
            _text(box, key, str(number(side)))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _text(parent: ET.Element, tag: str, text: str) -> None:
    """An element. Bytes of a file's name that are no UTF-8 have no place in XML: the file's own name finds the picture."""
    ET.SubElement(parent, tag).text = text.encode("utf-8", "replace").decode("utf-8")


# -- YOLO ------------------------------------------------------------------------------------------------------------


def write_yolo(
    annotations: Annotations, out: Path, split: str, places: Sequence[Place], outlines: bool = False
) -> list[str]:
    """``labels/<split>/*.txt`` and ``data.yaml``. Boxes that need not be found are left out: there is no mark for them.

    outlines: write outlines instead of boxes, of a box its four corners; most readers want one kind in a file.
    """
    file = out / YOLO_FILE
    content: dict[str, Any] = read_data_yaml(file) if file.is_file() else {"path": "."}
    content["names"] = dict(
        enumerate(annotations.classes)
    )  # those of the file, which `refuse_other_classes` has seen to
    content[split] = f"images/{split}"
    for image, place in zip(annotations.images, places, strict=True):
        asked = [marked for marked in image.objects if not _unasked(marked)]
        lines = [_yolo_line(marked, image, annotations.classes, outlines) for marked in asked]
        stem = os.path.splitext(place.name)[0]  # noqa: PTH122 (a name, not a path)
        write_text(out / "labels" / split / f"{stem}.txt", "".join(lines))
    write_text(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    every = objects(annotations)
    boxed = sum(outlined(m) and not _unasked(m) and not (outlines and _single(m)) for m in every)
    return [
        *count_text(boxed, "outlines or masks: the box round each was written"),
        *count_text(sum(map(_unasked, every)), "boxes that need not be found (crowd, difficult): left out altogether"),
    ]


def _unasked(marked: AnnotatedObject) -> bool:
    return marked.crowd or marked.difficult


def _single(marked: AnnotatedObject) -> bool:
    """Whether the object is one outline, no more and no mask."""
    return len(marked.polygons) == 1 and marked.rle is None


def _yolo_line(marked: AnnotatedObject, image: AnnotatedImage, classes: Sequence[str], outlines: bool) -> str:
    left, top, right, bottom = box_of(marked)
    height, width = image.hw or (0, 0)
    if outlines:
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        ring = marked.polygons[0] if _single(marked) else corners
        values = (ring / (width, height)).reshape(-1).tolist()
    else:
        centre = ((left + right) / 2 / width, (top + bottom) / 2 / height)
        values = [*centre, (right - left) / width, (bottom - top) / height]
    return " ".join([str(classes.index(marked.label)), *(f"{value:.12g}" for value in values)]) + "\n"


# -- LabelMe ---------------------------------------------------------------------------------------------------------


def write_labelme(annotations: Annotations, out: Path, split: str, places: Sequence[Place]) -> list[str]:
    """``<split>/*.json``: rectangles, polygons where an object has one outline, masks where it has several or a mask."""
    moved = joined = 0
    for image, place in zip(annotations.images, places, strict=True):
        file = out / split / Path(place.name).with_suffix(".json")
        height, width = image.hw or (0, 0)
        shapes = []
        for marked in image.objects:
            shape, box = _labelme_shape(marked, image)
            shapes.append(shape)
            moved += max(abs(a - b) for a, b in zip(box, box_of(marked), strict=True)) > TIGHT
            joined += len(marked.polygons) > 1 and marked.rle is None
        content = {
            "version": "5.0.1",
            "flags": {},
            "shapes": shapes,
            "imagePath": place.seen_from(file.parent),
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        write_text(file, json.dumps(content, indent=2) + "\n")
    unused = set(annotations.classes) - {marked.label for marked in objects(annotations)}
    order = annotations.classes != sorted(annotations.classes)
    return [
        *count_text(moved, "boxes that differ from their outline: LabelMe keeps the outline, and its box is read back"),
        *count_text(joined, "objects of several outlines became masks"),
        *count_text(len(unused), f"classes without an object, not mentioned: {', '.join(sorted(unused))}"),
        *(["the order of the classes: give it as 'classes' when reading"] if order else []),
    ]


def _labelme_shape(marked: AnnotatedObject, image: AnnotatedImage) -> tuple[dict[str, Any], Box]:
    """A shape, and the box that will be read from it."""
    shape: dict[str, Any] = {"label": marked.label, "group_id": None, "description": ""}
    shape["flags"] = {key: True for key, is_set in (("difficult", marked.difficult), ("crowd", marked.crowd)) if is_set}
    if not outlined(marked):
        box = box_of(marked)
        points = [[number(box[0]), number(box[1])], [number(box[2]), number(box[3])]]
        return {**shape, "shape_type": "rectangle", "points": points, "mask": None}, box
    if marked.rle is None and len(marked.polygons) == 1:
        ring = marked.polygons[0]
        points = [[number(x), number(y)] for x, y in ring]
        box = (*ring.min(0).tolist(), *ring.max(0).tolist())
        return {**shape, "shape_type": "polygon", "points": points, "mask": None}, box
    if image.hw is None:
        raise DataError(f"{image.path}: its size is not known, so a mask of it cannot be written")
    region = marked.region(image.hw)
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if not len(rows):
        raise DataError(f"{image.path}: an object ({marked.label}) has an empty mask")
    left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])
    patch = region[top : bottom + 1, left : right + 1].astype(np.uint8) * 255
    packed = base64.b64encode(cv2.imencode(".png", patch)[1].tobytes()).decode("ascii")
    shape |= {"shape_type": "mask", "points": [[left, top], [right, bottom]], "mask": packed}
    return shape, (left, top, right + 1, bottom + 1)


# -- all of them -----------------------------------------------------------------------------------------------------


def refuse_other_classes(kind: str, out: Path, classes: Sequence[str]) -> None:
    """Raise DataError where the set that a split is added to has other classes, or another order of them."""
    known: list[str] = []
    if kind == "voc":
        known = read_labels(out / "Annotations") if (out / LABELS_FILE).is_file() else []
    elif kind == "yolo" and (out / YOLO_FILE).is_file():
        known = list(read_names(out / YOLO_FILE, read_data_yaml(out / YOLO_FILE)).values())
    if known and known != list(classes):
        raise DataError(
            f"{out} has the classes {', '.join(known)}, and this split has {', '.join(classes)}; one set has one order "
            "of names: give it with --classes, or choose another --out"
        )


# format: its writer, where pictures lie in the set, and the file or folder that a split fills
WRITERS: dict[str, tuple[Writer, str, str]] = {
    "coco": (write_coco, "images/{split}", "annotations/instances_{split}.json"),
    "voc": (write_voc, "JPEGImages/{split}", "Annotations/{split}"),
    "yolo": (write_yolo, "images/{split}", "labels/{split}"),
    "labelme": (write_labelme, "{split}", "{split}"),
}
