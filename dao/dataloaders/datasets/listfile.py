"""Pictures named in a text file, one ``path label`` a line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dao.dataloaders.datasets.base import (
    ImageDataset,
    Record,
    derive_classes,
    find_label,
    is_text,
    raise_listed,
    read_text,
    refuse_bad_config,
    resolve_path,
    take_split,
)
from dao.dataloaders.guard import noting
from dao.errors import DataError
from dao.register import Registers


@dataclass(frozen=True, slots=True)
class Line:
    """One entry: its line number, the picture as written, the label as written."""

    number: int
    name: str
    label: str


@Registers.datasets.register()
class ListDataset(ImageDataset):
    """Lines of ``path label``; the label is the last word (a class name or index), so paths may hold spaces.

    list_file: the list; blank lines and lines that start with # are skipped.
    labels_file: class names, one a line, in index order; without it ``labels.txt`` beside the list, if there is one.
    data_dir: folder that paths start from; without it the list's own folder.
    split_ratio, split, split_seed: divide the list, stratified by class; without split_ratio it is taken whole.
    classes: names in index order, in place of those in the labels file (a trained model's, say).
    """

    def __init__(
        self,
        list_file: str,
        labels_file: str | None = None,
        data_dir: str | None = None,
        split: str = "train",
        split_ratio: dict[str, float] | None = None,
        split_seed: int = 0,
        classes: list[str] | None = None,
    ) -> None:
        refuse_bad_config(type(self), split=split, split_ratio=split_ratio)
        path = Path(list_file)
        folder = Path(data_dir) if data_dir else path.parent
        lines = _parse(path, folder)
        written = _read_labels(path, labels_file) or classes or derive_classes({line.label for line in lines})
        names = list(classes) if classes else written
        records = _to_records(path, lines, written, names, folder)
        origin = str(path)
        if split_ratio:
            records = take_split(records, [line.name for line in lines], split_ratio, split, split_seed)
            origin = f"split '{split}' of {path}"
        super().__init__(records, names, origin=origin)


def _parse(path: Path, folder: Path) -> list[Line]:
    lines, problems = [], []
    first_seen: dict[str, int] = {}
    for number, raw in enumerate(read_text(path, "list file", names=True).splitlines(), start=1):
        text = raw.strip()
        if not text or text.startswith("#"):
            continue
        with noting(problems, f"line {number}"):
            line = _parse_line(number, text)
            picture = resolve_path(line.name, folder)
            if picture in first_seen:
                raise ValueError(f"{line.name} is listed already in line {first_seen[picture]}")
            first_seen[picture] = number
            lines.append(line)
    raise_listed(str(path), problems, "Every line names one picture and its class, every picture once.")
    if not lines:
        raise DataError(f"{path} lists no pictures; expected lines of 'path label'")
    return lines


def _parse_line(number: int, text: str) -> Line:
    parts = text.rsplit(None, 1)
    if len(parts) < 2:
        raise ValueError(f"expected 'path label', got '{text[:100]}'")
    if not is_text(parts[1]):
        raise ValueError(f"its label is no UTF-8 text: {parts[1][:60]!r}")
    return Line(number, *parts)


def _read_labels(list_path: Path, labels_file: str | None) -> list[str]:
    path = Path(labels_file) if labels_file else list_path.with_name("labels.txt")
    if not labels_file and not path.is_file():
        return []
    names = [line.strip() for line in read_text(path, "labels file").splitlines() if line.strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        found = f"twice: {', '.join(twice)}" if twice else "none"
        raise DataError(f"{path}: expected one class name a line, each once; got {found}")
    return names


def _to_records(path: Path, lines: list[Line], written: list[str], names: list[str], folder: Path) -> list[Record]:
    """Labels mean what the labels file says; they are numbered as ``names`` says."""
    index_in_file = {name: i for i, name in enumerate(written)}
    index_of = {name: i for i, name in enumerate(names)}
    records, problems = [], []
    for line in lines:
        try:
            name = written[find_label(line.label, written, index_in_file)]
            label = index_of[name] if name in index_of else find_label(name, names, index_of)
        except ValueError as error:
            problems.append(f"line {line.number}: {error}")
            continue
        records.append(Record(resolve_path(line.name, folder), label=label))
    raise_listed(str(path), problems, f"Classes: {', '.join(names)}.")
    return records
