"""Pictures known again by what is in them, wherever they lie and whatever they are called.

Two fingerprints: of a file's bytes, 8 of them, cheap enough for every run and every checkpoint; and of a picture's pixels,
which `--check` makes as it decodes everything anyhow, and which a change of the file's format does not change.
"""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from dao.errors import DataError
from dao.images.files import open_file

Prints = NDArray[np.int64]
UNREADABLE = 0  # the fingerprint of what cannot be read; equal to nothing
WHOLE = 256 * 2**10  # bytes; of a longer file its length and pieces are looked at, as a set may have 100 GB
PIECES, PIECE = 16, 16 * 2**10
THREADS = 8
RACY_SECONDS = 2.0  # a file that was just written may change again under the same date
CACHE_VARIABLE = "AICORE_CACHE"


def of_files(paths: Sequence[str], cache: Path | None = None) -> Prints:
    """(N,) int64, the fingerprint of each file's bytes; 0 for those that cannot be read.

    cache: a file that remembers them by path, size and date (None: `cache_file`); it may be deleted at any time.
    """
    states = [_state(path) for path in paths]
    with _Memory(cache or cache_file()) as memory:
        known = memory.get(paths, states)
        todo = [i for i, print_ in enumerate(known) if print_ is None and states[i] is not None]
        with ThreadPoolExecutor(THREADS) as pool:
            made = dict(zip(todo, pool.map(lambda i: _of_file(paths[i]), todo)))
        memory.put([(paths[i], states[i], made[i]) for i in todo if made[i] != UNREADABLE])
    found = [made.get(i, UNREADABLE) if print_ is None else print_ for i, print_ in enumerate(known)]
    return np.array(found, np.int64)


def of_pixels(pixels: NDArray[np.generic]) -> str:
    """The same for the same picture, whatever the file's format, name and remarks; of all bits that it has."""
    colour = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    digest = hashlib.sha1(f"{colour.shape} {colour.dtype}".encode(), usedforsecurity=False)
    digest.update(np.ascontiguousarray(colour).data)
    return digest.hexdigest()


def of_set(prints: Prints) -> str:
    """One fingerprint for a whole set, whatever the order of its pictures."""
    return hashlib.sha256(np.sort(prints).tobytes()).hexdigest()[:16]


def shared(first: Prints, second: Prints) -> list[tuple[int, int]]:
    """Places in the first and in the second of pictures that are the same, one for each of the second's."""
    places = {int(print_): i for i, print_ in enumerate(first) if print_ != UNREADABLE}
    return [(places[int(print_)], i) for i, print_ in enumerate(second) if int(print_) in places]


def same_bytes(one: str, other: str) -> bool:
    """Whether two files hold the same: fingerprints of long ones are made from pieces."""
    try:
        if os.path.getsize(one) <= WHOLE:  # noqa: PTH202
            return True
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def cache_file() -> Path:
    """Where fingerprints are remembered: ``$AICORE_CACHE``, or ``aicore`` in the user's folder for caches."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get(CACHE_VARIABLE) or Path(base, "aicore")) / "fingerprints.sqlite"


State = tuple[int, int]


def _state(path: str) -> State | None:
    try:
        found = os.stat(path)  # noqa: PTH116 (many)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def _of_file(path: str) -> int:
    digest = hashlib.blake2b(digest_size=8)
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(size.to_bytes(8, "little"))
            for piece in _pieces(file, size):
                digest.update(piece)
    except (DataError, OSError):
        return UNREADABLE
    return int.from_bytes(digest.digest(), "little", signed=True) or 1


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    if size <= WHOLE:
        yield file.read(WHOLE)
        return
    for number in range(PIECES):
        file.seek((size - PIECE) * number // (PIECES - 1))
        yield file.read(PIECE)


class _Memory:
    """Fingerprints on disk, by path, size and date. What cannot be opened or written remembers nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db: sqlite3.Connection | None = None

    def __enter__(self) -> _Memory:
        with contextlib.suppress(OSError, sqlite3.Error):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.db = sqlite3.connect(self.path, timeout=2)
            self.db.execute("CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INT, date INT, print INT)")
        return self

    def __exit__(self, *_: object) -> None:
        if self.db is not None:
            with contextlib.suppress(sqlite3.Error):
                self.db.close()

    def get(self, paths: Sequence[str], states: Sequence[State | None]) -> list[int | None]:
        if self.db is None:
            return [None] * len(paths)
        found = []
        try:
            for path, state in zip(paths, states):
                row = self.db.execute("SELECT size, date, print FROM files WHERE path = ?", (_key(path),)).fetchone()
                found.append(row[2] if row is not None and state == row[:2] else None)
        except sqlite3.Error:
            return [None] * len(paths)
        return found

    def put(self, rows: Sequence[tuple[str, State | None, int]]) -> None:
        settled = time.time_ns() - int(RACY_SECONDS * 1e9)
        entries = [(_key(path), *state, print_) for path, state, print_ in rows if state and state[1] < settled]
        if self.db is None or not entries:
            return
        with contextlib.suppress(sqlite3.Error), self.db:
            self.db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", entries)


def _key(path: str) -> bytes:
    return os.fsencode(os.path.abspath(path))  # noqa: PTH100 (many)
