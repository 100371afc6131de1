"""Decoded pictures in memory, filled once and shared with all workers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from loguru import logger
from numpy.typing import NDArray
from torch import Tensor

from dao.errors import DataError, RunError
from dao.processes import dist
from dao.structures import Sample
from dao.words.counted import counted

PAGE_BYTES = 256 * 2**20
SIZED_FROM = 32  # pictures that are decoded to estimate the size of all
USABLE = 0.8  # of the free memory; the model, the workers and the file cache live in the rest
GIB = 2**30

ReadOne = Callable[[int], Sample]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one picture lies: its page, its first byte there, its shape, and the size it was decoded at.

    mask_shape: of the mask that lies behind it, where it has one.
    """

    page: int
    start: int
    shape: tuple[int, int, int]
    original_hw: tuple[int, int]
    mask_shape: tuple[int, int] | None = None


class PictureCache:
    """Pixels of every readable picture, and of its mask, in flat uint8 tensors ("pages").

    Pages are allocated as they fill, so the size need not be known and nothing is held twice. Forked workers share
    them as they are; torch moves them to shared memory when a worker is spawned.
    """

    def __init__(self, read_one: ReadOne, count: int, free_bytes: int | None = None) -> None:
        """Read ``count`` pictures with ``read_one`` (raises DataError for unreadable ones, which are remembered).

        Raises RunError, before anything is kept, when they would not fit into the memory that is free.
        """
        self._pages: list[Tensor] = []
        self._places: list[Place | str] = []  # a text is the reason why there is no picture
        self._filled = 0
        needed = estimate_bytes(read_one, count)
        _refuse_if_short(needed, free_memory() if free_bytes is None else free_bytes)
        self._page_bytes = min(PAGE_BYTES, max(needed, 1))
        for outcome in _read_all(read_one, count):
            self._places.append(outcome if isinstance(outcome, str) else self._keep(outcome))
        logger.info("cache: {} in {:.2f} GiB of memory", counted(count, "picture"), self.nbytes / GIB)

    @property
    def nbytes(self) -> int:
        """Bytes that the pages take."""
        return sum(page.numel() for page in self._pages)

    def get(self, index: int) -> tuple[NDArray[np.uint8], tuple[int, int], NDArray[np.uint8] | None]:
        """Copies of the pixels (H, W, C) and of the mask (H, W), for transforms to change, with the original height
        and width between them.

        Raises DataError when the picture could not be read.
        """
        place = self._places[index]
        if isinstance(place, str):
            raise DataError(place)
        page = self._pages[place.page].numpy()
        end = place.start + math.prod(place.shape)
        image = page[place.start : end].reshape(place.shape).copy()
        if place.mask_shape is None:
            return image, place.original_hw, None
        mask = page[end : end + math.prod(place.mask_shape)].reshape(place.mask_shape).copy()
        return image, place.original_hw, mask

    def _keep(self, sample: Sample) -> Place:
        parts = [np.ascontiguousarray(part).reshape(-1) for part in (sample.image, sample.mask) if part is not None]
        start = self._reserve(sum(part.size for part in parts))
        page = self._pages[-1].numpy()
        for part in parts:
            page[self._filled : self._filled + part.size] = part
            self._filled += part.size
        mask_shape = None if sample.mask is None else sample.mask.shape
        return Place(len(self._pages) - 1, start, sample.image.shape, sample.original_hw, mask_shape)

    def _reserve(self, size: int) -> int:
        """Make room for ``size`` bytes in the last page; returns where they begin."""
        if not self._pages or self._filled + size > self._pages[-1].numel():
            page = max(self._page_bytes, size)
            if self._pages:  # the estimate was for all pages; further ones are asked for one by one
                _refuse_if_short(page, free_memory())
            self._pages.append(torch.empty(page, dtype=torch.uint8))
            self._filled = 0
        return self._filled


def estimate_bytes(read_one: ReadOne, count: int) -> int:
    """Bytes that all pictures take decoded, from some of them spread over the set."""
    sizes = []
    for index in np.unique(np.linspace(0, count - 1, min(count, SIZED_FROM)).astype(int)):
        outcome = _outcome(read_one, int(index))
        if not isinstance(outcome, str):
            sizes.append(outcome.image.nbytes + (0 if outcome.mask is None else outcome.mask.nbytes))
    return int(np.ceil(np.mean(sizes) * count)) if sizes else 0


def free_memory() -> int:
    """Bytes that this process may still take: the machine's, or its container's where that is less."""
    import psutil

    return min(psutil.virtual_memory().available, _free_in_cgroup(Path("/sys/fs/cgroup")))


def _free_in_cgroup(root: Path) -> float:
    """What a container's limit leaves (cgroup 2, then 1); infinite where there is none."""
    for limit_name, used_name in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limit, used = (root / limit_name).read_text().strip(), (root / used_name).read_text().strip()
            stat = (root / limit_name).with_name("memory.stat").read_text().split()
        except OSError:
            continue
        if limit.isdigit():  # "max" is no limit
            # cached files count as used, but give way
            reclaimable = int(stat[stat.index("inactive_file") + 1]) if "inactive_file" in stat else 0
            return max(0, int(limit) - int(used) + reclaimable)
    return float("inf")


def _refuse_if_short(needed: int, free: float) -> None:
    # every process of this machine fills a cache of its own
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", dist.world_size()))
    if needed * processes > free * USABLE:
        times = f" for each of {processes} processes" if processes > 1 else ""
        raise RunError(
            f"the cache needs {needed / GIB:.2f} GiB of memory{times}, and {free * USABLE / GIB:.2f} GiB can be used "
            f"({USABLE:.0%} of what is free). Train without it (cache: false), or at a smaller preprocess.size"
        )


def _outcome(read_one: ReadOne, index: int) -> Sample | str:
    try:
        return read_one(index)
    except DataError as error:
        return str(error)


def _read_all(read_one: ReadOne, count: int) -> Iterator[Sample | str]:
    """Every picture in order, decoded by threads (OpenCV lets go of Python's lock) a few ahead of their use."""
    threads = min(16, os.cpu_count() or 1)
    step = threads * 8
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, count, step):
            yield from pool.map(lambda i: _outcome(read_one, i), range(start, min(start + step, count)))
