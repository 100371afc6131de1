"""EfficientAD's networks (Batzner, Heckler, Koenig 2024, appendix) and its arithmetic: no state, no training."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 384  # of the teacher's output
STRIDE = 4  # pixels of the input between two places of a PDN's output
FIELD = 33  # pixels that a place sees, in either direction
MARGIN = 4  # places that a PDN without padding has fewer of at each border
SIDE = 8  # of the map that the autoencoder's bottleneck is made from, at any input size
DROPOUT = 0.2
GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue in a grey level (ITU-R BT.601)

Size = Literal["small", "medium"]
Step = tuple[str, int, int, int]  # conv or pool, kernel, output channels, padding where there is any
SMALL: list[Step] = [("conv", 4, 128, 3), ("pool", 2, 0, 1), ("conv", 4, 256, 3), ("pool", 2, 0, 1),
                     ("conv", 3, 256, 1), ("conv", 4, 0, 0)]  # fmt: skip
MEDIUM: list[Step] = [("conv", 4, 256, 3), ("pool", 2, 0, 1), ("conv", 4, 512, 3), ("pool", 2, 0, 1),
                      ("conv", 1, 512, 0), ("conv", 3, 512, 1), ("conv", 4, 0, 0), ("conv", 1, 0, 0)]  # fmt: skip
STEPS: dict[Size, list[Step]] = {"small": SMALL, "medium": MEDIUM}


class PDN(nn.Module):
    """Patch description network: every output place describes a patch of 33 x 33 pixels, by convolutions conv1, conv2 ...

    padding: as the paper's table has it, so that an input of 256 pixels gives 64 places; without, 56, which see no zeros.
    """

    def __init__(self, size: Size = "small", out_channels: int = CHANNELS, in_chans: int = 3, padding: bool = False):
        super().__init__()
        self.plan: list[tuple[str, int, int]] = []  # pool or a convolution's name, kernel, padding
        channels = in_chans
        for kind, kernel, wide, pad in STEPS[size]:
            name = kind
            if kind == "conv":
                name, wide = f"conv{len(list(self.children())) + 1}", wide or out_channels
                self.add_module(name, nn.Conv2d(channels, wide, kernel, padding=pad if padding else 0))
                channels = wide
            self.plan.append((name, kernel, pad if padding else 0))

    def places(self, hw: tuple[int, int]) -> tuple[int, int]:
        """(H', W') of the output for an input of (H, W) pixels."""
        height, width = hw
        for name, kernel, pad in self.plan:
            stride = 2 if name == "pool" else 1
            height, width = ((side + 2 * pad - kernel) // stride + 1 for side in (height, width))
        return height, width

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised -> (B, out_channels, H', W'), a place every 4 pixels."""
        x, last = images, self.plan[-1][0]
        for name, kernel, pad in self.plan:
            if name == "pool":
                x = F.avg_pool2d(x, kernel, stride=2, padding=pad)
            else:
                x = self.get_submodule(name)(x)
                x = x if name == last else F.relu(x)
        return x


