"""Pictures and labels in the columns of a CSV file."""

from __future__ import annotations

import collections
import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, TypeVar

from dao.dataloaders.datasets.base import (
    ALL,
    ImageDataset,
    Record,
    Taken,
    derive_classes,
    find_label,
    is_text,
    raise_listed,
    read_text,
    refuse_bad_config,
    resolve_path,
    some,
    take_split,
)
from dao.dataloaders.guard import noting, reading
from dao.errors import DataError, Problem, nearest
from dao.register import Registers
from dao.words.counted import counted, of_number

OF_FILES = ("image_column", "mask_column", "group_column")  # whose cells may be bytes that are no UTF-8
NEVER_EMPTY = ("image_column", "label_column")  # whose absence is said where rows are read

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its line number, the picture as written, the labels as written, its split and its group."""

    number: int
    name: str
    labels: tuple[str, ...]
    split: str
    group: str | None


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds what, and how several labels are written."""

    image: str
    label: str
    split: str | None
    group: str | None
    separator: str | None
    none_label: str | None


@Registers.datasets.register()
class CsvDataset(ImageDataset):
    """A CSV file with a header.

    csv_file: the file; data_dir: folder that paths start from, without it the file's own folder.
    image_column, label_column: names in the header. An empty label is an error, never "no defect".
    split_column with split: take the rows where the column says so.
    label_separator: a picture may carry several classes, written with this between them; targets become multi-hot.
    none_label: with label_separator, the word that stands for "none of the classes".
    group_column: pictures that share it stay on one side of a ratio split.
    split_ratio, split, split_seed: divide by ratio instead of a column. delimiter: between columns.
    classes: names in index order; without it the labels of the whole file, sorted.
    """

    def __init__(
        self,
        csv_file: str,
        data_dir: str | None = None,
        image_column: str = "image",
        label_column: str = "label",
        split_column: str | None = None,
        split: str | None = None,
        label_separator: str | None = None,
        none_label: str | None = None,
        group_column: str | None = None,
        split_ratio: dict[str, float] | None = None,
        split_seed: int = 0,
        delimiter: str = ",",
        classes: list[str] | None = None,
    ) -> None:
        refuse_bad_config(
            type(self), split=split, split_ratio=split_ratio, split_column=split_column, delimiter=delimiter,
            label_separator=label_separator, none_label=none_label,
        )  # fmt: skip
        path = Path(csv_file)
        columns = Columns(image_column, label_column, split_column, group_column, label_separator, none_label)
        folder = Path(data_dir) if data_dir else path.parent
        rows = _parse(path, columns, delimiter, folder)
        names = list(classes) if classes else derive_classes({label for row in rows for label in row.labels})
        records = _to_records(path, rows, names, folder, label_separator is not None)
        if split_ratio and split is not None:
            records = take_split(records, [row.name for row in rows], split_ratio, split, split_seed)
        elif split_column:
            records = rows_of_split(path, [row.split for row in rows], records, split_column, split)
        origin = f"split '{split}' of {path}" if split else str(path)
        super().__init__(records, names, multi_label=label_separator is not None, origin=origin)

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Settings that contradict each other."""
        problems = split_problems(kwargs, where)
        if kwargs.get("none_label") is not None and kwargs.get("label_separator") is None:
            problems.append(Problem(f"{where}.none_label", "is for several labels a picture: give label_separator"))
        return problems


def split_problems(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
    """Settings of a CSV file's columns and split that contradict each other."""
    problems = ImageDataset.check_config({"split": None, **kwargs}, where)
    column, ratios, split = (kwargs.get(key) for key in ("split_column", "split_ratio", "split"))
    if column and ratios:
        problems.append(Problem(f"{where}.split_ratio", "cannot be given together with split_column"))
    if column and split is None:
        problems.append(Problem(f"{where}.split", f"is missing: which rows of split_column '{column}' to take"))
    if split not in (None, ALL) and not column and not ratios:
        problems.append(
            Problem(
                f"{where}.split",
                f"'{split}' means nothing without split_column or split_ratio; to take every row say split=null",
            )
        )
    if len(kwargs.get("delimiter", ",")) != 1:
        problems.append(Problem(f"{where}.delimiter", f"expected one character, got {kwargs['delimiter']!r}"))
    return problems


def read_table(
    path: Path, columns: Mapping[str, str | None], delimiter: str
) -> list[tuple[int, Mapping[str, str | None]]]:
    """Rows of a CSV file with a header: line number and cells by column.

    columns: setting -> column that must be there (None: not asked for). Raises DataError naming those that are not, or
    are there twice, and rows of which a cell may belong to another column or row.
    """
    text = read_text(path, "CSV file", names=True)
    with reading(path, "CSV file"):
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        header = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = header
        asked = {key: name for key, name in columns.items() if name}
        absent = {key: name for key, name in asked.items() if header.count(name) != 1}
        missing = [_not_once(key, name, header) for key, name in absent.items()]
        raise_listed(str(path), missing, f"The header has: {', '.join(header) or 'nothing'} (delimiter '{delimiter}').")
        rows = [(reader.line_num, cells) for cells in reader]
        _refuse_open_quote(text, delimiter)
    problems = [f"line {line}: {wrong}" for line, cells in rows for wrong in _wrong_cells(cells, asked)]
    raise_listed(str(path), problems, "Every row has a cell for each name in the header, quoted where it holds more.")
    return rows


def _not_once(key: str, name: str, header: list[str]) -> str:
    if name in header:
        return f"{key} '{name}' is in the header {header.count(name)} times"
    return f"{key} '{name}' is not in the header. {nearest(name, header)}"


