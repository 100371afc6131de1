"""Pictures of good parts to learn from, and of good and bad ones to be judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dao.dataloaders.datasets.base import ImageDataset, Record, raise_listed, refuse_bad_config, some
from dao.dataloaders.datasets.folder import find_images
from dao.dataloaders.datasets.image_io import read_image
from dao.dataloaders.datasets.masks import BINARY_THRESHOLD, read_raw_mask, refuse_other_size
from dao.dataloaders.splits import assign_splits
from dao.errors import ConfigError, DataError, Problem
from dao.register import Registers
from dao.structures import Sample

GOOD, BAD = "good", "bad"
CLASSES = [GOOD, BAD]
MOST_HELD_OUT = (
    200  # pictures; more tell a threshold little better, and their pixels are kept until the model is fitted
)
SPLITS = ("train", "val", "test")


@dataclass(slots=True)
class AnomalyRecord(Record):
    """A picture, what is wrong with it, and where.

    kind: the defect's name, "good" without one; mask: file of a 0/255 mask, None where there is none.
    held_out: a good training picture that only thresholds are taken from.
    """

    kind: str = GOOD
    mask: str | None = None
    held_out: bool = False


class AnomalyDataset(ImageDataset):
    """Good and bad pictures; class 0 is good. `Sample.mask` is (H, W) uint8, 1 where the defect is; None if unknown.

    kinds: names of the defects, sorted. Raises DataError for masks that do not exist.
    """

    def __init__(self, records: Sequence[AnomalyRecord], origin: str) -> None:
        for record in records:
            record.label = int(record.kind != GOOD)
        super().__init__(records, CLASSES, origin=origin)
        self.kinds = sorted({record.kind for record in records} - {GOOD})
        missing = [f"{r.mask} (of {r.path})" for r in records if r.mask and not Path(r.mask).is_file()]
        raise_listed(origin, missing, "These masks do not exist.")

    def read(self, index: int, in_channels: int = 3, bit_depth: int = 16) -> Sample:
        image = read_image(self.records[index].path, in_channels, bit_depth)
        hw = (image.shape[0], image.shape[1])
        return self.to_sample(index, image, hw, self.read_mask(index, hw))

    def read_mask(self, index: int, hw: tuple[int, int]) -> np.ndarray | None:
        """(H, W) uint8, 1 where the defect is: nowhere on a good part; None for a bad one without a mask."""
        record: Any = self.records[index]
        if record.kind == GOOD:
            return np.zeros(hw, np.uint8)
        if record.mask is None:
            return None
        raw = read_raw_mask(record.mask)
        refuse_other_size(raw, hw, record.mask, record.path)
        grey = raw.max(axis=2) if raw.ndim == 3 else raw
        return (grey >= (BINARY_THRESHOLD if grey.max() > 1 else 1)).astype(np.uint8)

    def picture_problem(self, index: int, hw: tuple[int, int]) -> str:
        """What is wrong with a picture's mask."""
        try:
            mask = self.read_mask(index, hw)
        except DataError as error:
            return str(error)
        empty = mask is not None and self.records[index].label and not mask.any()
        return f"{self.records[index].mask}: nothing is marked" if empty else ""

    def summary(self) -> str:
        """One line of what is in it."""
        held = sum(record.held_out for record in self.records)
        good = self.class_counts()[0]
        line = f"{good - held} good pictures to learn from, {held} more held out for the threshold"
        return line if good == len(self) else f"{line}; {len(self) - good} bad ones, which teach nothing"


def hold_out(records: Sequence[AnomalyRecord], share: float, seed: int) -> None:
    """Mark a share of good training pictures, at most 200; which ones is a function of file names and seed."""
    if share <= 0 or len(records) < 3:
        return
    share = min(share, MOST_HELD_OUT / len(records))
    names = [Path(record.path).name for record in records]
    ratios = {"fit": 1 - share, "held_out": share}
    assigned = assign_splits(names, [(0,)] * len(records), ratios, seed, [record.group for record in records])
    for record, where in zip(records, assigned):
        record.held_out = where == "held_out"


