from __future__ import annotations

import numpy as np
import pytest

from dao.dataloaders import cache as C
from dao.dataloaders.cache import PictureCache
from dao.errors import DataError, RunError
from dao.structures import Sample


def read_one(index: int) -> Sample:
    """Sizes differ; number 3 cannot be read."""
    if index == 3:
        raise DataError("3.png: torn")
    rng = np.random.default_rng(index)
    image = rng.integers(0, 256, (5 + index % 7, 6 + index % 5, 3), np.uint8)
    mask = rng.integers(0, 9, image.shape[:2], np.uint8) if index % 2 else None
    return Sample(image, f"{index}.png", index, (50 + index, 60), mask=mask)


@pytest.mark.parametrize("page_bytes", [100, 1000, 10**9])
def test_what_goes_in_comes_out(monkeypatch, page_bytes):
    """Also where a picture is larger than a page, and where pages run full."""
    monkeypatch.setattr(C, "PAGE_BYTES", page_bytes)
    cache = PictureCache(read_one, 40)
    for index in range(40):
        if index == 3:
            with pytest.raises(DataError, match=r"3\.png: torn"):
                cache.get(3)
            continue
        image, original_hw, mask = cache.get(index)
        assert np.array_equal(image, read_one(index).image) and original_hw == (50 + index, 60)
        assert np.array_equal(mask, read_one(index).mask) if index % 2 else mask is None


def test_pictures_are_handed_out_as_copies():
    cache = PictureCache(read_one, 3)
    cache.get(0)[0][:] = 0
    assert np.array_equal(cache.get(0)[0], read_one(0).image)


def test_every_picture_is_read_once_beyond_the_estimate():
    calls: list[int] = []
    PictureCache(lambda i: calls.append(i) or read_one(0), 200)
    assert len(calls) == 200 + C.SIZED_FROM and set(calls) == set(range(200))


def test_it_is_refused_before_anything_is_kept_when_memory_is_short(monkeypatch):
    calls: list[int] = []

    def big(index: int) -> Sample:
        calls.append(index)
        return Sample(np.zeros((1024, 1024, 1), np.uint8), "", index, (1, 1))

    with pytest.raises(RunError, match=r"needs 1\.00 GiB of memory, and 0\.80 GiB can be used.*cache: false"):
        PictureCache(big, 1024, free_bytes=2**30)
    assert len(calls) == C.SIZED_FROM
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(RunError, match="for each of 4 processes"):
        PictureCache(big, 64, free_bytes=2**28)


def test_free_memory_respects_a_containers_limit(tmp_path):
    assert C._free_in_cgroup(tmp_path) == float("inf")
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\nfile 200\ninactive_file 150\n")
    assert C._free_in_cgroup(tmp_path) == 450
    (tmp_path / "memory.max").write_text("max\n")
    assert C._free_in_cgroup(tmp_path) == float("inf")
    assert C.free_memory() > 0
