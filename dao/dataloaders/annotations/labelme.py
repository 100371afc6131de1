"""LabelMe annotation files: one JSON beside each picture, with polygons, rectangles, circles, masks, and lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dao.dataloaders.annotations.finding import Folders, refuse_shared, with_stem
from dao.dataloaders.annotations.json_file import parse_json, size_of
from dao.dataloaders.annotations.labelme_shapes import read_shapes
from dao.dataloaders.annotations.structures import AnnotatedImage, Annotations
from dao.dataloaders.census import Census
from dao.dataloaders.datasets.base import derive_classes, raise_listed, resolve_path
from dao.dataloaders.guard import noting, reading
from dao.errors import DataError
from dao.images.files import files_below
from dao.images.listing import find_images

UNLABELLED = "__ignore__"  # LabelMe's own names: pixels that count for nothing, and the background
NOTHING = "_background_"


class _Pictures:
    """Where the pictures of a folder's files lie."""

    def __init__(self, folder: Path, images_dir: Path | None) -> None:
        self.folder, self.images_dir, self.folders = folder, images_dir, Folders()

    def own(self, file: Path) -> str | None:
        """The picture with a file's own name."""
        return with_stem(file.stem, self._places(file), self.folders)

    def named(self, file: Path, name: str) -> str | None:
        """The picture that a file names; else the one with the file's own name, else with the name alone, as files keep
        the folders of the computer where they were made."""
        written = name.replace("\\", "/")
        last = [resolve_path(written.rsplit("/", 1)[-1], place) for place in self._places(file)]
        first = last if self.images_dir else [resolve_path(written, file.parent)]
        found = next((path for path in map(self.folders.find, first) if path), None) if written else None
        found = found or self.own(file)
        return found or (next((path for path in map(self.folders.find, last) if path), None) if written else None)

    def _places(self, file: Path) -> list[Path]:
        if self.images_dir is None:
            return [file.parent]
        return [self.images_dir / file.parent.relative_to(self.folder), self.images_dir]


def read_labelme(
    folder: str | Path,
    images_dir: str | Path | None = None,
    recursive: bool = True,
    line_width: float | None = None,
) -> Annotations:
    """Every LabelMe file of a folder, in the order of names, with its picture; and pictures without a file, which are
    taken for pictures where nothing was marked.

    images_dir: where pictures lie when not beside their JSON files. line_width: pixels that lines and points are drawn
    wide; without it they are named and left out. Classes are all labels, sorted.
    Raises DataError listing every file that is not LabelMe's, has a shape it cannot draw, or whose picture is nowhere.
    """
    where = Path(folder)
    if not where.is_dir():
        raise DataError(f"{where}: the folder of LabelMe files does not exist (working directory: {Path.cwd()})")
    pictures = _Pictures(where, Path(images_dir) if images_dir else None)
    census = Census()
    read, problems = [], []
    for file in files_below(where, (".json",), recursive, census):
        with noting(problems, str(file)), reading(file, "LabelMe file"):
            read.append((file, _read(file, pictures, line_width, census)))
    problems += refuse_shared([pair for pair in read if pair[1].path != str(pair[0])], pictures.own)
    raise_listed(str(where), problems, "Save the picture in LabelMe once more, or remove the file.")
    images = [image for _, image in read]
    known = {os.path.normcase(image.path) for image in images}
    images += _unmarked(pictures.images_dir or where, known, recursive, census)
    if not images:
        raise DataError(f"{where}: no LabelMe file (*.json) and no picture was found there")
    labels = {marked.label for image in images for marked in image.objects} - {UNLABELLED, NOTHING}
    return Annotations(sorted(images, key=lambda image: image.path), derive_classes(labels), str(where), census)


def _unmarked(folder: Path, known: set[str], recursive: bool, census: Census) -> list[AnnotatedImage]:
    found = find_images(folder, recursive=recursive, census=census)
    pictures = sorted(os.path.normpath(path) for path in found)
    return [AnnotatedImage(path) for path in pictures if os.path.normcase(path) not in known]


def _read(file: Path, pictures: _Pictures, line_width: float | None, census: Census) -> AnnotatedImage:
    content = parse_json(file, "LabelMe file")
    shapes = content.get("shapes") if isinstance(content, dict) else None
    named = content.get("imagePath") if isinstance(content, dict) else None
    embedded = isinstance(content, dict) and bool(content.get("imageData"))
    if not isinstance(shapes, list) or not (named or embedded) or not isinstance(named or "", str):
        raise DataError(f"{file} is not a LabelMe file: it needs 'shapes' and 'imagePath'")
    path = pictures.named(file, named or "")
    if path is None and embedded:
        path = str(file)
        census.adjust("pictures that are in their LabelMe file alone, read from there", path)
    if path is None:
        raise DataError(f"{file}: its picture {named} does not exist, nor one of the file's own name")
    hw = size_of(content.get("imageHeight"), content.get("imageWidth"))
    objects, lost, problems = read_shapes(shapes, hw, line_width, census, str(file))
    if problems:
        raise DataError("; ".join(_short(problems, file)))
    return AnnotatedImage(path, hw, objects, lost)


def _short(problems: list[str], file: Path) -> list[Any]:
    return [f"{file}: {problems[0]}", *problems[1:10]]
