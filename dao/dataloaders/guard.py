"""The door of every reader of label files: what a damaged file makes Python raise becomes ours, with file and place."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import yaml

from dao.errors import AICoreError, DataError

# what Python and the libraries below us raise for content that is not as expected; anything else is a bug of ours
FILE_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,  # RecursionError is one of them
    SyntaxError,  # xml's ParseError is one of them
    TypeError,
    ValueError,
    csv.Error,
    cv2.error,
    yaml.YAMLError,
)
LONGEST_REASON = 200  # characters; a reason may quote the file


@contextmanager
def reading(path: str | Path, what: str) -> Iterator[None]:
    """Read a file inside: its errors leave as one DataError naming the file. Errors of ours pass through."""
    try:
        yield
    except AICoreError:
        raise
    except FILE_ERRORS as error:
        raise DataError(f"{path}: the {what} cannot be read: {reason_of(error)}") from error


@contextmanager
def noting(problems: list[str], place: str) -> Iterator[None]:
    """Read one part of a file inside: its errors become a line of ``problems``, and reading goes on behind it."""
    try:
        yield
    except DataError as error:
        problems.append(str(error) if place in str(error) else f"{place}: {error}")
    except FILE_ERRORS as error:
        problems.append(f"{place}: {reason_of(error)}")


def reason_of(error: BaseException) -> str:
    """What one of `FILE_ERRORS` says, in words for somebody who reads no Python."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON: {error}"
    if isinstance(error, UnicodeError):
        return f"it is not text of the encoding that it should have: {error}"[:LONGEST_REASON]
    if isinstance(error, KeyError):
        return f"it has no {error}"[:LONGEST_REASON]
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
