"""Pictures and masks in the columns of a CSV file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dao.dataloaders.census import Census
from dao.dataloaders.datasets.base import derive_classes, raise_listed, refuse_bad_config, resolve_path, take_split
from dao.dataloaders.datasets.csvfile import cell, read_table, rows_of_split, split_problems
from dao.dataloaders.datasets.empty_masks import refuse_unmarked
from dao.dataloaders.datasets.masks import MaskFormat
from dao.dataloaders.datasets.segmentation import SegDataset, SegRecord, codec_of, format_problems, with_background
from dao.dataloaders.guard import noting
from dao.errors import DataError, Problem, nearest
from dao.register import Registers


@dataclass(frozen=True, slots=True)
class MaskRow:
    """One row: its line number, picture, mask and class as written, its split and its group."""

    number: int
    name: str
    mask: str
    label: str
    split: str
    group: str | None


@Registers.datasets.register()
class SegCsvDataset(SegDataset):
    """A CSV file with a header: a picture and its mask in every row; an empty mask cell means a good part.

    csv_file: the file; data_dir: folder that paths start from, without it the file's own folder.
    image_column, mask_column: names in the header. mask_format, mask_values: how mask values become classes, see notes.
    class_column: with 0/255 masks, the column that says which defect a picture shows. Rows that name one and whose mask
        marks nothing are left out and named (``census``): nobody knows which of the two is right.
    classes: names in index order, the background first; without it "background" and the words of the class column in
        rows with a mask, sorted; without that column "background" and "defect".
    split_column with split: take the rows where the column says so. split_ratio, split, split_seed: divide by ratio.
    group_column: pictures that share it stay on one side of a ratio split. delimiter: between columns.
    """

    def __init__(
        self,
        csv_file: str,
        data_dir: str | None = None,
        image_column: str = "image",
        mask_column: str = "mask",
        class_column: str | None = None,
        mask_format: MaskFormat = "index",
        mask_values: dict[str, str] | None = None,
        split_column: str | None = None,
        split: str | None = None,
        group_column: str | None = None,
        split_ratio: dict[str, float] | None = None,
        split_seed: int = 0,
        delimiter: str = ",",
        classes: list[str] | None = None,
    ) -> None:
        refuse_bad_config(
            type(self), split=split, split_ratio=split_ratio, split_column=split_column, delimiter=delimiter,
            mask_format=mask_format, mask_values=mask_values, class_column=class_column,
        )  # fmt: skip
        path = Path(csv_file)
        columns = {
            "image_column": image_column, "mask_column": mask_column, "class_column": class_column,
            "split_column": split_column, "group_column": group_column,
        }  # fmt: skip
        folder = Path(data_dir) if data_dir else path.parent
        rows = _parse(path, columns, delimiter, folder)
        names = list(classes) if classes else _default_classes(path, rows, class_column, mask_format, mask_values)
        records = _to_records(path, rows, names, folder, mask_format)
        if split_ratio and split is not None:
            records = take_split(records, [row.name for row in rows], split_ratio, split, split_seed)
        elif split_column:
            records = rows_of_split(path, [row.split for row in rows], records, split_column, split)
        origin = f"split '{split}' of {path}" if split else str(path)
        codec, census = codec_of(mask_format, mask_values, names), Census()
        named = {
            place: (f"{record.path} ({names[record.defect]})", record.files())
            for place, record in enumerate(records)
            if record.label_set
        }
        records = refuse_unmarked(records, named, codec, census, origin)
        super().__init__(records, names, codec, origin=origin)
        self.census.merge(census)

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Settings that contradict each other."""
        problems = split_problems(kwargs, where) + format_problems(kwargs, where)
        if kwargs.get("class_column") and kwargs.get("mask_format") != "binary":
            message = 'is for 0/255 masks: set "mask_format": "binary", or leave it out'
            problems.append(Problem(f"{where}.class_column", message))
        return problems


def _parse(path: Path, columns: Mapping[str, str | None], delimiter: str, folder: Path) -> list[MaskRow]:
    rows, problems = [], []
    first_seen: dict[str, int] = {}
    for line, cells in read_table(path, columns, delimiter):
        image, mask, label, split, group = (cell(cells, name) for name in columns.values())
        with noting(problems, f"line {line}"):
            if not image:
                raise ValueError(f"no picture in column '{columns['image_column']}'")
            if mask and columns["class_column"] and not label:
                raise ValueError(f"{image} has a mask and no class in column '{columns['class_column']}'")
            picture = resolve_path(image, folder)
            if picture in first_seen:
                raise ValueError(f"{image} is listed already in line {first_seen[picture]}")
            first_seen[picture] = line
            rows.append(MaskRow(line, image, mask, label, split, group or None))
    raise_listed(str(path), problems, "Every picture once, with its mask; an empty mask means a good part.")
    if not rows:
        raise DataError(f"{path} lists no pictures; there is a header and nothing below it")
    return rows


def _default_classes(
    path: Path,
    rows: list[MaskRow],
    class_column: str | None,
    mask_format: MaskFormat,
    mask_values: Mapping[str, str] | None,
) -> list[str]:
    if class_column:
        return with_background(derive_classes({row.label for row in rows if row.mask}))
    if mask_format == "binary":
        return with_background(["defect"])
    if mask_values:
        return with_background([name for name in dict.fromkeys(mask_values.values()) if name != "ignore"])
    raise DataError(
        f'{path}: masks of class indices need the names: "classes": ["background", ...], in the order of the values'
    )


def _to_records(
    path: Path, rows: list[MaskRow], names: list[str], folder: Path, mask_format: MaskFormat
) -> list[SegRecord]:
    if mask_format == "binary" and len(names) > 2 and not any(row.label for row in rows):
        known = ", ".join(names[1:])
        raise DataError(f"{path}: a 0/255 mask cannot tell {known} apart; name the column that does in class_column")
    records, problems = [], []
    for row in rows:
        if row.mask and row.label and row.label not in names[1:]:
            problems.append(f"line {row.number}: '{row.label}' is not a class. {nearest(row.label, names)}")
            continue
        if not row.mask and row.label in names[1:]:
            problems.append(
                f"line {row.number}: {row.name} shows '{row.label}' and has no mask, which means a good part"
            )
            continue
        defect = names.index(row.label) if row.mask and row.label else 1
        mask = resolve_path(row.mask, folder) if row.mask else None
        known = (defect,) if row.mask and row.label else ()
        record = SegRecord(resolve_path(row.name, folder), label_set=known, group=row.group, mask=mask, defect=defect)
        records.append(record)
    raise_listed(str(path), problems, f"Classes: {', '.join(names)}.")
    return records
