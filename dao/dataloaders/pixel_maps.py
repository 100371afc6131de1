"""Pictures scaled, pasted, mapped and recoloured by OpenCV: pure functions of (H, W, C) uint8 arrays."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.dataloaders.box_geometry import Matrix

Pixels = NDArray[np.uint8]
Generator = np.random.Generator


def fit_inside(image: Pixels, hw: tuple[int, int]) -> tuple[Pixels, tuple[float, float]]:
    """The picture scaled, its shape kept, to fit into ``hw``; and the factors of x and y. Handed through if it fits."""
    ratio = min(hw[0] / image.shape[0], hw[1] / image.shape[1])
    height, width = max(1, round(image.shape[0] * ratio)), max(1, round(image.shape[1] * ratio))
    if (height, width) == image.shape[:2]:
        return image, (1.0, 1.0)
    way = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(image, (width, height), interpolation=way).reshape(height, width, image.shape[2])
    return scaled, (width / image.shape[1], height / image.shape[0])


def paste(canvas: Pixels, image: Pixels, top: int, left: int) -> None:
    """Lay a picture onto a canvas, its corner at (top, left), which may lie outside; in place."""
    y, x = max(top, 0), max(left, 0)
    part = image[y - top : canvas.shape[0] - top, x - left : canvas.shape[1] - left]
    canvas[y : y + part.shape[0], x : x + part.shape[1]] = part


def placed(from_hw: tuple[int, int], to_hw: tuple[int, int], scale: float, rng: Generator) -> Matrix:
    """(2, 3): scaled to ``scale`` times what fits, at a random place where it lies inside, or covers, the frame."""
    factor = scale * min(to_hw[0] / from_hw[0], to_hw[1] / from_hw[1])
    top, left = (rng.uniform(*sorted((0.0, to - factor * side))) for side, to in zip(from_hw, to_hw))
    return np.array([[factor, 0, left], [0, factor, top]])


def mirrored(matrix: Matrix, width: int) -> Matrix:
    """The map after a left-right flip of a picture of ``width`` pixels."""
    return np.stack([-matrix[:, 0], matrix[:, 1], matrix[:, 2] + matrix[:, 0] * width], axis=1)


def warp_pixels(image: Pixels, matrix: Matrix, hw: tuple[int, int], pad_value: int) -> Pixels:
    """The picture mapped into a frame of ``hw``. ``matrix`` maps edges of pixels; OpenCV counts from their middles."""
    shift = matrix.copy()
    shift[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    border = (pad_value,) * 3
    warped = cv2.warpAffine(image, shift, (hw[1], hw[0]), flags=cv2.INTER_LINEAR, borderValue=border)
    return warped.reshape(*hw, image.shape[2])


def shift_hsv(image: Pixels, shifts: NDArray[np.int64]) -> Pixels:
    """The picture with hue (mod 180), saturation and value moved by whole levels; by table, which is exact and fast."""
    levels = np.arange(256, dtype=np.int64)
    if image.shape[2] == 1:
        return cv2.LUT(image, np.clip(levels + shifts[2], 0, 255).astype(np.uint8)).reshape(image.shape)
    tables = [(levels + shifts[0]) % 180, np.clip(levels + shifts[1], 0, 255), np.clip(levels + shifts[2], 0, 255)]
    hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), np.stack(tables, axis=1).astype(np.uint8).reshape(1, 256, 3))
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
