"""Good and bad pictures in other layouts than MVTec's: plain folders, VisA, a CSV file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dao.dataloaders.census import Census
from dao.dataloaders.datasets.anomaly import (
    BAD,
    SPLITS,
    AnomalyDataset,
    AnomalyRecord,
    Region,
    hold_out,
    to_learn_from,
    training_problems,
)
from dao.dataloaders.datasets.base import raise_listed, refuse_bad_config, resolve_path, some
from dao.dataloaders.datasets.csvfile import cell, read_table
from dao.dataloaders.datasets.good_masks import contradicted
from dao.dataloaders.datasets.good_parts import GOOD, need_good, refuse_other_good
from dao.dataloaders.datasets.mask_files import count_other_folders, match_masks
from dao.dataloaders.splits import assign_splits
from dao.errors import DataError, Problem, nearest
from dao.images.files import folders_in
from dao.images.listing import find_images
from dao.register import Registers

TRAIN, VAL, TEST = SPLITS


@dataclass(frozen=True, slots=True)
class Learning:
    """How the good pictures of a set are used; see `MVTecDataset`.

    test_ratio: share of the good ones that is kept for the test where the data names no test pictures.
    """

    split: str
    held_out: float
    seed: int
    shots: int | None
    repeat: int
    test_ratio: float = 0.0


class OwnAnomalyDataset(AnomalyDataset):
    """Pictures of all splits, of which the wanted split's are taken. What is "good" learns, everything bad judges."""

    def take(
        self,
        records: list[AnomalyRecord],
        names: Sequence[str],
        splits: Sequence[str],
        how: Learning,
        origin: str,
        region: Region | None,
    ) -> None:
        """records, names (that a division depends on) and splits ("" where the data names none) go together."""
        good = sum(record.kind == GOOD for record in records)
        if not good:
            kinds = some(sorted({record.kind for record in records})) or "nothing"
            raise DataError(
                f"{origin}: no good pictures to learn from; there is {kinds}. What is good is set by 'good'"
            )
        divided = any(splits)
        where = list(splits) if divided else divide(records, names, how.test_ratio, how.seed)
        if how.split == TEST:
            super().__init__(_of(records, where, TEST), f"test of {origin}")
        elif VAL in where:  # the data says what thresholds are taken from
            self._take_given(records, where, how, origin)
        else:
            learn = [record for record in _of(records, where, TRAIN) if record.kind == GOOD]
            super().__init__(
                to_learn_from(learn, how.split, how.held_out, how.seed, how.shots, how.repeat),
                f"{how.split} of {origin}",
            )
            self.judges_without = (BAD,) if how.split == VAL else ()
        self.set_region(region)
        self._note(records, where, divided, origin)

    def _take_given(self, records: list[AnomalyRecord], where: list[str], how: Learning, origin: str) -> None:
        validation = _of(records, where, VAL)
        if how.split == TRAIN:
            learn = [record for record in _of(records, where, TRAIN) if record.kind == GOOD]
            held = [record for record in validation if record.kind == GOOD]
            hold_out(held, 1.0, how.seed)
            held = [record for record in held if record.held_out]
            validation = to_learn_from(learn, TRAIN, 0.0, how.seed, how.shots, how.repeat) + held
        super().__init__(validation, f"{how.split} of {origin}")

    def _note(self, records: list[AnomalyRecord], where: list[str], divided: bool, origin: str) -> None:
        tested = Counter(record.kind == GOOD for record in _of(records, where, TEST))
        how = "as the data says" if divided else "drawn by name and seed"
        self.test_note = f"for the test {tested[True]} good and {tested[False]} bad ones ({how})"
        for record in _of(records, where, TRAIN):
            if record.kind != GOOD:
                self.census.omit("bad pictures of the train split, which teach nothing, left out", record.path)

    def summary(self) -> str:
        return f"{super().summary()}; {self.test_note}"


def divide(records: Sequence[AnomalyRecord], names: Sequence[str], test_ratio: float, seed: int) -> list[str]:
    """ "train" or "test" for every picture: bad ones are for the test, and so is a share of the good ones.

    A function of names, groups and seed; pictures of one group lie on one side, unless they are bad.
    """
    good = [i for i, record in enumerate(records) if record.kind == GOOD]
    where = [TEST] * len(records)
    if test_ratio == 0:
        drawn = [TRAIN] * len(good)
    else:
        ratios = {TRAIN: 1 - test_ratio, TEST: test_ratio}
        groups = [records[i].group for i in good]
        drawn = assign_splits([names[i] for i in good], [(0,)] * len(good), ratios, seed, groups)
    # a good picture of a part that is also seen bad would tell of its test
    bad_groups = {record.group for record in records if record.kind != GOOD and record.group is not None}
    for i, split in zip(good, drawn):
        where[i] = TEST if records[i].group in bad_groups else split
    return where


def _of(records: Sequence[AnomalyRecord], where: Sequence[str], split: str) -> list[AnomalyRecord]:
    return [record for record, own in zip(records, where, strict=True) if own == split]


