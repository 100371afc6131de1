"""YOLO annotations: a data.yaml that names classes and folders, and one text file a picture with relative boxes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Annotations
from dao.dataloaders.datasets.base import raise_listed, read_text, resolve_path
from dao.dataloaders.datasets.folder import find_images
from dao.dataloaders.datasets.image_io import is_image_name, read_hw
from dao.errors import DataError, nearest

FARTHEST = 2.0  # of a picture's side; a coordinate beyond it was written in pixels


def read_yolo(data_yaml: str | Path, split: str = "train", data_dir: str | Path | None = None) -> Annotations:
    """The pictures of a split and their boxes (or outlines, five numbers and more), in the order of names.

    data_dir: the folder that the yaml's paths start from; without it the yaml's ``path``, else the yaml's own folder.
    A label file is found as YOLO does it: the picture's path with the last ``images`` made ``labels``, ending in .txt.
    A picture without one has nothing to be found. Raises DataError listing every line that cannot be understood.
    """
    file = Path(data_yaml)
    content = read_data_yaml(file)
    names = read_names(file, content)
    pictures = _pictures(file, content, split, Path(data_dir) if data_dir else None)
    images: list[AnnotatedImage] = []
    problems: list[str] = []
    for path in pictures:
        hw = read_hw(path)
        image = AnnotatedImage(path, hw)
        label_file = labels_path(path)
        if hw is not None and label_file.is_file():
            image.objects = _read_labels(label_file, hw, names, problems)
        images.append(image)
    raise_listed(str(file), problems, f"Classes of data.yaml: {', '.join(f'{k} {v}' for k, v in names.items())}.")
    if not images:
        raise DataError(f"{file}: split '{split}' has no picture")
    return Annotations(images, list(names.values()), f"split '{split}' of {file}")


def read_data_yaml(file: Path) -> dict[str, Any]:
    """The content of a data.yaml. Raises DataError where it is no YAML object."""
    try:
        content = yaml.safe_load(read_text(file, "data.yaml"))
    except yaml.YAMLError as error:
        raise DataError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DataError(f"{file} is not a data.yaml: expected keys such as names, train, val")
    return content


def labels_path(picture: str) -> Path:
    """Where the boxes of a picture are written."""
    parts = list(Path(picture).parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def read_names(file: Path, content: dict[str, Any]) -> dict[int, str]:
    """Class names by their number; numbers may have holes."""
    given = content.get("names")
    try:
        if isinstance(given, list):
            given = dict(enumerate(given))
        names = {int(key): str(given[key]) for key in sorted(given, key=int)}  # type: ignore[index, arg-type]
    except (TypeError, ValueError):
        raise DataError(
            f"{file}: 'names' must be a list of class names, or numbers with names; got {given!r}"
        ) from None
    if content.get("nc") not in (None, len(names)):
        raise DataError(f"{file}: nc is {content['nc']}, but there are {len(names)} names: {', '.join(names.values())}")
    twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    if twice:
        raise DataError(f"{file}: classes share a name: {', '.join(twice)}")
    return names


def _pictures(file: Path, content: dict[str, Any], split: str, data_dir: Path | None) -> list[str]:
    entries = content.get(split)
    if not entries:
        known = [
            key
            for key, value in content.items()
            if key not in ("names", "path", "nc") and isinstance(value, (str, list))
        ]
        raise DataError(f"{file} has no split '{split}'. {nearest(split, known)}")
    base = data_dir or file.parent / str(content.get("path") or "")
    found: list[str] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        found += _entry(file, str(entry), base)
    return sorted(dict.fromkeys(found))


def _entry(file: Path, entry: str, base: Path) -> list[str]:
    """A folder, a list of pictures in a text file, or one picture."""
    place = Path(resolve_path(entry, base))
    if not place.exists() and entry.startswith("../"):  # exports of a common labelling site begin one folder too high
        place = Path(resolve_path(entry.removeprefix("../"), base))
    if place.is_dir():
        return list(find_images(place))
    if place.suffix == ".txt" and place.is_file():
        lines = (line.strip() for line in read_text(place, "list of pictures").splitlines())
        return [resolve_path(line, place.parent if line.startswith("./") else base) for line in lines if line]
    if is_image_name(place.name):
        return [os.fspath(place)]
    raise DataError(f"{file}: {place} is neither a folder nor a list of pictures (working directory: {Path.cwd()})")


def _read_labels(file: Path, hw: tuple[int, int], names: dict[int, str], problems: list[str]) -> list[AnnotatedObject]:
    found = []
    for number, line in enumerate(read_text(file, "label file").splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            found.append(_object(fields, hw, names))
        except ValueError as error:
            problems.append(f"{file} line {number}: {error}")
    return found


def _object(fields: list[str], hw: tuple[int, int], names: dict[int, str]) -> AnnotatedObject:
    try:
        values = [float(text) for text in fields]
    except ValueError:
        raise ValueError(f"expected numbers, got '{' '.join(fields)[:60]}'") from None
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise ValueError(f"expected a class and a box (5 numbers) or an outline (7, 9, ...), got {len(values)} numbers")
    if values[0] not in names:
        raise ValueError(f"there is no class {fields[0]}")
    if any(abs(value) > FARTHEST for value in values[1:]):
        raise ValueError(f"coordinates are parts of the picture, 0 to 1; got {max(values[1:], key=abs):g}")
    height, width = hw
    label = names[int(values[0])]
    if len(values) > 5:
        return AnnotatedObject(label, polygons=[np.array(values[1:], np.float64).reshape(-1, 2) * (width, height)])
    x, y, w, h = values[1:]
    box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
    return AnnotatedObject(label, box)
