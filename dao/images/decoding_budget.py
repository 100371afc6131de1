"""A share of a machine's memory for large pictures, which all processes that decode for this user take from in turn.

A picture of more than `LARGE` pixels takes one place for each `LARGE` of them, before it is decoded, and gives them back
when its block ends (`shared`). Places are locked files in the machine's folder for temporary files: the system lets go
of them when a process dies, however it does, and processes that know nothing of each other (two runs, loader processes
of two training processes, forked or spawned) share them. Smaller pictures ask nobody.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dao.words.warning import warn

LARGE = 2**26  # pixels: 8192 x 8192, 0.2 GB as RGB
SHARE = 0.25  # of the memory; a decoder may hold a picture twice
PATIENCE = 60.0  # seconds; whoever holds a place for longer is stopped or stuck, and a run must not hang by it
LOOK_AGAIN = 0.02  # seconds

_here = threading.local()  # held: the places of the block that this thread is in


@contextlib.contextmanager
def shared() -> Iterator[None]:
    """What is decoded in this block counts, until the block ends; hold it as long as the pixels are there."""
    before, _here.held = getattr(_here, "held", None), []
    try:
        yield
    finally:
        _give_back(_here.held)
        _here.held = before


def take(pixels: int) -> bool:
    """Wait for places for a picture that is about to be decoded; whether it has them, or needs none.

    Outside of `shared` nothing is taken, nor by a block that holds places already (a mask goes with its picture: two that
    held some and waited for more would wait for ever). Where nothing can be locked nobody waits.
    """
    held: list[BinaryIO] | None = getattr(_here, "held", None)
    if pixels <= LARGE or held is None or held:
        return True
    folder, deadline = _folder(), time.monotonic() + PATIENCE
    if folder is None:
        return True
    names = [f"place{i}" for i in range(places())]
    turn: list[BinaryIO] = []
    try:
        turn = _wait(
            folder, ["turn"], 1, deadline
        )  # one waits at a time, so that small wishes do not overtake a large one
        held += _wait(folder, names, min(math.ceil(pixels / LARGE), len(names)), deadline) if turn else []
    except OSError:
        return True
    finally:
        _give_back(turn)
    if not held:
        warn(f"no memory was free for a picture of {pixels:,} pixels in {PATIENCE:g} s: it is decoded all the same")
    return bool(held)


def places() -> int:
    """How many there are: by the memory of the machine, or of its container; at least one."""
    return max(1, int(total_memory() * SHARE / (LARGE * 3)))


def total_memory() -> int:
    """Bytes of memory of this machine, or of its container where that has less."""
    import psutil

    limits = [psutil.virtual_memory().total]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            limits.append(int(Path("/sys/fs/cgroup", name).read_text()))
    return min(limits)


def _wait(folder: Path, names: list[str], wanted: int, deadline: float) -> list[BinaryIO]:
    """So many of the files, open and locked; none where the time is up before so many are free."""
    while not (found := _locked(folder, names, wanted)) and time.monotonic() < deadline:
        time.sleep(LOOK_AGAIN)
    return found


def _locked(folder: Path, names: list[str], wanted: int) -> list[BinaryIO]:
    """So many of the files, open and locked; none where fewer are free. Raises OSError where files cannot be locked."""
    import fcntl

    found: list[BinaryIO] = []
    with contextlib.ExitStack() as given_back:
        for name in names:
            file = given_back.enter_context((folder / name).open("ab"))
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found.append(file)
            if len(found) == wanted:
                given_back.pop_all()
                return found
        _give_back(found)
    return []


def _give_back(files: list[BinaryIO]) -> None:
    """Unlock and close them. Closed alone they stayed locked for as long as a process lives that was forked meanwhile."""
    if not files:  # as everywhere that has no fcntl
        return
    import fcntl

    for file in files:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
        file.close()


def _folder() -> Path | None:
    """Where the places lie: this user's own; None where there can be none."""
    import tempfile  # costs as much as the whole file, and few pictures are large

    if os.name != "posix":
        return None
    folder = Path(tempfile.gettempdir()) / f"aicore-decoding-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid()
    return folder if ours and os.access(folder, os.W_OK) else None
