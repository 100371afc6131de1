"""Masks of pictures that are called defective: one that marks nothing contradicts the name, and nobody knows which is right."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dao.dataloaders.census import Census
from dao.dataloaders.datasets.base import Record, Taken
from dao.dataloaders.datasets.masks import BINARY_THRESHOLD, MaskCodec, read_raw_mask
from dao.errors import DataError

CONTRADICTED = "pictures named for a defect with nothing marked in the mask left out"
THREADS = 8
Named = TypeVar("Named", bound=Record)


def refuse_unmarked(
    records: list[Named], named: dict[int, tuple[str, Iterable[str]]], codec: MaskCodec, census: Census, origin: str
) -> list[Named]:
    """The records without those that a defect is named for and whose masks mark none: they would pass for good parts.

    named: place among the records -> what the census says of it, and the files of its masks.
    Raises DataError where that is every one of them: the settings are wrong then, not the masks.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        marked = dict(zip(named, pool.map(lambda one: any(_marks(path, codec) for path in one[1]), named.values())))
    empty = {place for place, marks in marked.items() if not marks}
    if empty and len(empty) == len(records):
        raise DataError(
            f"{origin}: every picture is named for a defect, and no mask marks anything; is mask_format right?"
        )
    for place in sorted(empty):
        census.omit(CONTRADICTED, named[place][0])
    kept = (record for place, record in enumerate(records) if place not in empty)
    return Taken(kept, getattr(records, "whole", len(records)) - len(empty))


def _marks(path: str, codec: MaskCodec) -> bool:
    """Whether a mask marks anything; one that cannot be read is told when its turn comes."""
    try:
        raw = read_raw_mask(path, codec.kind == "index")
        if codec.kind == "binary" and raw.size and raw.max() >= BINARY_THRESHOLD:  # a tenth of the time of decoding
            return True
        return bool(codec.decode(raw, path, 1).any())
    except DataError:
        return True
