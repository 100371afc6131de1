"""JSON files that others wrote: parsed, and their values taken for what the format means by them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from dao.dataloaders.annotations.regions import LARGEST_PICTURE
from dao.dataloaders.datasets.base import read_text
from dao.dataloaders.guard import reading
from dao.errors import DataError

FLAGS = {False: False, True: True, "false": False, "true": True, "0": False, "1": True, None: False}


def parse_json(path: Path, what: str) -> Any:
    """A JSON file's content. Raises DataError naming the file, and the place where it stops being JSON; also where a
    key stands twice and says two things."""
    text = read_text(path, what)
    with reading(path, what):
        try:
            return json.loads(text, object_pairs_hook=_object_of)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: the {what} is not JSON: {error}") from None


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        differing = sorted({key for key, value in pairs if value != found[key]})
        if differing:
            raise ValueError(f"the key '{differing[0][:60]}' stands twice in one object and says two things")
    return found


def text_of(value: Any, what: str) -> str:
    """A name. Raises ValueError for what is neither text nor a number."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{what} is no text: {shown(value)}")


def number_of(value: Any, what: str) -> float:
    """A number, also one written as text. Raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{what} is no number: {shown(value)}")
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{what} is no number: {shown(value)}") from None


def key_of(value: Any, what: str) -> int | str:
    """An id: a whole number, or text; "7" is 7. Raises ValueError for anything else."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{what} is neither a number nor text: {shown(value)}")
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{what} is no whole number: {shown(value)}")
    return int(value)


def flag_of(value: Any, what: str) -> bool:
    """Yes or no, as tools write it. Raises ValueError for anything else."""
    known = value.strip().lower() if isinstance(value, str) else value
    if (known is None or isinstance(known, (bool, int, str, float))) and known in FLAGS:
        return FLAGS[known]
    raise ValueError(f"{what} is neither 0 nor 1: {shown(value)}")


def size_of(height: Any, width: Any) -> tuple[int, int] | None:
    """A picture's stated size; None where it is not stated: absent, 0, or -1 as some tools write it.

    Raises ValueError for what is no size of a picture.
    """
    if height is None or width is None:
        return None
    sides = number_of(height, "the height"), number_of(width, "the width")
    if not all(math.isfinite(side) and side == round(side) for side in sides):
        raise ValueError(f"the size is not in whole pixels: {shown(height)} x {shown(width)}")
    hw = round(sides[0]), round(sides[1])
    if min(hw) < 1:
        return None
    if hw[0] * hw[1] > LARGEST_PICTURE:
        raise ValueError(f"the size is no picture's: {hw[0]} x {hw[1]} pixels")
    return hw


def shown(value: Any) -> str:
    """A value in a message, short."""
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, dict) else repr(value)[:60]
