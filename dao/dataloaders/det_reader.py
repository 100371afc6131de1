"""Batches for detection: pictures with their boxes, moved along with every resize."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from loguru import logger
from numpy.typing import NDArray
from torch import Tensor

from dao.dataloaders import box_geometry as geometry
from dao.dataloaders.census import sentence
from dao.dataloaders.datasets.base import ImageDataset
from dao.dataloaders.datasets.detection import BoxDataset
from dao.dataloaders.loader import ImageLoader
from dao.dataloaders.reader import BatchReader
from dao.dataloaders.transforms import Pipeline
from dao.errors import ConfigError, Problem
from dao.images import decoding_budget
from dao.images.image_io import read_hw
from dao.preprocess.module import Preprocess
from dao.processes import dist
from dao.register import Registers
from dao.structures import BoxTargets, GroundTruth, Sample

THIN = 64.0  # pixels; pictures whose boxes are all thicker are not asked for their size
ON_A_BOX = 0.5  # share of training windows of a big picture that are laid over one of its boxes


class DetReader(BatchReader):
    """Pictures with boxes. In training targets are a `BoxTargets` in the input's pixels; in evaluation a list of
    `GroundTruth`, one a picture, in its own.

    Resizing first scales only; the border is added after the transforms, so that these see no border.
    """

    dataset: BoxDataset

    def __init__(self, dataset: ImageDataset, *args: Any, **kwargs: Any) -> None:
        if not isinstance(dataset, BoxDataset):
            known = ", ".join(name for name in Registers.datasets if _has_boxes(name))
            what = f"{type(dataset).__name__} has no boxes, and DetDataloader needs them; use one of {known}"
            raise ConfigError(Problem("dataloader.dataset.type", what))
        super().__init__(dataset, *args, **kwargs)

    def read_one(self, index: int) -> Sample:
        if self.cache is not None:
            sample = self.dataset.to_sample(index, *self.cache.get(index))
            sample = self._boxes_follow(sample)
        else:
            sample = self.read_uncached(index)
        return self._without_crowds(sample) if self.training else sample

    def read_uncached(self, index: int) -> Sample:
        settings = self.preprocess.settings
        with decoding_budget.shared():
            sample = self.dataset.read(index, self.preprocess.in_channels, self.preprocess.bit_depth)
            if not self.training or not self.resize_first or settings.resize in ("tile", "crop"):
                return sample  # cutting comes last: a transform may bring the ends of a picture into the frame
            return self._boxes_follow(replace(sample, image=self.preprocess.scale_uint8(sample.image)))

    @staticmethod
    def _boxes_follow(sample: Sample) -> Sample:
        """Boxes in original pixels -> in those of a picture that was scaled, and not moved."""
        height, width = sample.image.shape[:2]
        factor = (width / sample.original_hw[1], height / sample.original_hw[0])
        return replace(sample, boxes_xyxy=geometry.scale_and_shift(sample.boxes_xyxy, factor, (0, 0)))

    def _without_crowds(self, sample: Sample) -> Sample:
        """A box that stands for several objects teaches a detector nothing about one."""
        keep = ~self.dataset.records[sample.index].crowd
        if keep.all():
            return sample
        return replace(sample, boxes_xyxy=sample.boxes_xyxy[keep], box_labels=sample.box_labels[keep])

    def begin(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Of pictures that are answered window by window, one window: every second time over a box, where there is one."""
        size = self.preprocess.size
        height, width = sample.image.shape[:2]
        if not self.preprocess.settings.tiled or (height <= size[0] and width <= size[1]):
            return sample
        top, left = (int(rng.integers(0, max(0, side - want) + 1)) for side, want in zip((height, width), size))
        chosen = int(rng.integers(0, max(1, len(sample.boxes_xyxy))))
        if len(sample.boxes_xyxy) and rng.random() < ON_A_BOX:
            top, left = window_over(sample.boxes_xyxy[chosen], (height, width), size, rng)
        return crop(sample, top, left, size, self.min_visible)

    def keep_from(self, min_visible: float) -> None:
        """Boxes of which a window, crop or map leaves a smaller share are no targets; before the first batch is read."""
        self.min_visible = min_visible
        if self.transforms is not None:
            self.transforms = self.transforms.keeping(min_visible)
            self.preparation = self.transforms.without_augmentation()
        if self.window is not None:
            self.window = self.window.keeping(min_visible)

    def resize_sample(self, sample: Sample) -> Sample:
        """Picture and boxes at the model's input size."""
        place = self.preprocess.settings.place((sample.image.shape[0], sample.image.shape[1]))
        factor = (place.width / sample.image.shape[1], place.height / sample.image.shape[0])
        boxes = geometry.scale_and_shift(sample.boxes_xyxy, factor, (place.left, place.top))
        return replace(sample, image=self.preprocess.resize_uint8(sample.image), boxes_xyxy=boxes)

    def fit(self, sample: Sample) -> tuple[Sample, NDArray[np.uint8] | Tensor]:
        sample, pixels = super().fit(sample)
        if not self.training:
            return sample, pixels
        boxes, keep = geometry.keep_visible(sample.boxes_xyxy, self.preprocess.size, self.min_visible)
        return replace(sample, boxes_xyxy=boxes[keep], box_labels=sample.box_labels[keep]), pixels

    def collate_targets(self, samples: Sequence[Sample]) -> BoxTargets | list[GroundTruth]:
        """In training all boxes of the batch, padded to the most that a picture has; in evaluation each picture's."""
        if not self.training:
            return [self.dataset.ground_truth(sample.index) for sample in samples]
        most = max((len(sample.box_labels) for sample in samples), default=0)
        boxes = torch.zeros((len(samples), most, 4), dtype=torch.float32)
        labels = torch.full((len(samples), most), -1, dtype=torch.int64)
        for row, sample in enumerate(samples):
            count = len(sample.box_labels)
            boxes[row, :count] = torch.from_numpy(np.ascontiguousarray(sample.boxes_xyxy))
            labels[row, :count] = torch.from_numpy(np.ascontiguousarray(sample.box_labels))
        return BoxTargets(boxes, labels)