def own_problems(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
    """Settings that are out of range."""
    problems = training_problems(kwargs, where)
    if not 0 <= kwargs.get("test_ratio", 0) < 1:
        message = f"must be at least 0 and below 1, got {kwargs['test_ratio']}"
        problems.append(Problem(f"{where}.test_ratio", message))
    if len(kwargs.get("delimiter", ",")) != 1:
        problems.append(Problem(f"{where}.delimiter", f"expected one character, got {kwargs['delimiter']!r}"))
    return problems


@Registers.datasets.register()
class AnomalyFolderDataset(OwnAnomalyDataset):
    """Plain folders: ``data_dir/good/*`` and any number of others, each a kind of defect.

    good: the name of the good pictures' folder; without it the one that means so (good, ok, 合格, i.O., bueno and the like).
    bad: those of the others, without it all there are.
    mask_dir: a folder with ``<kind>/<picture name>.png`` (or ``_mask.png``) below it; masks are optional.
    split: "train", "test" (all bad pictures and ``test_ratio`` of the good ones), or "val", the held-out ones.
    held_out, seed, shots, repeat: as MVTecDataset's. region: where to look, see notes/AnomalyDetection.
    """

    def __init__(
        self,
        data_dir: str,
        split: str = "train",
        good: str | None = None,
        bad: list[str] | None = None,
        mask_dir: str | None = None,
        test_ratio: float = 0.2,
        held_out: float = 0.2,
        seed: int = 0,
        shots: int | None = None,
        repeat: int = 1,
        region: Region | None = None,
    ) -> None:
        refuse_bad_config(
            type(self), split=split, held_out=held_out, shots=shots, repeat=repeat, test_ratio=test_ratio, region=region
        )
        root = Path(data_dir)
        masks = Path(mask_dir) if mask_dir else None
        good, kinds = _good_and_kinds(root, good, bad, masks)
        census = Census()
        pictures = list(find_images(root / good, census=census))
        known = match_masks(masks / good, root / good, pictures, census) if masks else {}
        doubtful = contradicted(known, self.mask_from, census)
        records = [AnomalyRecord(path) for path in pictures if path not in doubtful]
        if masks and bad is None:
            count_other_folders(masks, (*kinds, good), census)
        for kind in kinds:
            found = list(find_images(root / kind, census=census))
            known = match_masks(masks / kind, root / kind, found, census) if masks else {}
            records += [AnomalyRecord(path, kind=kind, mask=known.get(path)) for path in found]
        names = [Path(record.path).relative_to(root).as_posix() for record in records]
        how = Learning(split, held_out, seed, shots, repeat, test_ratio)
        self.take(records, names, [""] * len(records), how, str(root), region)
        self.census.merge(census)

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Numbers and names that are out of range."""
        return own_problems(kwargs, where)


def _good_and_kinds(
    root: Path, good: str | None, bad: Sequence[str] | None, masks: Path | None
) -> tuple[str, list[str]]:
    """The folder of good pictures and those of bad ones. Raises DataError for folders that are not there."""
    if not root.is_dir():
        raise DataError(f"data_dir {root} is not a folder (working directory: {Path.cwd()})")
    if masks is not None and not masks.is_dir():
        raise DataError(f"mask_dir {masks} is not a folder (working directory: {Path.cwd()})")
    skip = masks.resolve() if masks else None
    found = [name for name in folders_in(root) if (root / name).resolve() != skip]
    hint = "; it looks like MVTec's layout: use MVTecDataset" if {TRAIN, TEST} <= set(found) else ""
    missing = [name for name in (good, *(bad or ())) if name is not None and name not in found]
    if missing:
        raise DataError(f"{root} has no folder '{missing[0]}'; it has: {some(found) or 'no folders'}{hint}")
    if good is None:
        good = need_good(set(found) - set(bad or ()), str(root), "folder", hint)
    kinds = list(bad) if bad is not None else [name for name in found if name != good]
    refuse_other_good(kinds, good, str(root), "folder")
    return good, kinds


@Registers.datasets.register()
class AnomalyCsvDataset(OwnAnomalyDataset):
    """A CSV file with a header: a picture and its label in each row, and perhaps its mask, split and group.

    csv_file: the file; data_dir: folder that paths start from, without it the file's own folder.
    good: the label of good pictures, without it the one that means so (good, ok, 合格, i.O., bueno and the like); every
    other label is a kind of defect.
    image_column, label_column, mask_column (an empty cell: no mask), group_column: names in the header.
    split_column: says train, val or test; thresholds are taken from the good ones of val, if there are any. Without it
    all bad pictures and ``test_ratio`` of the good ones are the test. Pictures of one group lie on one side.
    split, held_out, seed, shots, repeat: as MVTecDataset's. region: where to look, see notes/AnomalyDetection.
    """

    def __init__(
        self,
        csv_file: str,
        data_dir: str | None = None,
        split: str = "train",
        good: str | None = None,
        image_column: str = "image",
        label_column: str = "label",
        mask_column: str | None = None,
        split_column: str | None = None,
        group_column: str | None = None,
        delimiter: str = ",",
        test_ratio: float = 0.2,
        held_out: float = 0.2,
        seed: int = 0,
        shots: int | None = None,
        repeat: int = 1,
        region: Region | None = None,
    ) -> None:
        refuse_bad_config(
            type(self), split=split, held_out=held_out, shots=shots, repeat=repeat, test_ratio=test_ratio,
            delimiter=delimiter, region=region,
        )  # fmt: skip
        path = Path(csv_file)
        columns = {
            "image_column": image_column, "label_column": label_column, "mask_column": mask_column,
            "split_column": split_column, "group_column": group_column,
        }  # fmt: skip
        rows = read_rows(path, columns, delimiter)
        how = Learning(split, held_out, seed, shots, repeat, test_ratio)
        self.take_rows(rows, path, Path(data_dir) if data_dir else path.parent, good, how, region)

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Numbers and names that are out of range."""
        return own_problems(kwargs, where)

    def take_rows(
        self, rows: list[AnomalyRow], path: Path, folder: Path, good: str | None, how: Learning, region: Region | None
    ) -> None:
        """The pictures that rows name, below ``folder``."""
        labels = sorted({row.label for row in rows})
        if good is None:
            good = need_good(labels, str(path), "label")
        elif good not in labels:
            raise DataError(f"{path}: no good pictures: no label is '{good}'. {nearest(good, labels)}: {some(labels)}")
        refuse_other_good(labels, good, str(path), "label")
        census = Census()
        of_good = {row.image: resolve_path(row.mask, folder) for row in rows if row.mask and row.label == good}
        doubtful = contradicted(of_good, self.mask_from, census)
        rows = [row for row in rows if row.image not in doubtful]
        records = [
            AnomalyRecord(
                resolve_path(row.image, folder),
                group=row.group,
                kind=GOOD if row.label == good else row.label,
                mask=resolve_path(row.mask, folder) if row.mask and row.label != good else None,
            )
            for row in rows
        ]
        self.take(records, [row.image for row in rows], [row.split for row in rows], how, str(path), region)
        self.census.merge(census)


@dataclass(frozen=True, slots=True)
class AnomalyRow:
    """One row as written; "" and None where it says nothing."""

    image: str
    label: str
    mask: str
    split: str
    group: str | None


def read_rows(path: Path, columns: Mapping[str, str | None], delimiter: str) -> list[AnomalyRow]:
    """The rows of a CSV file. Raises one DataError for all that is wrong with them.

    columns: image, label, mask, split and group column, in this order, by the setting that names them.
    """
    rows, problems = [], []
    first_seen: dict[str, int] = {}
    for line, cells in read_table(path, columns, delimiter):
        image, label, mask, split, group = (cell(cells, name) for name in columns.values())
        picture = os.path.normpath(image.replace("\\", "/"))
        if not image or not label:
            problems.append(f"line {line}: needs a picture and its label, got '{image}' and '{label}'")
        elif picture in first_seen:
            problems.append(f"line {line}: {image} is listed already in line {first_seen[picture]}")
        elif columns["split_column"] and split not in SPLITS:
            problems.append(f"line {line}: expected the split to be {', '.join(SPLITS)}, got '{split}'")
        first_seen.setdefault(picture, line)
        rows.append(AnomalyRow(image, label, mask, split, group or None))
    raise_listed(str(path), problems, "Every picture once, with its label; a missing label is not taken for good.")
    if not rows:
        raise DataError(f"{path} lists no pictures; there is a header and nothing below it")
    return rows


@Registers.datasets.register()
class VisADataset(AnomalyCsvDataset):
    """VisA as published: pictures below ``data_dir`` and ``split_csv/1cls.csv`` (object, split, label, image, mask).

    object: which of its products. csv_file: another table of the same columns; paths start from data_dir.
    good: its label of good pictures, without it the one that means so ("normal" as published).
    split, held_out, seed, shots, repeat: as MVTecDataset's. region: where to look, see notes/AnomalyDetection.
    """

    mask_from = 1  # the published masks hold the numbers of defects, not 255

    def __init__(
        self,
        data_dir: str,
        object: str,
        split: str = "train",
        csv_file: str | None = None,
        held_out: float = 0.2,
        seed: int = 0,
        shots: int | None = None,
        repeat: int = 1,
        region: Region | None = None,
        good: str | None = None,
    ) -> None:
        refuse_bad_config(type(self), split=split, held_out=held_out, shots=shots, repeat=repeat, region=region)
        path = Path(csv_file) if csv_file else Path(data_dir) / "split_csv" / "1cls.csv"
        columns = {
            "image_column": "image", "label_column": "label", "mask_column": "mask", "split_column": "split",
            "group_column": "object",
        }  # fmt: skip
        rows = read_rows(path, columns, ",")
        objects = sorted({row.group or "" for row in rows})
        if object not in objects:
            raise DataError(f"{path} has no object '{object}'. {nearest(object, objects)}; it has: {some(objects)}")
        rows = [AnomalyRow(r.image, r.label, r.mask, r.split, None) for r in rows if r.group == object]
        self.take_rows(rows, path, Path(data_dir), good, Learning(split, held_out, seed, shots, repeat), region)
