"""Batches for anomaly detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from dao.dataloaders.datasets.anomaly import GOOD, learnt_from
from dao.dataloaders.datasets.base import ImageDataset
from dao.dataloaders.loader import ImageLoader
from dao.dataloaders.reader import BatchReader
from dao.dataloaders.samplers import BatchKey, EvalSampler, TrainSampler
from dao.dataloaders.transforms import Pipeline
from dao.errors import ConfigError, Problem
from dao.preprocess.module import Preprocess
from dao.processes import dist
from dao.register import Registers
from dao.structures import AnomalyTruth, Sample, Unreadable


class AnomalyReader(BatchReader):
    """Nothing in training, where every picture is a good one; in evaluation the truth."""

    def show_whole(self) -> None:
        """Leave the cutting of windows to the task, in training as in evaluation; before the first batch is read."""
        self.tiled = self.keep_samples = True
        self.window = None

    def begin(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Without its mask: nothing is learnt from it, and it has the size the picture had on disk."""
        return replace(sample, mask=None)

    def _transform(self, sample: Sample, key: BatchKey, bad: list[Unreadable]) -> Sample:
        """What a threshold is taken from is what the model will meet: as it is, unless it is a view of a known one."""
        record: Any = self.dataset.records[sample.index]
        as_it_is = getattr(record, "held_out", False) and not getattr(record, "view", False)
        changed = super()._transform(sample, key._replace(augment=False) if as_it_is else key, bad)
        hw = (changed.image.shape[0], changed.image.shape[1])
        return changed if self.training or hw == changed.original_hw else replace(changed, original_hw=hw)

    def collate_targets(self, samples: Sequence[Sample]) -> list[AnomalyTruth] | None:
        """Training: nothing. Evaluation: one AnomalyTruth a picture."""
        if self.training:
            return None
        records: list[Any] = [self.dataset.records[sample.index] for sample in samples]
        return [
            AnomalyTruth(
                getattr(record, "kind", GOOD), bool(record.label), None if sample.mask is None else sample.mask > 0
            )
            for record, sample in zip(records, samples, strict=True)
        ]


@Registers.dataloaders.register()
class AnomalyDataloader(ImageLoader):
    """Batches for anomaly detection: in training of what is not held out, in evaluation of everything, with its truth.

    complete: every picture exactly once on all processes together, which a model that is fitted wants; a method trained
        by gradient on several processes sets it to false, so that no process is left with an empty batch.
    Other keywords: see ImageLoader.
    """

    reader_class = AnomalyReader

    def __init__(
        self,
        *,
        dataset: ImageDataset,
        transforms: Pipeline | None,
        preprocess: Preprocess,
        training: bool,
        seed: int,
        batch_size: int = 16,
        num_workers: int = 2,
        cache: bool = False,
        resize_first: bool = True,
        prefetch_factor: int = 2,
        keep_samples: bool = False,
        complete: bool = True,
    ) -> None:
        self.complete = complete
        if training and transforms is None and any(getattr(record, "view", False) for record in dataset.records):
            message = (
                "is empty: so few pictures are learnt from whole, and the threshold comes from other views of them, "
                'which augmentation makes, e.g. [{"type": "Affine", "kwargs": {"rotate": [-5, 5], "p": 1.0}}]; or set '
                "held_out to 0, and expect false alarms"
            )
            raise ConfigError(Problem("dataloader.dataset.transforms", message))
        super().__init__(
            dataset=learnt_from(dataset) if training else dataset, transforms=transforms, preprocess=preprocess,
            training=training, seed=seed, batch_size=batch_size, num_workers=num_workers, cache=cache, resize_first=resize_first,
            prefetch_factor=prefetch_factor, keep_samples=keep_samples,
        )  # fmt: skip
        # a neighbour in a bad picture's place would be counted twice by a model that is fitted
        self.reader.leaves_out = complete or not training

    def show_whole(self) -> None:
        """In tiles: give whole pictures in ``Batch.samples`` instead of a window of each, to a model that wants all."""
        self.reader.show_whole()  # type: ignore[attr-defined]

    def _make_sampler(
        self, training: bool, kind: Literal["random", "balanced"], seed: int
    ) -> TrainSampler | EvalSampler:
        if not training:
            return super()._make_sampler(training, kind, seed)
        return TrainSampler(
            len(self.dataset), self.batch_size, seed, dist.rank(), dist.world_size(), complete=self.complete
        )
