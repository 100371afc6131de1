"""What a loader's worker does: the pictures of one batch, decoded, transformed, resized, collated.

`ImageLoader` (loader.py) sends a `BatchKey` in and gets a `Fetched` out. What differs between tasks is overridden
here: `fit` (what is resized along with the picture) and `collate_targets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dao.dataloaders.box_geometry import MIN_VISIBLE
from dao.dataloaders.cache import PictureCache
from dao.dataloaders.datasets.base import ImageDataset
from dao.dataloaders.datasets.masks import IGNORE
from dao.dataloaders.sample_transforms import Around
from dao.dataloaders.samplers import BatchKey
from dao.dataloaders.transforms import Pipeline, transform_seed
from dao.errors import AICoreError, ConfigError, DataError
from dao.images import decoding_budget
from dao.preprocess.module import Preprocess
from dao.processes.seeding import mix
from dao.structures import Batch, Sample, Unreadable
from dao.words.counted import counted

BEGINNING = 0xB  # sets the random numbers of `BatchReader.begin` apart from those of the transforms
MAX_BAD_IN_A_ROW = 50  # unreadable neighbours that training looks past before it gives up


@dataclass(slots=True)
class Fetched:
    """A batch, or the error that stood in its way: errors cross from a worker as values, without its traceback.

    error: its class and the arguments to make it again (pickling a ConfigError would keep only its text).
    """

    batch: Batch | None = None
    error: tuple[type[AICoreError], tuple[Any, ...]] | None = None

    def unpack(self) -> Batch:
        """The batch; raises the error if there was one."""
        if self.batch is not None:
            return self.batch
        kind, arguments = self.error or (DataError, ("the loader gave neither a batch nor an error",))
        raise kind(*arguments)

    def pin_memory(self) -> Fetched:
        """Called by torch's pinning thread, so that copies to the GPU need not wait."""
        if self.batch is not None:
            self.batch.images = self.batch.images.pin_memory()
            if hasattr(self.batch.targets, "pin_memory"):
                self.batch.targets = self.batch.targets.pin_memory()
        return self


