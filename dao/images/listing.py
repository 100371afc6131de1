"""Which pictures a path means: a file, a folder, or a glob."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dao.images.files import Entered, Listing, walk
from dao.images.image_io import IMAGE_EXTENSIONS, OTHER_PICTURES, is_image_name
from dao.words.counted import counted

if TYPE_CHECKING:
    from dao.dataloaders.census import Census


_ANY = re.compile(r"\\.|\[\^?\]?[^\]]*\]|\.", re.DOTALL)  # what is escaped, a set, any letter


def pictures_at(path: str, recursive: bool = False, census: Census | None = None) -> list[str]:
    """Paths of the pictures that one path means: a file, a folder, or a glob such as ``line3/**/*.png``; sorted."""
    where = Path(path)
    if where.exists() and not where.is_dir():  # what is no file is named when it is read
        return [path]
    if where.is_dir():
        return list(find_images(where, recursive=recursive, census=census))
    return [name for name in _matches(path, census) if os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS]  # noqa: PTH122


def nothing_at(path: str, recursive: bool, how: str) -> str:
    """Why `pictures_at` finds none, in words. how: what to set for pictures in a folder's folders."""
    said = f"no picture found at {path}"
    if not Path(path).is_dir():
        why = "none fits this pattern" if glob.has_magic(path) else "it does not exist"
        return f"{said}: {why} (working directory: {Path.cwd()})"
    inner = 0 if recursive else sum(1 for _ in find_images(Path(path)))
    if inner:
        return f"{said} itself; its folders hold {counted(inner, 'picture')}: {how}"
    return f"{said}: a folder without a file of {', '.join(IMAGE_EXTENSIONS)}"


def find_images(
    folder: Path,
    suffixes: tuple[str, ...] = IMAGE_EXTENSIONS,
    recursive: bool = True,
    census: Census | None = None,
    entered: Entered | None = None,
) -> Iterator[str]:
    """Paths of the pictures in a folder, sorted by name, folder by folder; hidden ones are left out.

    census: where to say what looks like a picture and was left out; entered: see `walk`.
    Raises DataError for a folder that cannot be listed.
    """
    for where, folders, files in walk(folder, recursive, census, entered):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if is_image_name(name, suffixes):
                yield os.path.join(where, name)  # noqa: PTH118 (hot)
            elif census is not None and is_image_name(name, OTHER_PICTURES):
                census.omit("files of kinds not read as pictures left out", os.path.join(where, name))  # noqa: PTH118


def _matches(pattern: str, census: Census | None) -> list[str]:
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


def _visible(root: Path, census: Census | None) -> Iterator[Listing]:
    for where, folders, files in walk(root, census=census):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield where, folders, files


def _as_regex(part: str) -> str:
    """A folder of a pattern, with the slash behind it; ``**`` is any number of folders, none as well."""
    return "(?:[^/]+/)*" if part == "**" else f"{_name_as_regex(part)}/"


def _name_as_regex(part: str) -> str:
    if part == "**":
        return ".*"
    whole = fnmatch.translate(part)  # (?s:...)\Z, whose end is written otherwise from Python 3.14 on
    body = whole[whole.index(":") + 1 : whole.rindex(")")]
    return f"(?:{_ANY.sub(lambda found: _within_a_name(found[0]), body)})"


def _within_a_name(piece: str) -> str:
    """A letter, a set of letters or "any letter" of a regex, so that it is no slash."""
    return "[^/]" if piece == "." else f"{piece[:-1]}/]" if piece.startswith("[^") else piece