def training_problems(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
    """Settings of a training set that are out of range."""
    problems = []
    if kwargs.get("split", "train") not in SPLITS:
        problems.append(Problem(f"{where}.split", f"expected {', '.join(SPLITS)}, got '{kwargs['split']}'"))
    if not 0 <= kwargs.get("held_out", 0) < 1:
        problems.append(Problem(f"{where}.held_out", f"must be at least 0 and below 1, got {kwargs['held_out']}"))
    if (kwargs.get("shots") or 1) < 1 or kwargs.get("repeat", 1) < 1:
        problems.append(Problem(f"{where}.shots", "shots and repeat must be at least 1"))
    return problems


def to_learn_from(
    records: list[AnomalyRecord], split: str, held_out: float, seed: int, shots: int | None = None, repeat: int = 1
) -> list[AnomalyRecord]:
    """The good pictures of a split "train" (held out ones marked) or "val" (those alone).

    shots: so many of them, drawn by seed; repeat: how often each is seen, with other augmentation each time.
    """
    if shots is not None:
        if shots > len(records):
            raise ConfigError(
                Problem("dataset.kwargs.shots", f"is {shots}, but there are {len(records)} good pictures")
            )
        drawn = np.random.default_rng(seed).permutation(len(records))[:shots]
        records = [records[i] for i in sorted(drawn)]
    hold_out(records, held_out, seed)
    if split == "val":
        return [record for record in records if record.held_out]
    kept = [record for record in records if record.held_out]
    return [record for record in records if not record.held_out] * repeat + kept


@Registers.datasets.register()
class MVTecDataset(AnomalyDataset):
    """MVTec AD's layout: ``train/good``, ``test/good``, ``test/<kind>``, ``ground_truth/<kind>/<name>_mask.png``.

    data_dir: the folder of one category. split: "train", "test", or "val": the training pictures that are held out, for
    sets without a test folder.
    held_out: share of train/good (at most 200 pictures) that teaches the model nothing and tells its threshold.
    seed: another seed holds out others. shots: learn from so many good pictures only; repeat: each so often, which with
    augmenting transforms makes many of few.
    Masks are optional, with or without "_mask" in their names.
    """

    def __init__(
        self,
        data_dir: str,
        split: str = "train",
        held_out: float = 0.2,
        seed: int = 0,
        shots: int | None = None,
        repeat: int = 1,
    ) -> None:
        refuse_bad_config(type(self), split=split, held_out=held_out, shots=shots, repeat=repeat)
        root = Path(data_dir)
        folder = _need(root, "test" if split == "test" else "train")
        if split == "test":
            super().__init__(_test_records(root, folder), f"test of {root}")
            return
        good = [AnomalyRecord(path) for path in find_images(_need(folder, GOOD))]
        super().__init__(to_learn_from(good, split, held_out, seed, shots, repeat), f"{split} of {root}")

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Numbers and names that are out of range."""
        return training_problems(kwargs, where)


def _need(parent: Path, name: str) -> Path:
    """A folder inside another. Raises DataError saying what there is instead."""
    if not parent.is_dir():
        raise DataError(f"data_dir {parent} is not a folder (working directory: {Path.cwd()})")
    if not (parent / name).is_dir():
        inside = some(sorted(entry.name for entry in parent.iterdir() if entry.is_dir())) or "no folders"
        raise DataError(f"{parent} has no folder '{name}'; it has: {inside}. Expected train/good, test/<kind>, ...")
    return parent / name


def _test_records(root: Path, folder: Path) -> list[AnomalyRecord]:
    records = []
    for entry in sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        masks = {} if entry.name == GOOD else masks_by_stem(root / "ground_truth" / entry.name)
        for path in find_images(entry):
            records.append(AnomalyRecord(path, kind=entry.name, mask=masks.get(Path(path).stem)))
    return records


def masks_by_stem(folder: Path) -> dict[str, str]:
    """Picture name without ending -> mask file; "_mask" and "_gt" at its end belong to the mask."""
    if not folder.is_dir():
        return {}
    return {Path(path).stem.removesuffix("_mask").removesuffix("_gt"): path for path in find_images(folder)}
