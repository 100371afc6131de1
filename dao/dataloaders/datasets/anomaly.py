"""Pictures of good parts to learn from, and of good and bad ones to be judged by."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dao.answers.roi import Parts, parts_of_polygons, polygon_problem
from dao.dataloaders.census import Census
from dao.dataloaders.datasets.base import ImageDataset, Record, raise_listed, refuse_bad_config, some
from dao.dataloaders.datasets.good_masks import contradicted
from dao.dataloaders.datasets.good_parts import GOOD, known_good, need_good, refuse_other_good
from dao.dataloaders.datasets.mask_files import count_other_folders, match_masks
from dao.dataloaders.datasets.masks import BINARY_THRESHOLD, read_raw_mask, refuse_faint, refuse_other_size
from dao.dataloaders.datasets.region_mask import parts_of_mask
from dao.dataloaders.splits import assign_splits
from dao.errors import ConfigError, DataError, Problem
from dao.images.files import folders_in
from dao.images.image_io import read_image
from dao.images.listing import find_images
from dao.register import Registers
from dao.structures import Sample
from dao.words.counted import counted

BAD = "bad"
CLASSES = [GOOD, BAD]
MOST_HELD_OUT = 200  # pictures; more tell a threshold little better, and each of them is one less to learn from
IN_SAMPLE = 64  # training pictures that thresholds come from where nothing else is to be had
SPLITS = ("train", "val", "test")
FEW = 8  # pictures; of so few none is spared for the threshold, which is taken from other views of them
FEW_VIEWS = 16  # of these, together, at least
Region = list[list[list[float]]] | str  # polygons of relative [x, y], or the path of a mask picture


@dataclass(slots=True)
class AnomalyRecord(Record):
    """A picture, what is wrong with it, and where.

    kind: the defect's name, "good" without one; mask: file of a 0/255 mask, None where there is none.
    held_out: a good training picture that only thresholds are taken from; view: it is learnt from as well, and what
    is held out is another augmented view of it.
    """

    kind: str = GOOD
    mask: str | None = None
    held_out: bool = False
    view: bool = False


class AnomalyDataset(ImageDataset):
    """Good and bad pictures; class 0 is good. `Sample.mask` is (H, W) uint8, 1 where the defect is; None if unknown.

    kinds: names of the defects, sorted. Raises DataError for masks that do not exist.
    region: where to look, as dao/answers/roi.py has it; empty for everywhere.
    mask_from: the least value of a mask that marks a defect; None: 128, or 1 in masks of 0 and 1.
    """

    mask_from: int | None = None
    learns_without = (BAD,)

    def __init__(self, records: Sequence[AnomalyRecord], origin: str) -> None:
        for record in records:
            record.label = int(record.kind != GOOD)
        super().__init__(records, CLASSES, origin=origin)
        self.kinds = sorted({record.kind for record in records} - {GOOD})
        missing = [f"{r.mask} (of {r.path})" for r in records if r.mask and not Path(r.mask).is_file()]
        raise_listed(origin, missing, "These masks do not exist.")
        self.region: Parts = []
        self.repeats = any(record.view for record in records)

    def set_region(self, region: Region | None) -> None:
        """Look nowhere else. region: polygons, or the path of a picture that is white where to look."""
        if region is not None:
            self.region = parts_of_mask(region) if isinstance(region, str) else parts_of_polygons(region)

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
        if self.mask_from is None and grey.max() > 1:
            refuse_faint(grey, record.mask, "Save its marks as 255")
        least = self.mask_from or (BINARY_THRESHOLD if grey.max() > 1 else 1)
        return (grey >= least).astype(np.uint8)

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
        views = sum(record.view for record in self.records)
        good = self.class_counts()[0]
        line = f"{counted(good - held, 'good picture')} to learn from, {held} more held out for the threshold"
        if views:
            files = len({record.path for record in self.records})
            line = f"{counted(good - held, 'view')} of {counted(files, 'good picture')} to learn from, "
            line += f"{counted(held, 'other view')} for the threshold"
        return line if good == len(self) else f"{line}; {len(self) - good} bad ones, which teach nothing"


def part_of(dataset: Any, records: Sequence[Any]) -> Any:
    """The same dataset with some of its records alone; a record's place in it is another one."""
    part = copy.copy(dataset)
    part.records = list(records)
    return part


def learnt_from(dataset: Any) -> Any:
    """What of a training set the model learns from. Raises ConfigError where that is nothing."""
    records = [record for record in dataset.records if not getattr(record, "held_out", False)]
    if not records:
        message = f"holds out all {len(dataset)} good pictures, so that none is left to learn from"
        raise ConfigError(Problem("dataloader.dataset.kwargs.held_out", message))
    return part_of(dataset, records)


def kept_for_threshold(dataset: Any, few: int = IN_SAMPLE) -> Any:
    """What of a training set the threshold comes from: what is held out, or the first ``few`` pictures that teach.

    The latter are marked as held out in what is returned: nothing varies them.
    """
    held = [record for record in dataset.records if getattr(record, "held_out", False)]
    if held:
        return part_of(dataset, held)
    first = list({record.path: record for record in dataset.records}.values())[:few]
    marked = [copy.copy(record) for record in first]
    for record in marked:
        if hasattr(record, "held_out"):
            record.held_out = True
    return part_of(dataset, marked)


