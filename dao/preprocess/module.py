"""The one module that turns raw pixels into the model's input: in training, evaluation, demo and the exported file.

Three faces of the same resize:

- `Preprocess.forward` takes raw uint8 pictures and is what an exported graph holds;
- `Preprocess.resize_tensor` is the same resize for one picture in an evaluation loader;
- `Preprocess.resize_uint8` is the training loader's, several times faster and within a grey level of it.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dao.errors import ConfigError
from dao.preprocess import mask_resampling
from dao.preprocess.geometry import Placement, place_pixels, placement
from dao.preprocess.settings import PreprocessSettings

NARROW = 16  # pixels; below it torch's antialiased uint8 kernel was seen to be off by 175 levels (torch 2.15)


class Preprocess(nn.Module):
    """Raw pixels in, model input out. See `PreprocessSettings` for the keywords."""

    mean: Tensor
    std: Tensor

    def __init__(self, settings: PreprocessSettings | None = None, **values: Any) -> None:
        super().__init__()
        self.settings = s = settings or PreprocessSettings.of(values)
        if s.problems():
            raise ConfigError(s.problems())
        self.size, self.in_channels, self.bit_depth = s.size, s.in_channels, s.bit_depth
        shape = (1, s.in_channels, 1, 1)
        # kept out of state dicts: they travel as settings, and a checkpoint's weights stay those of the bare model
        self.register_buffer("mean", torch.tensor(s.per_channel(s.mean)).view(shape) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(s.per_channel(s.std)).view(shape) * 255, persistent=False)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values; ``Preprocess(**d)`` restores them."""
        return self.settings.to_dict()

    def place(self, original_hw: tuple[int, int]) -> Placement:
        """Where a picture of ``original_hw`` comes to lie in the input; safe to trace."""
        s = self.settings
        return placement(original_hw, s.size, s.resize, s.position, torch.sym_min, torch.sym_max)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) pixel values 0..255, any size, uint8 or float -> (B, C, h, w) float model input."""
        return self.normalise(self.resize(images))

    def resize(self, images: Tensor) -> Tensor:
        """(B, C, H, W) pixel values of any size -> (B, C, h, w) float32, still 0..255."""
        s, x = self.settings, images.float()
        place = self.place((x.shape[-2], x.shape[-1]))
        if not s.tiled:
            x = F.interpolate(
                x, size=(place.height, place.width), mode="bilinear", align_corners=False, antialias=s.antialias
            )
        return _place(x, place, s.size, float(s.pad_value))

    def normalise(self, images: Tensor) -> Tensor:
        """(B, C, h, w) pixel values 0..255, uint8 or float -> float32 with the model's mean, deviation and channel order."""
        x = (images.float() - self.mean) / self.std
        return x.flip(1) if self.settings.channel_order == "bgr" else x

    def resize_tensor(self, image: NDArray[np.uint8]) -> Tensor:
        """One (H, W, C) uint8 picture -> (C, h, w) float32, 0..255: the exported graph's resize."""
        chw = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        return self.resize(chw.unsqueeze(0))[0]

    def resize_uint8(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One (H, W, C) uint8 picture -> (h, w, C) uint8: the same resize, rounded, for training."""
        s = self.settings
        place = s.place((image.shape[0], image.shape[1]))
        return place_pixels(self.scale_uint8(image), place, s.size, s.pad_value)

    def scale_uint8(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The scaling of `resize_uint8` alone: neither padded nor cut, (place.height, place.width, C)."""
        place = self.settings.place((image.shape[0], image.shape[1]))
        if not self.settings.tiled and min(*image.shape[:2], place.height, place.width) < NARROW:
            return _scale_exactly(image, place, self.settings.antialias)
        return _scale_uint8(image, place, self.settings.antialias)

    def resize_mask(self, mask: NDArray[Any], fill: int) -> NDArray[Any]:
        """One (H, W) mask of class indices -> (h, w) as ``mask_resize`` says, lying where `resize_uint8` puts its picture.

        fill: what the letterbox border becomes.
        """
        s = self.settings
        place = s.place((mask.shape[0], mask.shape[1]))
        scaled = mask_resampling.resize_mask(mask, place.height, place.width, s.mask_resize)
        return place_pixels(scaled[:, :, None], place, s.size, fill)[:, :, 0]

    def restore(self, maps: Tensor, original_hw: tuple[int, int]) -> Tensor:
        """(B, K, h, w) float maps over the model's input -> (B, K, H, W) over the pictures it was made from, bilinear.

        Safe to trace. Not for "crop", whose ends the model never saw.
        """
        s, place = self.settings, self.place(original_hw)
        bottom, right = s.size[0] - place.height - place.top, s.size[1] - place.width - place.left
        # cut by negative padding, which copies: of a view, torch.export would want to know whether it is contiguous
        seen = F.pad(maps, (-place.left, -right, -place.top, -bottom))
        return seen if s.tiled else F.interpolate(seen, size=original_hw, mode="bilinear", align_corners=False)


def _place(x: Tensor, place: Placement, size: tuple[int, int], value: float) -> Tensor:
    """Pad, or cut where the paddings are negative, to ``size``."""
    bottom, right = size[0] - place.height - place.top, size[1] - place.width - place.left
    return F.pad(x, (place.left, right, place.top, bottom), value=value)


def _scale_exactly(image: NDArray[np.uint8], place: Placement, antialias: bool) -> NDArray[np.uint8]:
    """As `Preprocess.resize` scales, rounded."""
    chw = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).unsqueeze(0).float()
    size = (place.height, place.width)
    out = F.interpolate(chw, size=size, mode="bilinear", align_corners=False, antialias=antialias)
    return out[0].round().to(torch.uint8).permute(1, 2, 0).numpy()


def _scale_uint8(image: NDArray[np.uint8], place: Placement, antialias: bool) -> NDArray[np.uint8]:
    h, w, channels = image.shape
    if (h, w) == (place.height, place.width):
        return image
    shrinks = place.height < h or place.width < w
    if antialias and shrinks:
        # torch's uint8 kernel is the antialiased filter of `resize` with rounding; cv2 has no such filter
        chw = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).unsqueeze(0)
        out = F.interpolate(chw, size=(place.height, place.width), mode="bilinear", antialias=True)
        return np.ascontiguousarray(out[0].permute(1, 2, 0).numpy())
    scaled = cv2.resize(image, (place.width, place.height), interpolation=cv2.INTER_LINEAR)
    return scaled.reshape(place.height, place.width, channels)
