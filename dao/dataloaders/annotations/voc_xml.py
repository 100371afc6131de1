"""Pascal VOC annotation files: one XML a picture, with boxes of whole pixels."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Annotations
from dao.dataloaders.datasets.base import derive_classes, raise_listed, read_text, resolve_path
from dao.dataloaders.datasets.image_io import IMAGE_EXTENSIONS
from dao.dataloaders.files import files_below
from dao.errors import DataError

LABELS_FILE = "labels.txt"  # class names in index order, one a line; the format itself has no such list


def read_voc(
    folder: str | Path,
    images_dir: str | Path | None = None,
    stems: Iterable[str] | None = None,
    one_based: bool = False,
    unmarked: bool = False,
) -> Annotations:
    """The XML files of a folder, searched recursively, in the order of names.

    images_dir: where pictures lie; without it beside the XML files, or in JPEGImages or images next to their folder.
    stems: only the files of these names (without ".xml", relative to the folder), e.g. from ImageSets/Main/train.txt.
    one_based: boxes count pixels from 1 and include the last one, as in the original VOC; otherwise they are edges.
    unmarked: also take pictures without an XML file, as pictures where nothing is to be found.
    Classes: those of labels.txt in the folder or next to it, else all names, sorted.
    Raises DataError listing every file that is no VOC annotation.
    """
    where = Path(folder)
    if not where.is_dir():
        raise DataError(f"{where}: the folder of VOC files does not exist (working directory: {Path.cwd()})")
    pictures = Path(images_dir) if images_dir else None
    images, problems = [], []
    for file in _files(where, stems):
        try:
            images.append(_read(file, where, pictures, one_based))
        except (DataError, ValueError, ET.ParseError) as error:
            problems.append(str(error) if str(file) in str(error) else f"{file}: {error}")
    raise_listed(str(where), problems, "Save the picture's boxes once more, or remove the file.")
    if unmarked and stems is None:
        images += _without_file(pictures or where, images)
    if not images:
        raise DataError(f"{where}: no VOC file (*.xml) was found there")
    return Annotations(images, read_labels(where) or _names(images), str(where))


def read_labels(folder: Path) -> list[str]:
    """Class names of ``labels.txt`` in a folder or next to it (of a split's folder, next to Annotations); else none."""
    root = folder.parent if folder.parent.name == "Annotations" else folder
    for place in (root / LABELS_FILE, root.parent / LABELS_FILE):
        if place.is_file():
            return [line.strip() for line in read_text(place, "list of classes").splitlines() if line.strip()]
    return []


def _names(images: list[AnnotatedImage]) -> list[str]:
    return derive_classes({marked.label for image in images for marked in image.objects})


def _files(folder: Path, stems: Iterable[str] | None) -> list[Path]:
    if stems is None:
        return files_below(folder, (".xml",))
    files = [folder / f"{stem}.xml" for stem in stems]
    missing = [f"{file} does not exist" for file in files if not file.is_file()]
    raise_listed(str(folder), missing, "The list of a split names them; remove them there, or bring the files.")
    return files


def _read(file: Path, folder: Path, images_dir: Path | None, one_based: bool) -> AnnotatedImage:
    root = ET.fromstring(read_text(file, "VOC file"))
    if root.tag != "annotation":
        raise ValueError(f"is not a VOC annotation: its root is <{root.tag}>, expected <annotation>")
    height, width = root.findtext("size/height"), root.findtext("size/width")
    hw = (round(float(height)), round(float(width))) if height and width else None
    image = AnnotatedImage(_picture(file, folder, images_dir, (root.findtext("filename") or "").strip()), hw or None)
    if hw is not None and min(hw) < 1:
        image.hw = None  # written by tools that did not know it
    image.objects = [_object(number, node, one_based) for number, node in enumerate(root.iter("object"))]
    return image


def _object(number: int, node: ET.Element, one_based: bool) -> AnnotatedObject:
    label = (node.findtext("name") or "").strip()
    if not label:
        raise ValueError(f"object {number} has no name")
    texts = [node.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    if any(text is None for text in texts):
        raise ValueError(f"object {number} ({label}) has no bndbox with xmin, ymin, xmax, ymax")
    try:
        left, top, right, bottom = (float(text or math.nan) for text in texts)
    except ValueError:
        raise ValueError(f"object {number} ({label}) has a bndbox that is no numbers: {texts}") from None
    first = 1 if one_based else 0
    difficult = (node.findtext("difficult") or "0").strip() not in ("", "0")
    return AnnotatedObject(label, (left - first, top - first, right, bottom), difficult=difficult)


def _picture(file: Path, folder: Path, images_dir: Path | None, name: str) -> str:
    """Where a file's picture lies: ``filename`` as written, or a picture with the XML's own name."""
    inside = file.parent.relative_to(folder)
    if images_dir is not None:
        places = [images_dir / inside, images_dir]
    else:
        beside = [folder.parent / sub / inside for sub in ("JPEGImages", "images")]
        places = [file.parent, *beside]
    names = [name] if name else []
    names += [name + suffix for suffix in IMAGE_EXTENSIONS if name and not Path(name).suffix]
    names += [file.stem + suffix for suffix in IMAGE_EXTENSIONS]
    candidates = [resolve_path(each, place) for each in names for place in places]
    return next((path for path in candidates if Path(path).is_file()), candidates[0])


def _without_file(folder: Path, known: list[AnnotatedImage]) -> list[AnnotatedImage]:
    marked = {Path(image.path).resolve() for image in known}
    found = files_below(folder, IMAGE_EXTENSIONS)
    return [AnnotatedImage(str(path)) for path in found if path.resolve() not in marked]
