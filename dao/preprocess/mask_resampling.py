"""Masks of class indices in other sizes: nearest, or so that no defect is lost; the one place where it is done.

What is nearest is decided by OpenCV's INTER_NEAREST_EXACT everywhere: its answer at a tie differs from torch's.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dao.preprocess.settings import MaskResize

NEAREST = cv2.INTER_NEAREST_EXACT
IGNORE = 255  # class of pixels that are not labelled


def resize_mask(mask: NDArray[Any], height: int, width: int, kind: MaskResize = "nearest") -> NDArray[Any]:
    """(H, W) class indices -> (height, width).

    kind: "nearest" takes the pixel in the middle, so that a line of one pixel is there or not by chance when a mask is
    shrunk; "max" takes a defect wherever one covers any part of a pixel, the largest of several.
    """
    if mask.shape[:2] == (height, width):
        return mask
    nearest = cv2.resize(mask, (width, height), interpolation=NEAREST)
    if kind == "nearest" or (height >= mask.shape[0] and width >= mask.shape[1]):
        return nearest
    most = np.zeros((height, width), np.float32)
    for k in np.unique(mask):
        if k in (0, IGNORE):
            continue
        share = cv2.resize((mask == k).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        larger = share > np.maximum(most, 1e-6)
        nearest[larger] = k
        most = np.maximum(most, share)
    return nearest


def resize_masks(masks: Tensor, size_hw: tuple[int, int], kind: MaskResize = "nearest") -> Tensor:
    """(B, H, W) uint8 class indices on any device -> (B, h, w), pixel by pixel what `resize_mask` gives."""
    if kind == "nearest":
        rows, columns = (
            torch.from_numpy(nearest_places(length, to)).to(masks.device)
            for length, to in zip(masks.shape[1:], size_hw)
        )
        return masks[:, rows][:, :, columns]
    resized = [resize_mask(mask, *size_hw, kind) for mask in masks.cpu().numpy()]
    return torch.from_numpy(np.stack(resized)).to(masks.device)


def nearest_places(length: int, to: int) -> NDArray[np.int64]:
    """(to,) which of ``length`` pixels each of ``to`` new ones takes."""
    line = np.arange(length, dtype=np.float32)[None]
    return cv2.resize(line, (to, 1), interpolation=NEAREST)[0].astype(np.int64)
