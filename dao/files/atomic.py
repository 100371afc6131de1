"""Files that others may read, written whole or not at all: a temporary name beside the last one, then a rename."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from dao.errors import RunError
from dao.processes import failures


@contextlib.contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """A name to write to; what lies there when the block ends takes ``path``'s place, and nothing of it stays if it fails.

    durable: flushed to the disk before the rename, so that a power cut leaves the old file or the new one; what is
    written by the hundred (pictures) goes without. The folder is made. Raises RunError when the disk refuses.
    """
    temporary = temporary_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            flush(temporary)
        temporary.replace(path)
        if durable:
            flush_folder(path.parent)
    except OSError as error:
        raise RunError(f"{path} could not be written: {failures.of_system(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_of(path: Path) -> Path:
    """The hidden name beside a file under which this process writes it; a run clears away what a killed one left."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def write_text(path: Path, text: str) -> None:
    """A UTF-8 text file, lines ended as given. Raises RunError when the disk refuses."""
    write_bytes(path, encoded(text))


def encoded(text: str) -> bytes:
    r"""UTF-8; of a file name that is none, each foreign byte as "\udcff", which JSON reads back as the same name."""
    return text.encode("utf-8", errors="backslashreplace")


def write_bytes(path: Path, data: bytes, durable: bool = True) -> None:
    """A file of bytes; see `replacing`."""
    with replacing(path, durable) as temporary:
        temporary.write_bytes(data)


def flush(path: Path) -> None:
    """Wait until the disk has a file's bytes."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the disk has a folder's names, where the system lets one ask for it."""
    if os.name != "posix":
        return  # elsewhere a directory cannot be opened, and rename is durable by itself
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
