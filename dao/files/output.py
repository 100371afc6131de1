"""Folders and files that people read: an existing folder is never written over, a file is whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dao.errors import RunError
from dao.files import atomic
from dao.processes import failures
from dao.words.json_text import json_text
from dao.words.printable import printable_json


def fresh(parent: Path, name: str) -> Path:
    """Make ``parent/name``, or ``parent/name-2``, ``-3``, ... where that exists; returns the new folder."""
    for number in range(1, 10_000):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(f"the folder {folder} could not be made: {failures.of_system(error)}") from None
    raise RunError(f"{parent} holds 10,000 runs called {name}; clean up or choose another name")


def write_json(path: Path, content: Any) -> None:
    """Write JSON readable by people; whole or not at all. Raises RunError when the disk refuses."""
    atomic.write_text(path, printable_json(json_text(content)) + "\n")