def _refuse_open_quote(text: str, delimiter: str) -> None:
    """A quote that nothing closes takes all rows behind it into one cell."""
    try:
        collections.deque(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), maxlen=0)
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise csv.Error("a quote is opened and not closed") from None


def _wrong_cells(cells: Mapping[Any, Any], asked: Mapping[str, str]) -> list[str]:
    """What makes a row's cells doubtful: too many or too few of them, a cell over several lines, no text."""
    if any((cell or "").strip() for cell in cells.get(None) or ()):
        return ["it has more cells than the header; quote a cell that holds the delimiter"]
    problems = []
    for key, name in asked.items():
        text = cells.get(name)
        if text is None and key not in NEVER_EMPTY:
            problems.append(f"it ends before the column '{name}'")
        elif text is None:
            continue
        elif "\n" in text.strip() or "\r" in text.strip():
            problems.append(f"its cell in column '{name}' goes over several lines; is a quote missing?")
        elif key not in OF_FILES and not is_text(text):
            problems.append(f"its cell in column '{name}' is no UTF-8 text")
    return problems


def _parse(path: Path, columns: Columns, delimiter: str, folder: Path) -> list[Row]:
    wanted = {
        "image_column": columns.image,
        "label_column": columns.label,
        "split_column": columns.split,
        "group_column": columns.group,
    }
    rows, problems = [], []
    first_seen: dict[str, int] = {}
    for line, cells in read_table(path, wanted, delimiter):
        with noting(problems, f"line {line}"):
            row = _parse_row(line, cells, columns)
            picture = resolve_path(row.name, folder)
            if picture in first_seen:
                raise ValueError(f"{row.name} is listed already in line {first_seen[picture]}")
            first_seen[picture] = line
            rows.append(row)
    advice = "Give every picture its label, every picture once"
    raise_listed(str(path), problems, f"{advice}; a missing label is not taken for 'no defect'.")
    if not rows:
        raise DataError(f"{path} lists no pictures; there is a header and nothing below it")
    return rows


def cell(cells: Mapping[str, str | None], name: str | None) -> str:
    """A row's text in a column; "" where the column is not asked for or the row ends before it."""
    return (cells.get(name) or "").strip() if name else ""


def _parse_row(number: int, cells: Mapping[str, str | None], columns: Columns) -> Row:
    name, text = cell(cells, columns.image), cell(cells, columns.label)
    if not name:
        raise ValueError(f"no picture in column '{columns.image}'")
    if not text:
        raise ValueError(f"{name} has no label in column '{columns.label}'")
    return Row(
        number, name, _parse_labels(name, text, columns), cell(cells, columns.split), cell(cells, columns.group) or None
    )


def _parse_labels(name: str, text: str, columns: Columns) -> tuple[str, ...]:
    if columns.separator is None:
        return (text,)
    if text == columns.none_label:
        return ()
    labels = tuple(part.strip() for part in text.split(columns.separator))
    if not all(labels):
        raise ValueError(f"{name} has an empty label between separators: '{text}'")
    if columns.none_label in labels:
        raise ValueError(f"{name} is '{columns.none_label}' and something else at once: '{text}'")
    return tuple(dict.fromkeys(labels))


def _to_records(path: Path, rows: list[Row], names: list[str], folder: Path, multi_label: bool) -> list[Record]:
    index_of = {name: i for i, name in enumerate(names)}
    records, problems = [], []
    for row in rows:
        try:
            labels = tuple(sorted({find_label(label, names, index_of) for label in row.labels}))
        except ValueError as error:
            problems.append(f"line {row.number}: {error}")
            continue
        record = Record(resolve_path(row.name, folder), group=row.group)
        records.append(replace(record, label_set=labels) if multi_label else replace(record, label=labels[0]))
    raise_listed(str(path), problems, f"Classes: {', '.join(names)}.")
    return records


def is_slip(text: str, name: str) -> bool:
    """Whether a name is another by its case or a letter or two, and not by a number: "Train", "tarin", but not "fold2".

    >>> [is_slip(text, "train") for text in ("Train", "tarin", "train", "val", "train2", "")]
    [True, True, False, False, False, False]
    """
    if text == name or re.sub(r"\d+", "", text) == name or re.sub(r"\d+", "", text) == re.sub(r"\d+", "", name):
        return False
    return text.casefold() == name.casefold() or SequenceMatcher(None, text.casefold(), name.casefold()).ratio() >= 0.8


def rows_of_split(path: Path, splits: Sequence[str], records: Sequence[R], column: str, split: str | None) -> list[R]:
    """The records whose row says ``split``; of "all" every one. Raises DataError naming the splits there are where none
    does, and where some are written otherwise than ``split`` by their case or a slip: they would belong to no split."""
    if split == ALL and ALL not in splits:
        return list(records)
    slips = sorted({where for where in splits if is_slip(where, str(split))})
    if slips:
        count = sum(where in slips for where in splits)
        rows = f"{counted(count, 'row')} {of_number(count, 'says', 'say')}"
        raise DataError(
            f"{path}: {rows} {some(slips)} in column '{column}', which is not '{split}': they would belong to no "
            "split. Write them alike, or another name if another split is meant"
        )
    taken = Taken((record for where, record in zip(splits, records) if where == split), len(records))
    if not taken:
        known = some(sorted({where or "(empty)" for where in splits}))
        raise DataError(f"{path}: no row has '{split}' in column '{column}'; it has: {known}")
    return taken
