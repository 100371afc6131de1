"""A region of interest that somebody has painted: white where to look."""

from __future__ import annotations

import cv2
import numpy as np

from dao.answers.roi import HALF, Parts
from dao.dataloaders.datasets.masks import BINARY_THRESHOLD, read_raw_mask
from dao.errors import DataError

LONGEST = 1024  # pixels to a side of a mask picture that are kept


def parts_of_mask(path: str) -> Parts:
    """The region that a picture shows in white. Raises DataError when it cannot be read or shows none."""
    raw = read_raw_mask(path)
    grey = raw.max(axis=2) if raw.ndim == 3 else raw
    # as in masks of defects: 0 and 1, or black and white
    mask = (grey >= (BINARY_THRESHOLD if grey.max() > 1 else 1)).astype(np.uint8)
    if not mask.any():
        raise DataError(f"{path}: the region is empty; white is where to look")
    scale = min(1.0, LONGEST / max(mask.shape))
    if scale < 1:
        size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
    height, width = mask.shape
    rings, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [
        [
            [[round((x + HALF) / width, 5), round((y + HALF) / height, 5)] for x, y in ring[:, 0].tolist()]
            for ring in rings
        ]
    ]
