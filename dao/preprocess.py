"""The one module that turns raw pixels into the model's input: in training, evaluation, demo and the exported file.

Three faces of the same resize:

- `Preprocess.forward` takes raw uint8 pictures and is what an exported graph holds;
- `Preprocess.resize_tensor` is the same resize for one picture in an evaluation loader;
- `Preprocess.resize_uint8` is the training loader's, several times faster and within a grey level of it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dao import mask_resampling
from dao.errors import ConfigError, Problem
from dao.mask_resampling import MaskResize

ResizeKind = Literal["letterbox", "stretch", "crop", "tile"]
Position = Literal["center", "top_left"]
ChannelOrder = Literal["rgb", "bgr"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NARROW = 16  # pixels; below it torch's antialiased uint8 kernel was seen to be off by 175 levels (torch 2.15)
MOST_OVERLAP = 0.9  # each pixel is then in a hundred windows


@dataclass(frozen=True, slots=True)
class PreprocessSettings:
    """The config section ``preprocess``; saved in checkpoints and exported files.

    size: model input [height, width] in pixels.
    resize: "letterbox" keeps the aspect ratio and pads; "stretch" does not keep it; "crop" keeps it, fills the
        input and cuts the longer side's ends; "tile" does not scale: a picture larger than the input is answered
        window by window (see dao/tiling.py), a smaller one is padded below and to the right.
    overlap: with "tile", the least share that neighbouring windows have in common.
    antialias: filter before shrinking, so that a thin scratch fades instead of vanishing between two pixels.
    mean, std: per channel in the order red, green, blue, in units of 0..1 (mean 0 and std 1/255 give the model 0..255).
    position: where "letterbox" puts the picture, and which part "crop" keeps.
    channel_order: in which the model takes its channels; pictures are RGB everywhere else.
    mask_resize: of training masks: "nearest", or "max", by which a defect of any part of a pixel is kept when a mask is
        shrunk: a scratch of one pixel stays whole, as `antialias` lets it stay in the picture.
    pad_value: grey level of the letterbox border. in_channels: 3 (RGB) or 1 (grey).
    bit_depth: significant bits of 16-bit files (a 12-bit camera writes 12); 8-bit files are not affected.
    """

    size: tuple[int, int] = (224, 224)
    resize: ResizeKind = "letterbox"
    antialias: bool = True
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    pad_value: int = 114
    in_channels: Literal[1, 3] = 3
    bit_depth: int = 16
    overlap: float = 0.25
    position: Position = "center"
    channel_order: ChannelOrder = "rgb"
    mask_resize: MaskResize = "nearest"

    def problems(self) -> list[Problem]:
        """What is wrong with the values taken together; their types are checked elsewhere."""
        found = []
        if min(self.size) < 1:
            found.append(Problem("preprocess.size", f"both sides must be at least 1 pixel, got {list(self.size)}"))
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (1, self.in_channels) and not self._is_default(name):
                found.append(
                    Problem(
                        f"preprocess.{name}", f"needs 1 or {self.in_channels} values, one a channel, got {len(values)}"
                    )
                )
        if any(value <= 0 for value in self.std):
            found.append(Problem("preprocess.std", f"must be above 0, got {list(self.std)}"))
        if not 0 <= self.pad_value <= 255:
            found.append(Problem("preprocess.pad_value", f"must lie in 0..255, got {self.pad_value}"))
        if self.channel_order == "bgr" and self.in_channels == 1:
            found.append(Problem("preprocess.channel_order", "a grey input has one channel and no order; leave it out"))
        if not 8 <= self.bit_depth <= 16:
            found.append(Problem("preprocess.bit_depth", f"must lie in 8..16, got {self.bit_depth}"))
        if not 0 <= self.overlap <= MOST_OVERLAP:
            message = f"must lie in 0..{MOST_OVERLAP}, got {self.overlap}: beyond, a picture has windows without number"
            found.append(Problem("preprocess.overlap", message))
        return found

    @property
    def tiled(self) -> bool:
        """Whether pictures are answered window by window."""
        return self.resize == "tile"

    def place(self, original_hw: tuple[int, int]) -> Placement:
        """Where a picture of ``original_hw`` comes to lie in the input; safe to trace."""
        return placement(original_hw, self.size, self.resize, self.position)

    def _is_default(self, name: str) -> bool:
        return tuple(getattr(self, name)) == (IMAGENET_MEAN if name == "mean" else IMAGENET_STD)

    def per_channel(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """One value per input channel: repeated when a single one is given, averaged when RGB statistics meet grey."""
        if len(values) == self.in_channels:
            return values
        return (sum(values) / len(values),) * self.in_channels


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies in the model's input: scaled to (height, width), its corner at (top, left) pixels."""

    height: int
    width: int
    top: int
    left: int


