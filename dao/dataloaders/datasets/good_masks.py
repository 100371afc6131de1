"""Masks of pictures that are called good: one that marks a defect contradicts the label, and nobody knows which is right."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from dao.dataloaders.census import Census
from dao.dataloaders.datasets.masks import BINARY_THRESHOLD, read_raw_mask
from dao.errors import DataError

CONTRADICTED = "pictures called good with a defect in the mask left out"
UNREAD = "masks of good pictures not readable and taken as empty"
THREADS = 8


def contradicted(masks: Mapping[str, str], mask_from: int | None, census: Census) -> set[str]:
    """Those of some good pictures whose mask marks something; the census names them.

    masks: file of the mask by picture; mask_from: see `AnomalyDataset`.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        found = dict(zip(masks, pool.map(lambda path: _marks(path, mask_from), masks.values())))
    for picture, marks in found.items():
        if marks is None:
            census.adjust(UNREAD, masks[picture])
        elif marks:
            census.omit(CONTRADICTED, picture)
    return {picture for picture, marks in found.items() if marks}


def _marks(path: str, mask_from: int | None) -> bool | None:
    """Whether a mask marks anything; None where it cannot be read."""
    try:
        highest = int(read_raw_mask(path).max())
    except DataError:
        return None
    return highest >= (mask_from or (BINARY_THRESHOLD if highest > 1 else 1))
