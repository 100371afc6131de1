"""Files and folders of a data set as a disk really holds them: links in a circle, pipes, folders that cannot be listed.

The one place where readers list folders and open files, so that none hangs on what is no file, and none goes round.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dao.errors import DataError

if TYPE_CHECKING:
    from dao.dataloaders.census import Census

MAX_BYTES = 2**30  # of one file; uncompressed, a picture of as many pixels as is allowed (`image_io.max_pixels`) fits
MAX_BYTES_VARIABLE = "AICORE_MAX_BYTES"
SYSTEM_FOLDERS = ("/proc", "/sys")  # what lies there looks like files, and may wait for ever or be without end
KINDS = {
    stat.S_IFIFO: "a pipe (FIFO)", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}  # fmt: skip
SEEN_TWICE = "folders that links lead to once more (read once)"
NO_FILES = "files of other kinds (pipes, sockets, devices) left out"

Entered = set[tuple[int, int]]
Listing = tuple[str, list[str], list[str]]


def walk(
    folder: str | Path, recursive: bool = True, census: Census | None = None, entered: Entered | None = None
) -> Iterator[Listing]:
    """A folder and those below it as (path, names of its folders, names of its files), sorted; links are followed.

    Every folder is entered once, however many links lead to it (known by device and inode), and one that ``folder`` lies
    in is not. Before its folders are entered a caller may strike names from the list. What is neither file nor folder is
    left out. census: where to say what was left out or reached twice. entered: places of folders that another walk of the
    same set enters; those of this one are added. Raises DataError for a folder that cannot be listed.
    """
    waiting, entered = [str(folder)], set() if entered is None else entered
    entered.update(filter(None, map(place_of, Path(os.path.realpath(folder)).parents)))
    entered.discard(place_of(folder) or (0, 0))
    while waiting:
        here = waiting.pop()
        if not _first_time(here, entered):
            if census is not None:
                census.adjust(SEEN_TWICE, here)
            continue
        folders, files = list_folder(here, census)
        yield here, folders, files
        if recursive:
            waiting += [os.path.join(here, name) for name in reversed(folders)]  # noqa: PTH118 (hot)


def list_folder(folder: str | Path, census: Census | None = None) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, sorted; folders behind the real ones where they are links.

    A link that leads nowhere counts as a file: what reads it says that it is missing.
    Raises DataError when the folder cannot be listed.
    """
    folders: list[tuple[bool, str]] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append((entry.is_symlink(), entry.name))
                elif entry.is_file() or _leads_nowhere(entry):
                    files.append(entry.name)
                elif census is not None:
                    census.omit(NO_FILES, entry.path)
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be listed: {error.strerror or error}") from None
    return [name for _, name in sorted(folders)], sorted(files)


def folders_in(folder: str | Path) -> list[str]:
    """Names of the folders in a folder that are not hidden, sorted. Raises DataError when it cannot be listed."""
    return sorted(name for name in list_folder(folder)[0] if not name.startswith("."))


def files_below(
    folder: str | Path, suffixes: tuple[str, ...], recursive: bool = True, census: Census | None = None
) -> list[Path]:
    """Paths of files by the ends of their names (lower case, with the dot), sorted; hidden ones are among them."""
    found = [
        Path(where, name)
        for where, _, files in walk(folder, recursive, census)
        for name in files
        if name.lower().endswith(suffixes)
    ]
    return sorted(found)


def read_file(path: str | Path) -> bytes:
    """A file's bytes. Raises DataError naming path and reason, see `open_file`."""
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(size)
            return data if len(data) == size else data + _rest(file)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def open_file(path: str | Path) -> BinaryIO:
    """A file opened for reading, unbuffered. Raises DataError for what is no file, cannot be opened or is too large.

    Never waits: a pipe, a device or a file of the system is refused by what it is, and not by what it does.
    """
    try:
        # without O_NONBLOCK the opening of a pipe alone waits until somebody writes into it
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise DataError(f"{path}: the file does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}{_kind_of(path)}") from None
    try:
        _refuse_strange(path, os.fstat(number), max_bytes())
    except BaseException:
        os.close(number)
        raise
    return os.fdopen(number, "rb", buffering=0)  # type: ignore[return-value]


def max_bytes() -> int:
    """Bytes that a file may have: ``limits.max_bytes`` of the config, which the environment hands to all processes."""
    return int(os.environ.get(MAX_BYTES_VARIABLE, MAX_BYTES))


def problem_with(path: str | Path) -> str:
    """Why what is at a path is no file to be read ("" for a file, and where there is nothing); it is not opened."""
    try:
        _refuse_strange(path, os.stat(path), max_bytes())  # noqa: PTH116 (many)
    except DataError as error:
        return str(error).removeprefix(f"{path}: ")
    except (OSError, ValueError):
        return ""
    return ""


def _refuse_strange(path: str | Path, state: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise DataError(f"{path}: is {KINDS.get(stat.S_IFMT(state.st_mode), 'something strange')}, and no file")
    if state.st_dev in _system_devices():
        raise DataError(f"{path}: is a file of the system (/proc, /sys), and no data")
    if state.st_size > limit:
        raise DataError(
            f"{path}: has {state.st_size:,} bytes, more than the {limit:,} that a file of a data set may have "
            '("limits": {"max_bytes": ...} in the config)'
        )


def _rest(file: BinaryIO) -> bytes:
    """What a file holds beyond the first read: one read gives 2 GiB at most, and a file may grow meanwhile."""
    parts, total = [], 0
    while part := file.read(2**24):
        parts.append(part)
        total += len(part)
        if total > max_bytes():
            break
    return b"".join(parts)


def place_of(folder: str | Path) -> tuple[int, int] | None:
    """Device and inode; None where they cannot be had: by a file system without numbers, or for what is not there."""
    try:
        state = os.stat(folder)  # noqa: PTH116 (many)
    except OSError:
        return None
    return (state.st_dev, state.st_ino) if state.st_ino else None


def _first_time(folder: str, entered: Entered) -> bool:
    """Whether a folder is entered for the first time. One that cannot be asked is left to the listing, which says so."""
    place = place_of(folder)
    if place is None:
        return True
    new = place not in entered
    entered.add(place)
    return new


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110 (many)


def _kind_of(path: str | Path) -> str:
    """What a path is, for what could not even be opened (a socket)."""
    problem = problem_with(path)
    return f" ({problem})" if problem else ""


@cache
def _system_devices() -> frozenset[int]:
    found = set()
    for folder in SYSTEM_FOLDERS:
        try:
            found.add(os.stat(folder).st_dev)  # noqa: PTH116
        except OSError:
            continue
    # where there is no such file system (a stripped container) the folder lies on the disk that all else lies on
    return frozenset(found - {os.stat(os.sep).st_dev})  # noqa: PTH116
