"""What a set's pictures say of themselves before any is decoded: pages that nobody will see, depths that would come black."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dao.errors import DataError
from dao.images import decoding_budget
from dao.images.files import read_file
from dao.images.image_io import decode_all_bits, max_pixels, read_head

LOOKED_AT = 1000  # pictures, spread over a set; their heads cost some 30 us each on a local disk
DECODED = 16  # of those with 16 bits
SPARE_BITS = 2  # a picture that leaves so many of its bits unused is too dark by a factor of four
LARGE = 2**26  # pixels
PAGES = "files of several pages or frames, of which the first alone is read"


def look_at(dataset: Any) -> None:
    """Count in the dataset's census files of several pages, and note in ``deep_pictures`` those of 16 bits."""
    dataset.deep_pictures = []
    for path in _spread([record.path for record in dataset.records], LOOKED_AT):
        head = read_head(path)
        if head is None:
            continue
        if head.pages > 1:
            dataset.census.adjust(PAGES, path)
        if head.bits == 16:
            dataset.deep_pictures.append(path)


def depth_problem(paths: Sequence[str], bit_depth: int) -> str:
    """What to say of 16-bit pictures whose values do not fit the significant bits that a config states; "" if they fit.

    Some are decoded for it. Values that need 2 bits less make dark pictures, such that need more are clipped.
    """
    brightest, example = -1, ""
    for path in _spread(paths, DECODED):
        try:
            pixels = decode_all_bits(read_file(path), path)
        except DataError:
            continue
        if pixels.dtype == np.uint16 and pixels.size and int(pixels.max()) > brightest:
            brightest, example = int(pixels.max()), path
    return describe_depth(brightest, example, bit_depth) if example else ""


def describe_depth(brightest: int, example: str, bit_depth: int) -> str:
    """`depth_problem` of the brightest value that was found, in the picture ``example``."""
    needed = max(8, brightest.bit_length())
    if bit_depth - SPARE_BITS < needed <= bit_depth:
        return ""
    if needed > bit_depth:
        effect = f"what is brighter than {2**bit_depth - 1} is clipped to white"
    else:
        effect = f"they come {2 ** (bit_depth - needed)} times too dark" + (" (black)" if needed == 8 else "")
    return (
        f"16-bit pictures with values up to {brightest}, e.g. {example}: read as {bit_depth} significant bits "
        f'{effect}; "preprocess": {{"bit_depth": {needed}}} fits them'
    )


def memory_note(processes: int, free_bytes: float) -> str:
    """What to say where as many of the largest allowed pictures as are decoded at once would not fit into memory."""
    one = max_pixels() * 3
    needed = min(processes * one, max(one, decoding_budget.places() * decoding_budget.LARGE * 3))
    if needed <= free_bytes:
        return ""
    return (
        f"{processes} processes may decode pictures of up to {max_pixels():,} pixels each, {needed / 2**30:.1f} GiB at once, "
        f'and {free_bytes / 2**30:.1f} GiB are free: if yours are smaller, a lower "limits": {{"max_pixels": ...}} refuses '
        "a broken file that claims more"
    )


def _spread(items: Sequence[str], count: int) -> list[str]:
    if len(items) <= count:
        return list(items)
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, count)]
