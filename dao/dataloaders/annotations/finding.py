"""Pictures that annotation files name: found as written, or where files were moved and renamed since."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote

from dao.dataloaders.annotations.structures import AnnotatedImage
from dao.dataloaders.datasets.base import resolve_path
from dao.images.image_io import IMAGE_EXTENSIONS

Named = tuple[Path, AnnotatedImage]  # an annotation file, and the picture that it is of


def same_name(name: str) -> str:
    """What names have in common that are written in another Unicode form, or with %20 for a space."""
    return unicodedata.normalize("NFC", unquote(name))


class Folders:
    """Listings of folders, read once: names that are not there as written are looked for in another form."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, list[str]]] = {}

    def find(self, path: str) -> str | None:
        """A file as written, or the only one whose name is the same in another form; None without one."""
        folder, name = os.path.split(path)
        if os.path.isfile(path):  # noqa: PTH113 (many, and no error for names too long)
            return path
        found = self._listing(folder).get(same_name(name), [])
        return os.path.join(folder, found[0]) if len(found) == 1 else None  # noqa: PTH118

    def _listing(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._names:
            by_form: dict[str, list[str]] = {}
            try:
                for name in sorted(os.listdir(folder or ".")):  # noqa: PTH208 (bytes that are no text stay)
                    by_form.setdefault(same_name(name), []).append(name)
            except OSError:
                pass
            self._names[folder] = by_form
        return self._names[folder]


def with_stem(stem: str, places: Sequence[Path], folders: Folders) -> str | None:
    """The picture that has a file's own name, in the first of the folders that holds one."""
    candidates = (resolve_path(stem + suffix, place) for place in places for suffix in _suffixes())
    return next((found for found in map(folders.find, candidates) if found), None)


def _suffixes() -> list[str]:
    return [written for suffix in IMAGE_EXTENSIONS for written in (suffix, suffix.upper())]


def refuse_shared(found: Iterable[Named], own_picture: Callable[[Path], str | None]) -> list[str]:
    """One sentence for every picture that two files name. A file that names another's picture, as after a renaming,
    takes the one with its own name where there is one."""
    files = list(found)
    for named in _shared(files):
        for file, image in named:
            own = own_picture(file)
            if own is not None and not _same(own, image.path):
                image.path = own
    return [
        f"{', '.join(str(file) for file, _ in named)} are of one picture, {named[0][1].path}; which of them is meant?"
        for named in _shared(files)
    ]


def _same(one: str, other: str) -> bool:
    return os.path.normcase(one) == os.path.normcase(other)


def _shared(files: Sequence[Named]) -> list[list[Named]]:
    by_path: dict[str, list[Named]] = {}
    for file, image in files:
        by_path.setdefault(os.path.normcase(image.path), []).append((file, image))
    return [named for named in by_path.values() if len(named) > 1]
