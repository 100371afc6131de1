"""What a model that is trained may ask for beside its batches: all good pictures, pictures of a folder, pixel values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dao.errors import DataError
from dao.images.image_io import read_image
from dao.images.listing import find_images
from dao.preprocess.module import Preprocess
from dao.preprocess.tiling import windows
from dao.processes import dist

AT_ONCE = 8  # pictures
KEPT = 2**28  # bytes of decoded pictures of a folder that stay in memory
TRIES = 20  # unreadable pictures of a folder before it is given up


class TrainingPictures:
    """Pictures as a model's input, read in this process and without augmentation.

    blank: what the task does to an input before the model sees it (outside of a region of interest).
    """

    def __init__(self, dataset: Any, preprocess: Preprocess, blank: Callable[[Tensor], Tensor]) -> None:
        self.dataset, self.preprocess, self.blank = dataset, preprocess, blank
        self.names: dict[str, list[str]] = {}
        self.read_before: dict[str, NDArray[np.uint8]] = {}

    def good(self) -> Iterator[Tensor]:
        """This process's share of the pictures that are learnt from, each once, (B, C, h, w); all share them alike.

        The unreadable are left out; the loader names them.
        """
        paths = sorted({record.path for record in self.dataset.records if not getattr(record, "held_out", False)})
        waiting: list[NDArray[np.uint8]] = []
        for path in paths[dist.rank() :: dist.world_size()]:
            try:
                waiting += self._inputs(path)
            except DataError:
                continue
            while len(waiting) >= AT_ONCE:
                yield self._stacked(waiting[:AT_ONCE])
                del waiting[:AT_ONCE]
        if waiting:
            yield self._stacked(waiting)

    def draw(self, folder: str, count: int) -> Tensor:
        """(count, C, h, w) pictures of a folder, drawn by torch's generator. Raises DataError where there are none."""
        if folder not in self.names:
            self.names[folder] = sorted(find_images(Path(folder)))
            if not self.names[folder]:
                raise DataError(f"no picture found in {folder} (model.kwargs.penalty_folder)")
        names = self.names[folder]
        return self._stacked([self._readable(names, int(at)) for at in torch.randint(len(names), (count,))])

    def to_pixels(self, images: Tensor) -> Tensor:
        """(B, C, h, w) input -> RGB or grey pixel values, 0..255."""
        x = images.flip(1) if self.preprocess.settings.channel_order == "bgr" else images
        return x * self.preprocess.std + self.preprocess.mean

    def to_input(self, pixels: Tensor) -> Tensor:
        """(B, C, h, w) pixel values -> what the model takes."""
        return self.blank(self.preprocess.normalise(pixels))

    def _readable(self, names: list[str], at: int) -> NDArray[np.uint8]:
        """The picture at a place of a list, or the next one that can be read."""
        for step in range(TRIES):
            path = names[(at + step) % len(names)]
            if path in self.read_before:
                return self.read_before[path]
            try:
                picture = self._inputs(path)[0]
            except DataError as error:
                reason = error
                continue
            if (len(self.read_before) + 1) * picture.nbytes <= KEPT:
                self.read_before[path] = picture
            return picture
        raise DataError(f"{TRIES} pictures of one folder in a row cannot be read, e.g. {reason}")

    def _inputs(self, path: str) -> list[NDArray[np.uint8]]:
        """A picture at the model's size, (h, w, C); in tiles the windows that cover it."""
        settings = self.preprocess.settings
        image = read_image(path, self.preprocess.in_channels, settings.bit_depth)
        if not settings.tiled:
            return [self.preprocess.resize_uint8(image)]
        cut = windows((image.shape[0], image.shape[1]), settings.size, 0.0)
        return [self.preprocess.resize_uint8(window.of(image)) for window in cut]

    def _stacked(self, pictures: list[NDArray[np.uint8]]) -> Tensor:
        """(B, C, h, w) input on the model's device."""
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        return self.to_input(pixels.to(self.preprocess.mean.device))
