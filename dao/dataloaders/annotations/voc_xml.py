"""Pascal VOC annotation files: one XML a picture, with boxes of whole pixels."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

from dao.dataloaders.annotations.finding import Folders, refuse_shared, with_stem
from dao.dataloaders.annotations.json_file import size_of
from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Annotations
from dao.dataloaders.annotations.xml_file import parse_xml
from dao.dataloaders.census import Census
from dao.dataloaders.datasets.base import derive_classes, raise_listed, read_text, resolve_path
from dao.dataloaders.guard import noting
from dao.errors import DataError
from dao.images.files import files_below
from dao.images.image_io import IMAGE_EXTENSIONS
from dao.images.listing import find_images

DIFFICULT = {
    "": False,
    "0": False,
    "false": False,
    "no": False,
    "unspecified": False,
    "1": True,
    "true": True,
    "yes": True,
}
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
    places = _Pictures(where, pictures)
    read, problems, census = [], [], Census()
    for file in _files(where, stems):
        with noting(problems, str(file)):
            read.append((file, _read(file, places, one_based, census)))
    problems += refuse_shared(read, places.own)
    images = [image for _, image in read]
    raise_listed(str(where), problems, "Save the picture's boxes once more, or remove the file.")
    if unmarked and stems is None:
        images += _without_file(pictures or where, images, census)
    if not images:
        raise DataError(f"{where}: no VOC file (*.xml) was found there")
    return Annotations(images, read_labels(where) or _names(images), str(where), census)


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


def _read(file: Path, pictures: _Pictures, one_based: bool, census: Census) -> AnnotatedImage:
    root = parse_xml(file, "VOC file")
    if root.tag != "annotation":
        raise ValueError(f"is not a VOC annotation: its root is <{root.tag}>, expected <annotation>")
    height, width = _one(root, "size/height"), _one(root, "size/width")
    name = (_one(root, "filename") or "").strip()
    image = AnnotatedImage(pictures.named(file, name), size_of(height or None, width or None))
    marked = list(root.iter("object"))
    boxes = sum(len(node.findall(path)) for node in marked for path in ("bndbox", "part/bndbox"))
    if boxes < sum(1 for _ in root.iter("bndbox")):
        raise ValueError("a bndbox stands outside an object, so whose it is cannot be known")
    for number, node in enumerate(marked):
        image.objects.append(_object(number, node, one_based, census, f"{file} object {number}"))
    return image


def _one(node: ET.Element, path: str) -> str | None:
    """The text of the only element of a path; None where there is none. Raises ValueError where there are several."""
    found = node.findall(path)
    if len(found) > 1:
        raise ValueError(f"has {len(found)} elements {path}, where one is expected")
    return (found[0].text or "") if found else None


def _object(number: int, node: ET.Element, one_based: bool, census: Census, place: str) -> AnnotatedObject:
    label = (_one(node, "name") or "").strip()
    if not label:
        raise ValueError(f"object {number} has no name")
    texts = [_one(node, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    if any(text is None for text in texts):
        raise ValueError(f"object {number} ({label}) has no bndbox with xmin, ymin, xmax, ymax")
    try:
        left, top, right, bottom = (float(text or math.nan) for text in texts)
    except ValueError:
        raise ValueError(f"object {number} ({label}) has a bndbox that is no numbers: {texts}"[:200]) from None
    if right < left or bottom < top:
        census.adjust("boxes whose corners were swapped, sorted", f"{place} ({label})")
        left, right, top, bottom = min(left, right), max(left, right), min(top, bottom), max(top, bottom)
    first = 1 if one_based else 0
    return AnnotatedObject(label, (left - first, top - first, right, bottom), difficult=_difficult(number, label, node))


def _difficult(number: int, label: str, node: ET.Element) -> bool:
    text = (_one(node, "difficult") or "").strip().lower()
    if text not in DIFFICULT:
        raise ValueError(f"object {number} ({label}) is difficult: '{text[:40]}'; expected 0 or 1")
    return DIFFICULT[text]


class _Pictures:
    """Where the pictures of a folder's files lie."""

    def __init__(self, folder: Path, images_dir: Path | None) -> None:
        self.folder, self.images_dir, self.folders = folder, images_dir, Folders()

    def own(self, file: Path) -> str | None:
        """The picture with a file's own name."""
        return with_stem(file.stem, self._places(file), self.folders)

    def named(self, file: Path, name: str) -> str:
        """``filename`` as written, or a picture with the XML's own name; as written where there is neither."""
        names = [name] if name else []
        names += [name + suffix for suffix in IMAGE_EXTENSIONS if name and not Path(name).suffix]
        candidates = [resolve_path(each, place) for each in names for place in self._places(file)]
        written = next((found for found in map(self.folders.find, candidates) if found), None)
        fallback = candidates[0] if candidates else resolve_path(file.stem + IMAGE_EXTENSIONS[0], file.parent)
        return written or self.own(file) or fallback

    def _places(self, file: Path) -> list[Path]:
        inside = file.parent.relative_to(self.folder)
        if self.images_dir is not None:
            return [self.images_dir / inside, self.images_dir]
        return [file.parent, *(self.folder.parent / sub / inside for sub in ("JPEGImages", "images"))]


def _without_file(folder: Path, known: list[AnnotatedImage], census: Census) -> list[AnnotatedImage]:
    marked = {Path(image.path).resolve() for image in known}
    found = sorted(find_images(folder, census=census))
    return [AnnotatedImage(path) for path in found if Path(path).resolve() not in marked]
