"""What an anomaly model promises, and what they share: buffers of a size that only data tells, smoothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TINY = 1e-6
TRUNCATE = 4.0  # deviations at which the Gaussian is cut, as scipy's gaussian_filter does


class Pictures(Protocol):
    """What a model that is trained by gradient may ask for beside its batches (dao/dataloaders/pictures.py)."""

    def good(self) -> Iterator[Tensor]:
        """This process's share of all pictures that are learnt from, each once, as input (B, C, h, w)."""

    def draw(self, folder: str, count: int) -> Tensor:
        """(count, C, h, w) pictures of a folder as input, drawn by torch's generator."""

    def to_pixels(self, images: Tensor) -> Tensor:
        """Input -> pixel values, 0..255."""

    def to_input(self, pixels: Tensor) -> Tensor:
        """Pixel values -> input."""


class AnomalyModel(nn.Module, ABC):
    """Normalised pictures in, raw anomaly maps and scores out; higher is stranger, in units of the method's own.

    sized_by_data: buffers that come into being when the model is fitted; a checkpoint brings theirs along.
    fitted_in_one_pass: whether the model collects and is fitted, rather than trained by gradient.
    position_bound: whether it learns what is good at each place of its input: windows of larger pictures have no such.
    scored_by_map: whether, with a region of interest, the picture's score is the highest of its map; otherwise the model
    looks to that itself.
    score_is_peak: whether its score is the highest of its map anyhow.
    not_averaged, set_by_calibration: beginnings of names in its state that an average of the weights takes over as they
    are, and that it leaves alone.
    """

    sized_by_data: tuple[str, ...] = ()
    fitted_in_one_pass: ClassVar[bool] = True
    position_bound: ClassVar[bool] = False
    scored_by_map: ClassVar[bool] = True
    score_is_peak: ClassVar[bool] = True
    not_averaged: ClassVar[tuple[str, ...]] = ()
    set_by_calibration: ClassVar[tuple[str, ...]] = ()
    region: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("region", None, persistent=False)  # it travels in the card

    def look_within(self, region: Tensor) -> None:
        """Let nothing outside (h, w) bool, over the model's input, have a say."""
        self.region = region[None, None].float()
        for module in self.modules():
            if isinstance(module, Smoothing):
                module.region = self.region

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) -> map (B, 1, h, w) and score (B,), raw, float32; zeros before the model is fitted."""

    def expect(self, pictures: int, input_hw: tuple[int, int]) -> None:
        """So many pictures will be collected: say what that takes. Raises ConfigError when it is more than there is."""

    @property
    def in_phases(self) -> bool:
        """Whether some of its weights learn only later, or no more before the run ends."""
        return False

    def plan(self, iterations: int) -> None:
        """Training will take so many. Raises ConfigError when they are too few."""

    def beside(self, images: Tensor, pictures: Pictures) -> dict[str, Tensor]:
        """Before each step of a model that is trained by gradient: what its forward takes beside the batch, by name."""
        return {}

    def stop_learning(self) -> None:
        """It will do nothing but answer: drop what only training needs."""

    def settle(self, pictures: Iterable[Tensor]) -> None:
        """After each pass: learn the scale of its answers from good pictures, normalised batches of this process."""

    def begin(self) -> None:
        """A pass begins: forget what an earlier one collected."""

    def collect(self, images: Tensor, indices: list[int]) -> None:
        """Take in good pictures, (B, C, h, w) normalised; indices: their places in the set."""

    def fit(self) -> None:
        """Make the model of what all processes collected; every process calls it and has the same model after."""

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Buffers take the size that the checkpoint's have."""
        for name in self.sized_by_data:
            value = state_dict.get(prefix + name)
            if isinstance(value, Tensor):
                own = getattr(self, name)
                setattr(self, name, torch.empty(value.shape, dtype=own.dtype, device=own.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)  # type: ignore[arg-type]


def gaussian_kernel(sigma: float) -> Tensor:
    """(2 r + 1,) weights that sum to 1, r = 4 sigma rounded; sigma in pixels."""
    radius = int(TRUNCATE * sigma + 0.5)
    at = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (at / sigma) ** 2)
    return (weights / weights.sum()).float()


class Smoothing(nn.Module):
    """Gaussian filter of maps (B, 1, H, W), mirrored at the borders without repeating the edge; sigma in pixels.

    On maps so small that mirroring cannot fill the filter, the edge is repeated instead. sigma 0 changes nothing.
    region: (1, 1, H, W) of 0 and 1 or None; with one, means are taken within it and the rest becomes 0.
    """

    kernel: Tensor
    region: Tensor | None

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.register_buffer("kernel", gaussian_kernel(sigma) if sigma > 0 else torch.ones(1), persistent=False)
        self.register_buffer("region", None, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        if self.region is None:
            return self._smooth(maps)
        share = self._smooth(self.region).clamp_min(TINY)
        return self._smooth(maps * self.region) / share * self.region

    def _smooth(self, maps: Tensor) -> Tensor:
        r = self.kernel.numel() // 2
        if r == 0:
            return maps
        mode = "reflect" if r < min(maps.shape[-2], maps.shape[-1]) else "replicate"
        padded = F.pad(maps, (r, r, r, r), mode=mode)
        return F.conv2d(F.conv2d(padded, self.kernel.view(1, 1, -1, 1)), self.kernel.view(1, 1, 1, -1))


def same_size(maps: list[Tensor], mode: str) -> list[Tensor]:
    """Maps (B, C, H, W) of several layers at the size of the first; mode: of interpolation."""
    size = maps[0].shape[-2:]
    options = {"align_corners": False} if mode == "bilinear" else {}
    return [maps[0], *(F.interpolate(x, size=size, mode=mode, **options) for x in maps[1:])]
