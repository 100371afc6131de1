"""What befalls a run, and what is wrong with how it took it."""

from __future__ import annotations

import errno
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHORT, KILL = -1, -2
ALL = b"orwsnd"


@dataclass(frozen=True)
class Fault:
    """What fails: kinds of operations (letters of faults.c), whether all later ones fail too, and how."""

    name: str
    kinds: bytes
    action: int
    lasting: bool = False


CHANGES = b"owsnd"  # between two of these a kill at a read leaves what a kill at the next of them does
FAULTS = (
    Fault("full disk", CHANGES, errno.ENOSPC, lasting=True),
    Fault("I/O error", CHANGES, errno.EIO),
    Fault("read error", b"r", errno.EIO),
    Fault("no more files", b"o", errno.EMFILE),
    Fault("short write", b"w", SHORT),
    Fault("SIGKILL", CHANGES, KILL),
)


def wrong_words(code: int, said: str, fault: Fault) -> list[str]:
    """A run that failed says so in our words; one that was killed may say nothing."""
    if fault.action == KILL:
        return [] if code in (-signal.SIGKILL, 0) else [f"ended with {code} instead of by SIGKILL"]
    found = ["a traceback"] if "Traceback (most recent call last)" in said else []
    if code not in (0, 2):
        found.append(f"exit code {code}")
    if fault.action == SHORT and code:
        found.append("a short write is no error")
    return found


def torn(folder: Path) -> Iterator[str]:
    """Files under their final names that are not whole."""
    from dao.checkpoints import checkpoint
    from dao.errors import CheckpointError

    for path in shown(folder):
        try:
            if path.suffix == ".ckpt":
                checkpoint.load(path)
            elif path.suffix == ".json":
                json.loads(path.read_text())
        except (CheckpointError, ValueError) as error:
            yield f"{path.name} is torn: {str(error)[:200]}"


def shown(folder: Path) -> Iterator[Path]:
    """Files under their final names: neither they nor a folder on the way to them is hidden."""
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def fingerprint(run: Path) -> dict[str, Any]:
    """What a run came to, in numbers that any changed bit changes."""
    from dao.checkpoints import checkpoint
    from dao.commands.verify_resume import COMPARED

    content = checkpoint.load(run / "checkpoints" / "latest.ckpt")
    return {key: checkpoint.checksum(content[key]) for key in COMPARED}