class Autoencoder(nn.Module):
    """The whole picture through 64 numbers and back to a teacher's output.

    Sizes that the paper gives for 256 pixels follow the input here: the decoder passes through the same shares of it,
    and the map that the bottleneck is made from is brought to 8 x 8, so that it always sees the whole picture.
    """

    SHARES = ((64, 1), (32, 0), (16, 1), (8, 0), (4, 1), (2, 1))  # of the input's side, less so many

    def __init__(self, out_channels: int = CHANNELS, in_chans: int = 3) -> None:
        super().__init__()
        widths = [in_chans, 32, 32, 64, 64, 64]
        self.encoder = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))
        self.bottleneck = nn.Conv2d(64, 64, SIDE)
        self.decoder = nn.ModuleList(nn.Conv2d(64, 64, 4, padding=2) for _ in self.SHARES)
        self.last = nn.Conv2d(64, 64, 3, padding=1)
        self.out = nn.Conv2d(64, out_channels, 3, padding=1)

    def forward(self, images: Tensor, places: tuple[int, int], margin: int = 0) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, *places), what a PDN of so many places and such a margin would answer."""
        hw = (images.shape[-2], images.shape[-1])
        x = images
        for conv in self.encoder:
            x = F.relu(conv(x))
        x = self.bottleneck(resized(x, (SIDE, SIDE)))  # without an activation, by the paper's table
        for conv, (share, less) in zip(self.decoder, self.SHARES, strict=True):
            x = F.relu(conv(resized(x, (max(hw[0] // share - less, 1), max(hw[1] // share - less, 1)))))
            x = F.dropout(x, DROPOUT, self.training)
        x = resized(x, (places[0] + 2 * margin, places[1] + 2 * margin))
        x = self.out(F.relu(self.last(x)))
        return x[..., margin : margin + places[0], margin : margin + places[1]]


def resized(maps: Tensor, hw: tuple[int, int]) -> Tensor:
    """(B, C, H, W) -> (B, C, *hw), bilinear."""
    if (maps.shape[-2], maps.shape[-1]) == hw:
        return maps
    return F.interpolate(maps, size=hw, mode="bilinear", align_corners=False)


def over_pixels(maps: Tensor, input_hw: tuple[int, int], padding: bool) -> Tensor:
    """Maps (B, C, H', W') of a PDN's places -> (B, C, *input_hw), each place's value at the pixel in its middle.

    Place i lies at pixel 4 i, or 4 i + 16 without padding; what lies beyond the outermost places is as they are.
    """
    start = 0 if padding else FIELD // 2
    span = (STRIDE * (maps.shape[-2] - 1) + 1, STRIDE * (maps.shape[-1] - 1) + 1)
    fine = F.interpolate(maps, size=span, mode="bilinear", align_corners=True)
    below, right = input_hw[0] - start - span[0], input_hw[1] - start - span[1]
    return F.pad(fine, (start, right, start, below), mode="replicate")


def region_of_places(region: Tensor | None, places: tuple[int, int], padding: bool) -> Tensor | None:
    """(H', W') bool, whether a place's middle lies in a region (1, 1, H, W); None where none does, or there is no region."""
    if region is None:
        return None
    start = 0 if padding else FIELD // 2
    inside = region[0, 0, start::STRIDE, start::STRIDE][: places[0], : places[1]] > 0
    return inside if bool(inside.any()) else None


def hard_feature_loss(distances: Tensor, p_hard: float) -> Tensor:
    """Mean of all distances at or above their ``p_hard`` quantile; any shape and, unlike torch.quantile, size.

    No distance lies between the interpolated quantile and the next one above it, so that one decides.
    """
    flat = distances.flatten()
    kept = flat.numel() - math.ceil(p_hard * (flat.numel() - 1))
    least = flat.detach().topk(kept, sorted=False).values.min()
    hard = flat >= least  # with all that are equal to it
    return (flat * hard).sum() / hard.sum()


def jittered(pixels: Tensor, kind: Tensor, factor: Tensor) -> Tensor:
    """(B, C, H, W), 0..255 -> the same with brightness (kind 0), contrast (1) or saturation (2) times ``factor``, (B,)."""
    weights = pixels.new_tensor(GREY if pixels.shape[1] == 3 else (1.0,)).view(1, -1, 1, 1)
    grey = (pixels * weights).sum(dim=1, keepdim=True)
    kind, factor = kind.view(-1, 1, 1, 1), factor.view(-1, 1, 1, 1)
    middle = torch.where(kind == 1, grey.mean(dim=(2, 3), keepdim=True), grey) * (kind > 0)
    return (middle + factor * (pixels - middle)).clamp(0, 255)


def described(maps: list[Tensor], channels: int = CHANNELS) -> Tensor:
    """Layers (B, C_l, H_l, W_l) of a backbone -> (B, channels, H_1, W_1): what a teacher learns to answer.

    As PatchCore describes patches: means of 3 x 3 places, layers side by side, channels averaged to so many.
    """
    pooled = [F.avg_pool2d(x, 3, stride=1, padding=1) for x in maps]
    joined = torch.cat([pooled[0], *(resized(x, (pooled[0].shape[-2], pooled[0].shape[-1])) for x in pooled[1:])], 1)
    if joined.shape[1] == channels:
        return joined
    batch, wide, height, width = joined.shape
    rows = joined.permute(0, 2, 3, 1).reshape(-1, 1, wide)
    return F.adaptive_avg_pool1d(rows, channels).view(batch, height, width, channels).permute(0, 3, 1, 2)
