"""What the writers of all formats share: where a new set's pictures lie, and how its files are written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dao.dataloaders.annotations.structures import AnnotatedObject, Annotations
from dao.files import atomic
from dao.words.counted import of_one


@dataclass(frozen=True, slots=True)
class Place:
    """A picture of the new set. path: where it lies; name: relative to its split, with forward slashes; inside: whether
    it lies in the set, or was left where it is."""

    path: Path
    name: str
    inside: bool = True

    def seen_from(self, folder: Path) -> str:
        """The path from a folder to the picture, with forward slashes."""
        return Path(os.path.relpath(self.path, folder)).as_posix()


def number(value: float) -> int | float:
    """Whole numbers without a point, as most tools write them; others with all their digits."""
    return int(value) if float(value).is_integer() else float(value)


def outlined(marked: AnnotatedObject) -> bool:
    """Whether more than a box is known of an object."""
    return bool(marked.polygons) or marked.rle is not None


def objects(annotations: Annotations) -> list[AnnotatedObject]:
    """Every object of the set."""
    return [marked for image in annotations.images for marked in image.objects]


def count_text(count: int, what: str) -> list[str]:
    """A sentence's list, empty where nothing was lost."""
    return [f"{count} {of_one(what) if count == 1 else what}"] if count else []


def write_text(path: Path, text: str) -> None:
    """A file, its folder included; a name that is no UTF-8 is written as it is. Raises RunError when the disk refuses."""
    atomic.write_bytes(path, text.encode("utf-8", errors="surrogateescape"), durable=False)