def placement(
    original_hw: tuple[int, int], size: tuple[int, int], kind: ResizeKind, position: Position = "center"
) -> Placement:
    """Placement of a picture of ``original_hw`` in an input of ``size``; integer arithmetic, safe to trace.

    A negative corner means that the scaled picture is larger than the input and is cut ("crop").
    """
    h, w = original_hw
    th, tw = size
    if kind == "stretch":
        return Placement(th, tw, 0, 0)
    if kind == "tile":
        return Placement(h, w, 0, 0)
    fit_h, fit_w = (2 * h * tw + w) // (2 * w), (2 * w * th + h) // (2 * h)  # rounded to the nearest pixel
    if kind == "letterbox":
        nh = torch.sym_min(th, torch.sym_max(1, fit_h))
        nw = torch.sym_min(tw, torch.sym_max(1, fit_w))
        return _positioned(nh, nw, (th - nh) // 2, (tw - nw) // 2, position)
    nh, nw = torch.sym_max(th, fit_h), torch.sym_max(tw, fit_w)
    # halved as positive numbers: ONNX rounds a negative quotient towards zero, Python away from it
    return _positioned(nh, nw, -((nh - th) // 2), -((nw - tw) // 2), position)


def _positioned(height: int, width: int, top: int, left: int, position: Position) -> Placement:
    return Placement(height, width, top, left) if position == "center" else Placement(height, width, 0, 0)


class Preprocess(nn.Module):
    """Raw pixels in, model input out. See `PreprocessSettings` for the keywords."""

    mean: Tensor
    std: Tensor

    def __init__(self, settings: PreprocessSettings | None = None, **values: Any) -> None:
        super().__init__()
        self.settings = s = settings or PreprocessSettings(**{k: _tupled(v) for k, v in values.items()})
        if s.problems():
            raise ConfigError(s.problems())
        self.size, self.in_channels, self.bit_depth = s.size, s.in_channels, s.bit_depth
        shape = (1, s.in_channels, 1, 1)
        # kept out of state dicts: they travel as settings, and a checkpoint's weights stay those of the bare model
        self.register_buffer("mean", torch.tensor(s.per_channel(s.mean)).view(shape) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(s.per_channel(s.std)).view(shape) * 255, persistent=False)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values; ``Preprocess(**d)`` restores them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.settings).items()}

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) pixel values 0..255, any size, uint8 or float -> (B, C, h, w) float model input."""
        return self.normalise(self.resize(images))

    def resize(self, images: Tensor) -> Tensor:
        """(B, C, H, W) pixel values of any size -> (B, C, h, w) float32, still 0..255."""
        s, x = self.settings, images.float()
        place = s.place((x.shape[-2], x.shape[-1]))
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
        s = self.settings
        place = s.place(original_hw)
        bottom, right = s.size[0] - place.height - place.top, s.size[1] - place.width - place.left
        # cut by negative padding, which copies: of a view, torch.export would want to know whether it is contiguous
        seen = F.pad(maps, (-place.left, -right, -place.top, -bottom))
        return seen if s.tiled else F.interpolate(seen, size=original_hw, mode="bilinear", align_corners=False)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _place(x: Tensor, place: Placement, size: tuple[int, int], value: float) -> Tensor:
    """Pad, or cut where the paddings are negative, to ``size``."""
    bottom, right = size[0] - place.height - place.top, size[1] - place.width - place.left
    return F.pad(x, (place.left, right, place.top, bottom), value=value)


def place_pixels(scaled: NDArray[Any], place: Placement, size: tuple[int, int], value: int) -> NDArray[Any]:
    """(place.height, place.width, C) pixels at their place in ``size``: padded with ``value``, or cut."""
    if (place.height, place.width) == tuple(size):
        return scaled
    scaled = scaled[max(-place.top, 0) :, max(-place.left, 0) :][: size[0], : size[1]]
    top, left = max(place.top, 0), max(place.left, 0)
    canvas = np.full((*size, scaled.shape[2]), value, scaled.dtype)
    canvas[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return canvas


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