def hold_out(records: Sequence[AnomalyRecord], share: float, seed: int) -> None:
    """Mark a share of good pictures, at most 200; which ones is a function of file names and seed.

    A share below 1 leaves some to learn from: of fewer than 3 none is marked then.
    """
    if share >= 1 and len(records) <= MOST_HELD_OUT:
        for record in records:
            record.held_out = True
        return
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
    for name in ("shots", "repeat"):
        if kwargs.get(name) is not None and kwargs[name] < 1:
            problems.append(Problem(f"{where}.{name}", f"must be at least 1, got {kwargs[name]}"))
    region = kwargs.get("region")
    if region == "":
        problems.append(Problem(f"{where}.region", "is empty: give polygons or the path of a mask, or leave it out"))
    elif region is not None and kwargs.get("split", "train") != "train":
        message = "belongs to the training set: the model keeps it and looks nowhere else, in evaluation as well"
        problems.append(Problem(f"{where}.region", message))
    elif isinstance(region, list) and polygon_problem(region):
        problems.append(Problem(f"{where}.region", polygon_problem(region)))
    return problems


def to_learn_from(
    records: list[AnomalyRecord], split: str, held_out: float, seed: int, shots: int | None = None, repeat: int = 1
) -> list[AnomalyRecord]:
    """The good pictures of a split "train" (held out ones marked) or "val" (those alone).

    shots: so many of them, drawn by seed; repeat: how often each is seen, with other augmentation each time.
    Of up to 8 shots none is held out, but other views of all of them; "val" is then the pictures that were not drawn.
    """
    if shots is not None:
        if shots > len(records):
            raise ConfigError(
                Problem("dataset.kwargs.shots", f"is {shots}, but there are {len(records)} good pictures")
            )
        drawn = np.random.default_rng(seed).permutation(len(records))
        others = [records[i] for i in sorted(drawn[shots:])]
        records = [records[i] for i in sorted(drawn[:shots])]
    if shots is not None and shots <= FEW and held_out > 0:
        return others if split == "val" else _with_views(records, held_out, repeat)
    hold_out(records, held_out, seed)
    if split == "val":
        return [record for record in records if record.held_out]
    kept = [record for record in records if record.held_out]
    return [record for record in records if not record.held_out] * repeat + kept


def _with_views(records: list[AnomalyRecord], held_out: float, repeat: int) -> list[AnomalyRecord]:
    """Few pictures, each so often, and as many more of each as make the share that is held out."""
    each = math.ceil(max(FEW_VIEWS / len(records), repeat * held_out / (1 - held_out)))
    return records * repeat + [replace(record, held_out=True, view=True) for record in records] * each


@Registers.datasets.register()
class MVTecDataset(AnomalyDataset):
    """MVTec AD's layout: ``train/good``, ``test/good``, ``test/<kind>``, ``ground_truth/<kind>/<name>_mask.png``.

    data_dir: the folder of one category. split: "train", "test", or "val": the training pictures that are held out, for
    sets without a test folder.
    held_out: share of train/good (at most 200 pictures) that teaches the model nothing and tells its threshold.
    seed: another seed holds out others. shots: learn from so many good pictures only; repeat: each so often, which with
    augmenting transforms makes many of few.
    region: where to look, see notes/AnomalyDetection.
    good: what the folders of good pictures are called; without it, in train and in test, the one that means so (good, ok,
    合格, i.O., bueno and the like).
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
        region: Region | None = None,
        good: str | None = None,
    ) -> None:
        refuse_bad_config(type(self), split=split, held_out=held_out, shots=shots, repeat=repeat, region=region)
        root = Path(data_dir)
        folder = _need(root, "test" if split == "test" else "train")
        census = Census()
        if split == "test":
            super().__init__(_test_records(root, folder, good, census), f"test of {root}")
            self.census.merge(census)
            return
        if good is None:
            good = need_good(folders_in(folder), str(folder), "folder", ". Expected train/good, test/<kind>, ...")
        records = [AnomalyRecord(path) for path in find_images(_need(folder, good), census=census)]
        super().__init__(to_learn_from(records, split, held_out, seed, shots, repeat), f"{split} of {root}")
        self.census.merge(census)
        self.judges_without = (
            (BAD,) if split == "val" else ()
        )  # what was held out is good; the run says what that tells
        self.set_region(region)

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Numbers and names that are out of range."""
        return training_problems(kwargs, where)


def _need(parent: Path, name: str) -> Path:
    """A folder inside another. Raises DataError saying what there is instead."""
    if not parent.is_dir():
        raise DataError(f"data_dir {parent} is not a folder (working directory: {Path.cwd()})")
    if not (parent / name).is_dir():
        inside = some(folders_in(parent)) or "no folders"
        raise DataError(f"{parent} has no folder '{name}'; it has: {inside}. Expected train/good, test/<kind>, ...")
    return parent / name


def _test_records(root: Path, folder: Path, good: str | None, census: Census) -> list[AnomalyRecord]:
    """good: the name of its good pictures' folder; a test may be without one."""
    records, truth, found = [], root / "ground_truth", folders_in(folder)
    if good is None:
        good = known_good(found, str(folder), "folder") or GOOD
    refuse_other_good(found, good, str(folder), "folder")
    count_other_folders(truth, (*found, good), census)
    for name in found:
        pictures = list(find_images(folder / name, census=census))
        masks = match_masks(truth / name, folder / name, pictures, census)
        if name == good:
            doubtful = contradicted(masks, None, census)
            records += [AnomalyRecord(path) for path in pictures if path not in doubtful]
            continue
        records += [AnomalyRecord(path, kind=name, mask=masks.get(path)) for path in pictures]
    return records