def _has_boxes(name: str) -> bool:
    component = Registers.datasets.get(name)
    return isinstance(component, type) and issubclass(component, BoxDataset)


def lost_by_scaling(dataset: BoxDataset, preprocess: Preprocess) -> list[str]:
    """Names of the boxes of a set that scaling to the model's input leaves less than a pixel of, in one direction."""
    lost = []
    for record in dataset.records:
        sides = record.boxes_xyxy[:, 2:] - record.boxes_xyxy[:, :2]
        if not len(sides) or sides.min() > THIN or (hw := record.hw or read_hw(record.path)) is None:
            continue
        place = preprocess.settings.place(hw)
        small = (sides * (place.width / hw[1], place.height / hw[0]) < 1).any(axis=1) & ~record.crowd
        lost += [f"{record.path} box {number}" for number in np.flatnonzero(small)]
    return lost


def window_over(
    box: NDArray[np.float32], hw: tuple[int, int], size: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int]:
    """Corner (top, left) of a random window that has the middle of a box in it and lies inside the picture."""
    corner = []
    for axis, (side, want) in enumerate(zip(hw, size)):
        middle = (box[1 - axis] + box[3 - axis]) / 2
        first = int(np.floor(middle - rng.uniform(0, want - 1)))
        corner.append(min(max(first, 0), max(0, side - want)))
    return corner[0], corner[1]


def crop(sample: Sample, top: int, left: int, size: tuple[int, int], min_visible: float) -> Sample:
    """The part of picture and boxes inside a window; boxes of which too little is left are dropped."""
    image = sample.image[top : top + size[0], left : left + size[1]]
    moved = geometry.scale_and_shift(sample.boxes_xyxy, (1.0, 1.0), (-left, -top))
    boxes, keep = geometry.keep_visible(moved, image.shape[:2], min_visible)
    return replace(sample, image=image, boxes_xyxy=boxes[keep], box_labels=sample.box_labels[keep])


@Registers.dataloaders.register()
class DetDataloader(ImageLoader):
    """Batches for detection: pictures with boxes.

    min_visible: in training, the share of a box's area that a window, a crop or a transform must leave for the box to be
        learnt; what is left of less teaches borders, not objects. Other keywords: see ImageLoader.
    """

    reader_class = DetReader

    def __init__(
        self,
        *,
        dataset: ImageDataset,
        transforms: Pipeline | None,
        preprocess: Preprocess,
        training: bool,
        seed: int,
        batch_size: int = 32,
        num_workers: int = 2,
        sampler: Literal["random", "balanced"] = "random",
        cache: bool = False,
        resize_first: bool = True,
        prefetch_factor: int = 2,
        keep_samples: bool = False,
        min_visible: float = geometry.MIN_VISIBLE,
    ) -> None:
        super().__init__(
            dataset=dataset, transforms=transforms, preprocess=preprocess, training=training, seed=seed,
            batch_size=batch_size, num_workers=num_workers, sampler=sampler, cache=cache, resize_first=resize_first,
            prefetch_factor=prefetch_factor, keep_samples=keep_samples,
        )  # fmt: skip
        self.reader.keep_from(min_visible)
        lost = lost_by_scaling(dataset, preprocess) if training and dist.is_main() else []
        if lost:
            size = " x ".join(map(str, preprocess.size))
            logger.warning(
                "{}. They are not learnt, and what shows nothing else passes for a good part: raise preprocess.size, or "
                'set "resize": "tile"',
                sentence(f"boxes thinner than a pixel in an input of {size}", lost),
            )

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        return ImageLoader.check_config(kwargs, where) + geometry.share_problems(kwargs, where)