class BatchReader:
    """Map of `BatchKey` to `Fetched`: a dataset in torch's sense, whose items are whole batches.

    training: uint8 batches resized by OpenCV's speed, a bad picture's place is taken by the next readable one;
    otherwise float batches by the exported graph's resize, bad pictures are left out.
    resize_first: in training, resize before the transforms (cheaper, and what the cache holds); otherwise after.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        preprocess: Preprocess,
        transforms: Pipeline | None,
        training: bool,
        seed: int,
        resize_first: bool,
        keep_samples: bool,
        cache: PictureCache | None = None,
    ) -> None:
        self.dataset, self.preprocess, self.transforms, self.cache = dataset, preprocess, transforms, cache
        self.preparation = transforms.without_augmentation() if transforms else None
        self.training, self.seed, self.min_visible = training, seed, MIN_VISIBLE
        self.leaves_out = not training  # a model that counts its pictures leaves bad ones out of training as well
        # what is not scaled is cut, and where to cut is for the transforms and the chance of each epoch
        whole = transforms is None or not transforms.needs_original
        self.resize_first = resize_first and whole and not preprocess.settings.tiled
        self.tiled = preprocess.settings.tiled and not training  # the task cuts windows from the samples
        self.keep_samples = keep_samples or self.tiled
        self.window = random_window(preprocess) if training and preprocess.settings.tiled else None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: BatchKey) -> Fetched:
        try:
            return Fetched(self.read_batch(key))
        except ConfigError as error:
            return Fetched(error=(type(error), (error.problems, error.source)))
        except AICoreError as error:
            return Fetched(error=(type(error), error.args))

    def read_batch(self, key: BatchKey) -> Batch:
        """The batch of a key; pictures that cannot be read are in its ``bad``."""
        samples: list[Sample] = []
        bad: list[Unreadable] = []
        for index in key.indices:
            sample = self._read_or_note(index, bad) if self.leaves_out else self._read_or_next(index, bad)
            if sample is not None:
                samples.append(sample)
        changed = [self._transform(sample, key, bad) for sample in samples]
        fitted = [self.fit(sample) for sample in changed]
        kept = [sample for sample, _ in fitted] if self.tiled else samples
        return Batch(
            images=self._collate_images([pixels for _, pixels in fitted]),
            targets=self.collate_targets([sample for sample, _ in fitted]),
            paths=[sample.path for sample in samples],
            indices=[sample.index for sample in samples],
            original_hw=[sample.original_hw for sample in changed],
            samples=kept if self.keep_samples else None,
            bad=bad,
        )

    # -- one picture ---------------------------------------------------------------------------------------------

    def read_one(self, index: int) -> Sample:
        """A Sample as transforms get it: resized already when training resizes first. Raises DataError."""
        if self.cache is not None:
            return self.dataset.to_sample(index, *self.cache.get(index))
        return self.read_uncached(index)

    def read_uncached(self, index: int) -> Sample:
        """`read_one` from disk; what the cache is filled with."""
        with decoding_budget.shared():
            sample = self.dataset.read(index, self.preprocess.in_channels, self.preprocess.bit_depth)
            return self.resize_sample(sample) if self.training and self.resize_first else sample

    def resize_sample(self, sample: Sample) -> Sample:
        """A training Sample at the model's size. A task whose target has pixels resizes it here as well."""
        return replace(sample, image=self.preprocess.resize_uint8(sample.image))

    def _read_or_note(self, index: int, bad: list[Unreadable]) -> Sample | None:
        try:
            return self.read_one(index)
        except DataError as error:
            path = self.dataset.records[index].path
            bad.append(Unreadable(path, index, str(error).removeprefix(f"{path}: ")))
            return None

    def _read_or_next(self, index: int, bad: list[Unreadable]) -> Sample:
        count = len(self.dataset)
        tries = min(count, MAX_BAD_IN_A_ROW)
        skipped: list[Unreadable] = []
        for step in range(tries):
            sample = self._read_or_note((index + step) % count, skipped)
            if sample is not None:
                bad += skipped
                return sample
        rows = "\n".join(f"  {entry.path}: {entry.reason}" for entry in skipped[:10])
        raise DataError(
            f"{tries} of {counted(count, 'picture')} in a row cannot be read, so training cannot go on:\n{rows}"
        )

    def _transform(self, sample: Sample, key: BatchKey, bad: list[Unreadable]) -> Sample:
        transforms = self.transforms if key.augment else self.preparation
        seed = transform_seed(self.seed, key.epoch, sample.index)
        if self.training:
            sample = self.begin(sample, np.random.default_rng(mix(seed, BEGINNING)))
        if transforms is not None:
            sample = transforms(sample, seed, self._around(bad))
        if self.window is not None and sample.image.shape[:2] != tuple(self.preprocess.size):
            sample = self.window(sample, seed)
        return sample

    def begin(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """What of a training picture the transforms get, the others that they draw included: all of it."""
        return sample

    def _around(self, bad: list[Unreadable]) -> Around:
        """What transforms may ask for: the input's size, and other pictures of the whole set."""

        def draw(count: int, rng: np.random.Generator) -> list[Sample]:
            others = [self._read_or_next(int(index), bad) for index in rng.integers(0, len(self.dataset), count)]
            return [self.begin(other, rng) for other in others]

        settings = self.preprocess.settings
        return Around((settings.size[0], settings.size[1]), settings.pad_value, draw, self.min_visible)

    def fit(self, sample: Sample) -> tuple[Sample, NDArray[np.uint8] | Tensor]:
        """The transformed Sample and its pixels as the model takes them.

        Training: (h, w, C) uint8. Evaluation: (C, h, w) float32 Tensor, 0..255.
        """
        image = with_channels(sample.image, self.preprocess.in_channels)
        if self.tiled:
            return replace(sample, image=image), torch.empty((self.preprocess.in_channels, 0, 0))
        if not self.training:
            return sample, self.preprocess.resize_tensor(image)
        if image.shape[:2] != tuple(self.preprocess.size):
            sample = self.resize_sample(replace(sample, image=image))
            image = sample.image
        return sample, image

    # -- many pictures -------------------------------------------------------------------------------------------

    def _collate_images(self, pixels: Sequence[NDArray[np.uint8] | Tensor]) -> Tensor:
        """(B, C, h, w), laid out channels-last: uint8 in training, float32 in evaluation."""
        height, width = (0, 0) if self.tiled else self.preprocess.size
        dtype = torch.uint8 if self.training else torch.float32
        images = torch.empty((len(pixels), height, width, self.preprocess.in_channels), dtype=dtype)
        for slot, picture in zip(images, pixels):
            # copy_ also repairs negative strides, which flips leave and torch refuses
            if isinstance(picture, Tensor):
                slot.copy_(picture.permute(1, 2, 0))
            else:
                slot.copy_(torch.from_numpy(np.ascontiguousarray(picture)))
        return images.permute(0, 3, 1, 2)

    def collate_targets(self, samples: Sequence[Sample]) -> Any:
        """What the task's loss takes for these pictures; None without labels."""
        return None


class ClsReader(BatchReader):
    """Targets for classification."""

    def collate_targets(self, samples: Sequence[Sample]) -> Tensor | None:
        """(B,) int64 class indices, or (B, K) float32 multi-hot; None when the pictures are unlabelled."""
        if self.dataset.multi_label:
            rows = [sample.label_set for sample in samples if sample.label_set is not None]
            if len(rows) < len(samples):
                return None
            stacked = np.stack(rows) if rows else np.zeros((0, len(self.dataset.classes)), np.float32)
            return torch.from_numpy(stacked)
        labels = [sample.label for sample in samples if sample.label is not None]
        if len(labels) < len(samples):
            return None
        return torch.tensor(labels, dtype=torch.int64)


class SegReader(BatchReader):
    """Masks move with their pictures; in evaluation they stay in the original pixels."""

    def resize_sample(self, sample: Sample) -> Sample:
        sample = super().resize_sample(sample)
        if sample.mask is not None:
            sample.mask = self.preprocess.resize_mask(sample.mask, fill=IGNORE)
        return sample

    def collate_targets(self, samples: Sequence[Sample]) -> Tensor | list[NDArray[np.uint8] | None] | None:
        """Training: (B, h, w) uint8 classes, 255 unlabelled. Evaluation: one (H, W) mask a picture, None without."""
        masks = [sample.mask for sample in samples]
        if not self.training:
            return masks
        if any(mask is None for mask in masks):
            return None
        return torch.from_numpy(np.stack([np.ascontiguousarray(mask) for mask in masks]))


def random_window(preprocess: Preprocess) -> Pipeline:
    """A window of the model's size from anywhere in a picture; what is smaller is padded below and to the right."""
    import albumentations as A

    height, width = preprocess.size
    options = {"pad_if_needed": True, "pad_position": "top_left", "fill": preprocess.settings.pad_value}
    return Pipeline([A.RandomCrop(height, width, fill_mask=IGNORE, p=1.0, **options)], "preprocess.size")


def with_channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """(H, W, C) with the channels that the model takes; transforms may have changed their number."""
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image[:, :, :1], 3, axis=2)
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[:, :, None]
