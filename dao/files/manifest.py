"""Beside a file that can run code when it is read: what it was when our own Export wrote it."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

from dao import __version__
from dao.errors import CheckpointError
from dao.files import atomic

ENDING = ".manifest.json"
LONGEST = 1 << 16  # bytes of a manifest; ours have some two hundred


def of(path: Path) -> Path:
    """Where a file's manifest lies."""
    return path.with_name(path.name + ENDING)


def write(path: Path) -> None:
    """Write down what a file is now: its name, size and SHA-256."""
    data = path.read_bytes()
    content = {"file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "aicore": __version__}
    atomic.write_text(of(path), json.dumps(content, indent=2) + "\n")


def verified(path: Path) -> bytes:
    """A file's bytes, which are those that its manifest tells of: what is read is what was looked at.

    Raises CheckpointError where the manifest is missing or of another file.
    """
    wanted = _hash_in(of(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    if not hmac.compare_digest(wanted, hashlib.sha256(data).hexdigest()):
        raise CheckpointError(
            f"{path} was not loaded: it is not the file that Export wrote (its SHA-256 is not the one in "
            f"{of(path).name}). It was damaged or replaced; export it anew"
        )
    return data


def _hash_in(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(LONGEST + 1)[:LONGEST].decode("utf-8"))
        found = content["sha256"]
        if not (isinstance(found, str) and found.isascii()):
            raise ValueError("sha256 is no text")
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} does not exist: Export writes it beside a file that can run code, so that another file in its place "
            "is noticed. Copy it along with the file, or export anew"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is no manifest of an exported file ({type(error).__name__})") from None
    return found
