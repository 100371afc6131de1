"""YOLO annotations: a data.yaml that names classes and folders, and one text file a picture with relative boxes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Annotations
from dao.dataloaders.annotations.yolo_labels import LabelFiles
from dao.dataloaders.annotations.yolo_yaml import read_data_yaml, read_names
from dao.dataloaders.census import Census
from dao.dataloaders.datasets.base import raise_listed, read_text, resolve_path
from dao.dataloaders.guard import noting, reading
from dao.errors import DataError, nearest
from dao.images.image_io import is_image_name, read_hw
from dao.images.listing import find_images

BOX = 5  # numbers of a box: class, centre, size
FARTHEST = 2.0  # of a picture's side; a coordinate beyond it was written in pixels


def read_yolo(data_yaml: str | Path, split: str = "train", data_dir: str | Path | None = None) -> Annotations:
    """The pictures of a split and their boxes (or outlines, five numbers and more), in the order of names.

    data_dir: the folder that the yaml's paths start from; without it the yaml's ``path``, else the yaml's own folder.
    A label file is found as YOLO does it: the picture's path with the last ``images`` made ``labels``, ending in .txt;
    else beside the picture. A picture without one has nothing to be found; label files without a picture are counted.
    Raises DataError listing every line that cannot be understood.
    """
    file = Path(data_yaml)
    content = read_data_yaml(file)
    names = read_names(file, content)
    with reading(file, "data.yaml"):
        return _read(file, content, names, split, data_dir)


def _read(
    file: Path, content: dict[str, Any], names: dict[int, str], split: str, data_dir: str | Path | None
) -> Annotations:
    pictures = _pictures(file, content, split, Path(data_dir) if data_dir else None)
    images: list[AnnotatedImage] = []
    problems: list[str] = []
    census = Census()
    files = LabelFiles(pictures)
    keypoints = _keypoint_numbers(file, content)
    for path in pictures:
        hw, label_file = read_hw(path), files.find(path)
        image = AnnotatedImage(path, hw)
        if hw is not None and label_file is not None:
            image.objects = _read_labels(label_file, hw, names, keypoints, problems, census)
        images.append(image)
    for file_of_none in files.unclaimed():
        census.omit("label files that belong to no picture", str(file_of_none))
    raise_listed(str(file), problems, f"Classes of data.yaml: {', '.join(f'{k} {v}' for k, v in names.items())}.")
    if not images:
        raise DataError(f"{file}: split '{split}' has no picture")
    if census.omitted and not any(map(files.find, pictures)):
        raise DataError(f"{file}: no picture of split '{split}' has a label file, and {census.omissions()[0]}")
    return Annotations(images, list(names.values()), f"split '{split}' of {file}", census)


def _pictures(file: Path, content: dict[str, Any], split: str, data_dir: Path | None) -> list[str]:
    entries = content.get(split)
    if not entries:
        known = [
            key
            for key, value in content.items()
            if key not in ("names", "path", "nc") and isinstance(value, (str, list))
        ]
        raise DataError(f"{file} has no split '{split}'. {nearest(split, known)}")
    if not isinstance(content.get("path") or "", str):
        raise DataError(f"{file}: 'path' is no path")
    base = data_dir or file.parent / (content.get("path") or "")
    found: list[str] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        if not isinstance(entry, str):
            raise DataError(f"{file}: split '{split}' holds something that is no path: a {type(entry).__name__}")
        found += _entry(file, entry, base)
    return sorted(dict.fromkeys(found))


def _entry(file: Path, entry: str, base: Path) -> list[str]:
    """A folder, a list of pictures in a text file, or one picture."""
    place = Path(resolve_path(entry, base))
    if not place.exists() and entry.startswith("../"):  # exports of a common labelling site begin one folder too high
        place = Path(resolve_path(entry.removeprefix("../"), base))
    if place.is_dir():
        return list(find_images(place))
    if place.suffix == ".txt" and place.is_file():
        lines = (line.strip() for line in read_text(place, "list of pictures", names=True).splitlines())
        return [resolve_path(line, place.parent if line.startswith("./") else base) for line in lines if line]
    if is_image_name(place.name):
        return [os.fspath(place)]
    raise DataError(f"{file}: {place} is neither a folder nor a list of pictures (working directory: {Path.cwd()})")


def _keypoint_numbers(file: Path, content: dict[str, Any]) -> int:
    """How many numbers of keypoints follow each box: ``kpt_shape`` of a pose set; 0 where there is none."""
    shape = content.get("kpt_shape")
    if not shape:
        return 0
    if not isinstance(shape, list) or len(shape) != 2 or not all(isinstance(n, str) and n.isdecimal() for n in shape):
        raise DataError(
            f"{file}: 'kpt_shape' must be two numbers, of keypoints and of values for each; got {shape}"[:300]
        )
    return int(shape[0]) * int(shape[1])


def _read_labels(
    file: Path, hw: tuple[int, int], names: dict[int, str], keypoints: int, problems: list[str], census: Census
) -> list[AnnotatedObject]:
    found = []
    for number, line in enumerate(read_text(file, "label file").splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        with noting(problems, f"{file} line {number}"):
            if keypoints and len(fields) == BOX + keypoints:
                census.adjust("objects with keypoints, which are passed over", f"{file} line {number}")
                fields = fields[:BOX]
            elif keypoints and len(fields) != BOX:
                raise ValueError(f"expected a box and {keypoints} numbers of keypoints, got {len(fields)} numbers")
            found.append(_object(fields, hw, names))
    if len({bool(marked.polygons) for marked in found}) > 1:
        # no tool mixes them, but two boxes that lost the line end between them are an outline by their numbers
        census.adjust("label files that mix boxes and outlines, as where a line end is missing", str(file))
    return found


def _object(fields: list[str], hw: tuple[int, int], names: dict[int, str]) -> AnnotatedObject:
    try:
        values = [float(text) for text in fields]
    except ValueError:
        raise ValueError(f"expected numbers, got '{' '.join(fields)[:60]}'") from None
    if len(values) != BOX and (len(values) < 7 or len(values) % 2 == 0):
        raise ValueError(f"expected a class and a box (5 numbers) or an outline (7, 9, ...), got {len(values)} numbers")
    if values[0] not in names:
        raise ValueError(f"there is no class {fields[0]}")
    if any(abs(value) > FARTHEST for value in values[1:]):
        raise ValueError(f"coordinates are parts of the picture, 0 to 1; got {max(values[1:], key=abs):g}")
    height, width = hw
    label = names[int(values[0])]
    if len(values) > BOX:
        return AnnotatedObject(label, polygons=[np.array(values[1:], np.float64).reshape(-1, 2) * (width, height)])
    x, y, w, h = values[1:]
    box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
    return AnnotatedObject(label, box)
