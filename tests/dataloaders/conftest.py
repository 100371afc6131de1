"""Tiny pictures on disk. Every picture's content is a function of its name, so that mix-ups show."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from dao.preprocess import Preprocess


def draw(path: Path, hw: tuple[int, int] = (20, 30)) -> Path:
    """Write a PNG of noise that depends on split, class and file name alone."""
    rng = np.random.default_rng(zlib.crc32("/".join(path.parts[-3:]).encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(".png", rng.integers(0, 256, (*hw, 3), np.uint8))
    assert ok
    path.write_bytes(data.tobytes())
    return path


@pytest.fixture
def make_picture():
    return draw


@pytest.fixture
def folder_set(tmp_path: Path) -> Path:
    """root/train: 9 dent, 4 scratch; root/val: 3 dent (no scratch). Sizes differ."""
    root = tmp_path / "set"
    for i in range(9):
        draw(root / "train" / "dent" / f"{i}.png", (20 + i, 30))
    for i in range(4):
        draw(root / "train" / "scratch" / f"{i}.png", (24, 18 + i))
    for i in range(3):
        draw(root / "val" / "dent" / f"{i}.png")
    return root


@pytest.fixture
def preprocess() -> Preprocess:
    return Preprocess(size=(16, 24), resize="letterbox")
