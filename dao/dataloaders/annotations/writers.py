"""Annotations written in the four formats. What a format cannot hold is counted and told, never dropped in silence."""

from __future__ import annotations

import base64
import json
import os
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from dao.dataloaders.annotations.boxes import box_of
from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Annotations, decode_rle
from dao.dataloaders.datasets.image_io import read_hw
from dao.errors import DataError

Lost = Counter[str]  # what could not be written, by kind
OUTLINE, MASK, CROWD, DIFFICULT = "outlines", "drawn masks", "crowd marks", "difficult marks"


def write_coco(found: Annotations, out: Path, names: dict[str, str]) -> Lost:
    """``annotations.json``. names: a picture's path -> what it is called from ``out``. Ids count from 1.

    COCO has no mark for difficult objects.
    """
    lost: Lost = Counter()
    ids = {name: number for number, name in enumerate(found.classes, start=1)}
    images, annotations = [], []
    for number, image in enumerate(found.images, start=1):
        height, width = size_of(image)
        images.append({"id": number, "file_name": names[image.path], "height": height, "width": width})
        for marked in image.objects:
            lost[DIFFICULT] += marked.difficult
            row = {"id": len(annotations) + 1, "image_id": number, "category_id": ids[marked.label]}
            annotations.append({**row, **_coco_shape(marked), "iscrowd": int(marked.crowd)})
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_text(out / "annotations.json", json.dumps(content, indent=1) + "\n")
    return lost


def _coco_shape(marked: AnnotatedObject) -> dict[str, Any]:
    left, top, right, bottom = box_of(marked)
    shape: dict[str, Any] = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
    if marked.rle is not None:
        counts = marked.rle["counts"]
        text = counts.decode("ascii") if isinstance(counts, bytes) else counts
        shape["segmentation"] = {"size": list(marked.rle["size"]), "counts": text}
    elif marked.polygons:
        shape["segmentation"] = [polygon.reshape(-1).tolist() for polygon in marked.polygons]
    return shape


def write_voc(found: Annotations, out: Path, names: dict[str, str]) -> Lost:
    """``Annotations/<name>.xml`` for each picture, and labels.txt with the order of classes. Boxes alone."""
    lost: Lost = Counter()
    for image in found.images:
        height, width = size_of(image)
        root = ET.Element("annotation")
        ET.SubElement(root, "filename").text = names[image.path]
        size = ET.SubElement(root, "size")
        for key, value in (("width", width), ("height", height), ("depth", 3)):
            ET.SubElement(size, key).text = str(value)
        for marked in image.objects:
            lost.update({OUTLINE: bool(marked.polygons), MASK: marked.rle is not None, CROWD: marked.crowd})
            node = ET.SubElement(root, "object")
            ET.SubElement(node, "name").text = marked.label
            ET.SubElement(node, "difficult").text = str(int(marked.difficult))
            box = ET.SubElement(node, "bndbox")
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box_of(marked)):
                ET.SubElement(box, key).text = f"{value:.10g}"
        ET.indent(root)
        write_text(
            _beside(out / "Annotations", names[image.path], ".xml"), ET.tostring(root, encoding="unicode") + "\n"
        )
    write_text(out / "Annotations" / "labels.txt", "\n".join(found.classes) + "\n")
    return lost


def write_yolo(found: Annotations, out: Path, names: dict[str, str]) -> Lost:
    """``labels/<name>.txt`` for each picture that has objects, and data.yaml. Pictures must lie in ``images/``."""
    lost: Lost = Counter()
    for image in found.images:
        rows = []
        for marked in image.objects:
            several = len(marked.polygons) > 1
            lost.update(
                {OUTLINE: several, MASK: marked.rle is not None, CROWD: marked.crowd, DIFFICULT: marked.difficult}
            )
            rows.append(_yolo_row(marked, found.classes.index(marked.label), size_of(image)))
        if rows:
            name = names[image.path].removeprefix("images/")
            write_text(_beside(out / "labels", name, ".txt"), "\n".join(rows) + "\n")
    content = {"path": ".", "train": "images", "names": dict(enumerate(found.classes))}
    write_text(out / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return lost


def _yolo_row(marked: AnnotatedObject, label: int, hw: tuple[int, int]) -> str:
    height, width = hw
    if len(marked.polygons) == 1:
        values = (marked.polygons[0] / (width, height)).reshape(-1).tolist()
    else:
        left, top, right, bottom = box_of(marked)
        centre = ((left + right) / 2 / width, (top + bottom) / 2 / height)
        values = [*centre, (right - left) / width, (bottom - top) / height]
    return " ".join([str(label), *(f"{value:.10g}" for value in values)])


def write_labelme(found: Annotations, out: Path, names: dict[str, str]) -> Lost:
    """``<name>.json`` for each picture: rectangles, polygons (several of one object share a group_id), masks."""
    lost: Lost = Counter()
    for image in found.images:
        height, width = size_of(image)
        shapes: list[dict[str, Any]] = []
        for number, marked in enumerate(image.objects):
            lost.update({CROWD: marked.crowd, "objects of several outlines": len(marked.polygons) > 1})
            shapes += _labelme_shapes(marked, number, (height, width))
        file = _beside(out, names[image.path], ".json")
        picture = os.path.relpath(out / names[image.path], file.parent)
        content = {"version": "5.0.0", "flags": {}, "shapes": shapes, "imagePath": picture, "imageData": None}
        write_text(file, json.dumps({**content, "imageHeight": height, "imageWidth": width}, indent=1) + "\n")
    return lost


def _labelme_shapes(marked: AnnotatedObject, number: int, hw: tuple[int, int]) -> list[dict[str, Any]]:
    flags = {"difficult": True} if marked.difficult else {}
    common = {"label": marked.label, "flags": flags, "group_id": None}
    left, top, right, bottom = box_of(marked)
    if marked.polygons:
        group = number if len(marked.polygons) > 1 else None
        return [
            {**common, "group_id": group, "shape_type": "polygon", "points": polygon.tolist()}
            for polygon in marked.polygons
        ]
    if marked.rle is None:
        return [{**common, "shape_type": "rectangle", "points": [[left, top], [right, bottom]]}]
    x0, y0, x1, y1 = round(left), round(top), round(right), round(bottom)
    part = decode_rle(marked.rle, hw)[y0:y1, x0:x1].astype(np.uint8) * 255
    drawn = base64.b64encode(cv2.imencode(".png", part)[1].tobytes()).decode("ascii")
    return [{**common, "shape_type": "mask", "points": [[x0, y0], [x1 - 1, y1 - 1]], "mask": drawn}]


WRITERS: dict[str, Callable[[Annotations, Path, dict[str, str]], Lost]] = {
    "coco": write_coco,
    "voc": write_voc,
    "yolo": write_yolo,
    "labelme": write_labelme,
}


def size_of(image: AnnotatedImage) -> tuple[int, int]:
    """Height and width as the annotations state them, else by the picture's head. Raises DataError without either."""
    hw = image.hw or read_hw(image.path)
    if hw is None:
        raise DataError(f"{image.path}: the picture's size is not in its annotations, and the picture cannot be read")
    return hw


def _beside(folder: Path, name: str, suffix: str) -> Path:
    return (folder / name).with_suffix(suffix)


def write_text(path: Path, text: str) -> None:
    """A UTF-8 text file, folders included. Raises DataError when the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(f"{path} could not be written: {error.strerror or error}") from None
