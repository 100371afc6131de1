"""Transforms that albumentations lacks. `dao.dataloaders.transforms` registers them beside its own."""

from __future__ import annotations

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from typing import Any

import albumentations as A
import cv2
import numpy as np
from albumentations.core.type_definitions import Targets
from numpy.typing import NDArray

from dao.preprocess.geometry import placement
from dao.preprocess.mask_resampling import resize_mask
from dao.preprocess.module import Preprocess

Pixels = NDArray[np.uint8]


class HistogramStretch(A.ImageOnlyTransform):
    """Spread the grey levels between two percentiles over 0..255; what lies outside is clipped.

    low_percentile, high_percentile: 0..100, of the picture's own pixels. A picture of one grey level stays as it is.
    per_channel: stretch every channel by itself, which changes colours; otherwise all channels alike.
    p: probability.
    """

    prepares = True  # not an augmentation: it stays on when augmentation is closed

    def __init__(
        self, low_percentile: float = 1.0, high_percentile: float = 99.0, per_channel: bool = False, p: float = 1.0
    ) -> None:
        super().__init__(p=p)
        if not 0 <= low_percentile < high_percentile <= 100:
            got = f"{low_percentile} and {high_percentile}"
            raise ValueError(f"low_percentile must lie below high_percentile, both in 0..100; got {got}")
        self.low_percentile, self.high_percentile, self.per_channel = low_percentile, high_percentile, per_channel

    def apply(self, img: Pixels, **params: Any) -> Pixels:
        """img: (H, W, C) uint8; returns the same shape."""
        if not self.per_channel:
            return cv2.LUT(img, self._table(img)).reshape(img.shape)
        channels = [cv2.LUT(img[..., c], self._table(img[..., c])) for c in range(img.shape[2])]
        return np.stack(channels, axis=-1)

    def _table(self, pixels: Pixels) -> Pixels:
        # the levels are counted, not sorted: percentiles of 256 values cost the same for any picture
        cumulative = np.cumsum(np.bincount(pixels.ravel(), minlength=256))
        low, high = (
            int(np.searchsorted(cumulative, max(1, percentile / 100 * cumulative[-1])))
            for percentile in (self.low_percentile, self.high_percentile)
        )
        levels = np.arange(256)
        if high <= low:
            return levels.astype(np.uint8)
        return np.clip(np.rint((levels - low) * 255 / (high - low)), 0, 255).astype(np.uint8)


class Letterbox(A.DualTransform):
    """Scale to fit into height x width pixels, keeping the aspect ratio, and pad: what ``preprocess`` does.

    pad_value: grey level of the border; masks get class 0 there. p: probability.
    """

    prepares = True  # not an augmentation: it stays on when augmentation is closed

    _targets = (Targets.IMAGE, Targets.MASK, Targets.BBOXES)

    def __init__(self, height: int, width: int, pad_value: int = 114, p: float = 1.0) -> None:
        super().__init__(p=p)
        if min(height, width) < 1:
            raise ValueError(f"height and width must be at least 1 pixel, got {height} x {width}")
        if not 0 <= pad_value <= 255:
            raise ValueError(f"pad_value must lie in 0..255, got {pad_value}")
        self.size = (height, width)
        self._preprocess = Preprocess(size=self.size, resize="letterbox", pad_value=pad_value)

    def apply(self, img: Pixels, **params: Any) -> Pixels:
        """img: (H, W, C) uint8; returns (height, width, C)."""
        return self._preprocess.resize_uint8(img)

    def apply_to_mask(self, mask: NDArray[Any], **params: Any) -> NDArray[Any]:
        """mask: (H, W) classes; returns (height, width)."""
        place = placement(mask.shape[:2], self.size, "letterbox")
        scaled = resize_mask(mask, place.height, place.width)
        canvas = np.zeros((*self.size, *mask.shape[2:]), mask.dtype)
        canvas[place.top : place.top + place.height, place.left : place.left + place.width] = scaled
        return canvas

    def apply_to_bboxes(self, bboxes: NDArray[np.float32], **params: Any) -> NDArray[np.float32]:
        """bboxes: (N, 4 + more), corners in 0..1 of the picture; returns them in 0..1 of the padded one."""
        place = placement(params["shape"][:2], self.size, "letterbox")
        height, width = self.size
        moved = bboxes.copy()
        moved[:, [0, 2]] = (bboxes[:, [0, 2]] * place.width + place.left) / width
        moved[:, [1, 3]] = (bboxes[:, [1, 3]] * place.height + place.top) / height
        return moved


class GrayToRGB(A.ImageOnlyTransform):
    """Three equal channels from a grey picture, for transforms that want colour; a colour picture stays as it is."""

    prepares = True  # not an augmentation: it stays on when augmentation is closed

    def __init__(self, p: float = 1.0) -> None:
        super().__init__(p=p)

    def apply(self, img: Pixels, **params: Any) -> Pixels:
        """img: (H, W, 1 or 3) uint8; returns (H, W, 3)."""
        return np.repeat(img, 3, axis=2) if img.shape[2] == 1 else img


OWN = (HistogramStretch, Letterbox, GrayToRGB)
