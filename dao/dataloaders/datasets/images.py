"""Pictures without labels, for demo: one file, a folder, or a glob."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from dao.dataloaders.census import Census
from dao.dataloaders.datasets.base import ImageDataset, Record
from dao.dataloaders.datasets.folder import find_images
from dao.dataloaders.datasets.image_io import IMAGE_EXTENSIONS
from dao.dataloaders.files import Listing, walk
from dao.errors import DataError
from dao.register import Registers


@Registers.datasets.register()
class ImageFiles(ImageDataset):
    """Unlabelled pictures.

    path: a picture, a folder of pictures, or a glob such as ``line3/**/*.png``.
    recursive: search a folder's folders as well.
    classes: a trained model's class names, handed over by the core; they label nothing here.
    """

    labelled = False

    def __init__(self, path: str, recursive: bool = False, classes: list[str] | None = None) -> None:
        census = Census()
        found = _find(path, recursive, census)
        if not found:
            hint = '; "recursive": true searches its folders too' if Path(path).is_dir() and not recursive else ""
            raise DataError(
                f"no picture found at {path} (working directory: {Path.cwd()}); "
                f"expected a picture, a folder or a glob of {', '.join(IMAGE_EXTENSIONS)}{hint}"
            )
        super().__init__([Record(name) for name in found], classes or [], origin=path)
        self.census.merge(census)


def _find(path: str, recursive: bool, census: Census) -> list[str]:
    where = Path(path)
    if where.exists() and not where.is_dir():  # what is no file is named when it is read
        return [path]
    if where.is_dir():
        return list(find_images(where, recursive=recursive, census=census))
    return [name for name in _matches(path, census) if os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS]  # noqa: PTH122


def _matches(pattern: str, census: Census) -> list[str]:
    """Paths that a pattern means, sorted. What has a ``**`` is walked, as folders that links lead to in a circle would
    keep Python's own glob for ever."""
    parts = Path(pattern).parts
    if "**" not in parts:
        return sorted(glob.glob(pattern))  # noqa: PTH207 (absolute patterns work as well)
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:first]) if first else Path()
    if not root.is_dir():
        return []
    fits = re.compile("".join(map(_as_regex, parts[first:-1])) + _name_as_regex(parts[-1]))
    found = [
        Path(where, name)
        for where, folders, files in _visible(root, census)
        for name in (*files, *folders)
        if not name.startswith(".") or parts[-1].startswith(".")
    ]
    return sorted(str(path) for path in found if fits.fullmatch(path.relative_to(root).as_posix()))


def _visible(root: Path, census: Census) -> Iterator[Listing]:
    for where, folders, files in walk(root, census=census):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield where, folders, files


def _as_regex(part: str) -> str:
    """A folder of a pattern, with the slash behind it; ``**`` is any number of folders, none as well."""
    return "(?:[^/]+/)*" if part == "**" else f"{_name_as_regex(part)}/"


def _name_as_regex(part: str) -> str:
    if part == "**":
        return ".*"
    body = fnmatch.translate(part).removeprefix("(?s:").removesuffix(r")\Z")
    return f"(?:{body.replace('.*', '[^/]*')})"
