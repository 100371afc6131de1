"""What every dataset is: class names and a list of records, and how one record becomes a Sample."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from dao.dataloaders.census import Census
from dao.dataloaders.splits import assign_splits, ratio_problem
from dao.errors import ConfigError, DataError, Problem, nearest
from dao.images.files import read_file
from dao.images.image_io import read_image
from dao.structures import Sample
from dao.words.counted import counted

ALL = "all"  # in the place of a split: every picture, whatever split it belongs to
MAX_LISTED = 10  # how many offending names a message shows
MOST_DIGITS = 18
LONGEST_NAME = 255  # bytes of a file's name, on every file system in use


@dataclass(slots=True)
class Record:
    """One picture of a dataset before it is read.

    label: class index; label_set: class indices, for datasets where a picture may carry several or none.
    group: pictures of one part share it and never lie on both sides of a split.
    """

    path: str
    label: int | None = None
    label_set: tuple[int, ...] | None = None
    group: str | None = None

    @property
    def labels(self) -> tuple[int, ...]:
        """All class indices of the picture, however many."""
        if self.label_set is not None:
            return self.label_set
        return () if self.label is None else (self.label,)


R = TypeVar("R", bound=Record)


class Taken(list[R]):
    """The records of one split. whole: how many there are in all splits."""

    def __init__(self, records: Iterable[R], whole: int) -> None:
        super().__init__(records)
        self.whole = whole


class ImageDataset:
    """Pictures with labels. Subclasses read a layout on disk and hand over the result.

    classes: names in index order; multi_label: whether targets are multi-hot; origin: where it came from, for messages.
    census: what its files held and was not taken as written; said in `--check` and at the start of every stage.
    labelled: whether it can be learnt from. learns_without, judges_without: classes that it need not show to be
    trained on, and to be evaluated on.
    repeats: whether a picture is listed several times on purpose. needs_every_class: whether a class without a picture
    ends training; counts_by_reading: whether to know that means to read files.
    of_all: pictures of all splits that it was divided from.
    """

    labelled: ClassVar[bool] = True
    learns_without: tuple[str, ...] = ()
    judges_without: tuple[str, ...] = ()
    repeats: bool = False
    needs_every_class: ClassVar[bool] = True
    counts_by_reading: ClassVar[bool] = False

    def __init__(
        self, records: Sequence[Record], classes: Sequence[str], multi_label: bool = False, origin: str = ""
    ) -> None:
        self.records = list(records)
        self.of_all = getattr(records, "whole", len(self.records))
        self.classes = list(classes)
        self.multi_label = multi_label
        self.origin = origin
        self.census = Census()
        if not self.records:
            raise DataError(f"no picture found in {origin}")
        for record in self.records:
            if not isinstance(getattr(record, "path", None), str):
                message = f"expected a Record, whose path is text, got {record!r:.80}"
                raise DataError(f"{type(self).__name__} hands over a record that is none: {message}")
        if not any(os.path.exists(record.path) for record in self.records):  # noqa: PTH110 (many)
            which, be = (
                ("the one picture", "does not exist:")
                if len(self.records) == 1
                else (f"none of the {len(self.records)} pictures", "exists, e.g.")
            )
            raise DataError(
                f"{which} of {origin} {be} {self.records[0].path}; check the folder that the paths start from (data_dir)"
            )

    def __len__(self) -> int:
        return len(self.records)

    def class_counts(self) -> list[int]:
        """Pictures of each class, in the order of ``classes``; a picture with several labels counts for each."""
        counts = [0] * len(self.classes)
        for record in self.records:
            for label in record.labels:
                counts[label] += 1
        return counts

    def picture_labels(self) -> list[tuple[int, ...]]:
        """The classes that each picture shows, for drawing every class equally often."""
        return [record.labels for record in self.records]

    def loss_counts(self) -> list[int]:
        """What "balanced" weights of a loss are made from: pictures of each class, or pixels where a loss counts those."""
        return self.class_counts()

    def loss_total(self) -> int:
        """Of how many `loss_counts` are the parts: pictures whose labels are known (which may be none, or several)."""
        return sum(self.multi_label or bool(record.labels) for record in self.records)

    def summary(self) -> str:
        """One line of what is in it, for the log."""
        counts = ", ".join(f"{name} {n}" for name, n in zip(self.classes, self.class_counts()))
        return f"{counted(len(self), 'training picture')} in {counted(len(self.classes), 'class')}: {counts}"

    def read(self, index: int, in_channels: int = 3, bit_depth: int = 16) -> Sample:
        """Decode one picture with its target. Raises DataError when it cannot be read."""
        record = self.records[index]
        image = read_image(record.path, in_channels, bit_depth)
        return self.to_sample(index, image, (image.shape[0], image.shape[1]))

    def to_sample(
        self, index: int, image: np.ndarray, original_hw: tuple[int, int], mask: np.ndarray | None = None
    ) -> Sample:
        """A Sample of already decoded pixels (H, W, C), and mask where there are some, with this record's target."""
        record = self.records[index]
        sample = Sample(image, record.path, index, original_hw, label=record.label, mask=mask)
        if record.label_set is not None:
            sample.label_set = np.zeros(len(self.classes), np.float32)
            sample.label_set[list(record.label_set)] = 1
        return sample

    def picture_problem(self, index: int, hw: tuple[int, int]) -> str:
        """What is wrong with a picture that could be decoded, to ``hw`` pixels; "" when it fits its target."""
        return ""

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Split settings that contradict each other, found before anything is read."""
        ratios, split = kwargs.get("split_ratio"), kwargs.get("split", "train")
        if ratios is None:
            return []
        problems = [Problem(f"{where}.split_ratio", ratio_problem(ratios))] if ratio_problem(ratios) else []
        if split not in ratios and split != ALL:
            known = ", ".join(ratios)
            problems.append(Problem(f"{where}.split", f"expected a split of split_ratio ({known}), got {split!r}"))
        return problems


def refuse_bad_config(component: type[ImageDataset], **kwargs: Any) -> None:
    """Raise ConfigError for contradicting settings of a dataset that was built without validation."""
    problems = component.check_config(kwargs, component.__name__)
    if problems:
        raise ConfigError(problems)


def take_split(
    records: Sequence[R], names: Sequence[str], ratios: Mapping[str, float], split: str, seed: int
) -> list[R]:
    """The records that fall into ``split``, in their order; of "all" every one. ``names`` are what the division depends
    on."""
    if split == ALL:
        return list(records)
    assigned = assign_splits(names, [r.labels for r in records], ratios, seed, [r.group for r in records])
    return Taken((record for record, where in zip(records, assigned) if where == split), len(records))


def find_label(token: str, names: Sequence[str], index_of: Mapping[str, int]) -> int:
    """The class index that a text means: a class name, or else an index. Raises ValueError saying what is known."""
    if token in index_of:
        return index_of[token]
    # a number is never an index where the names are numbers themselves: "1" of the classes "3" and "5" is a mistake
    if is_number(token) and int(token) < len(names) and not all(map(is_number, names)):
        return int(token)
    raise ValueError(f"'{token}' is not a class. {nearest(token, names)}")


def is_number(token: str) -> bool:
    """Whether a text is a whole number that may count something; "²" and thousand digits are none."""
    return token.isascii() and token.isdigit() and len(token) <= MOST_DIGITS


def derive_classes(tokens: set[str]) -> list[str]:
    """Class names from the labels of a file: sorted; as numbers when all of them are numbers."""
    if tokens and all(map(is_number, tokens)):
        return sorted(tokens, key=int)
    return sorted(tokens)


def names_below(records: Sequence[Record]) -> list[str]:
    """Each picture's path from the folder that all lie in: a division by these does not depend on where the set lies."""
    paths = [os.path.abspath(record.path) for record in records]  # noqa: PTH100 (links stay links)
    root = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""  # noqa: PTH120
    return [Path(os.path.relpath(path, root)).as_posix() for path in paths]


def resolve_path(name: str, folder: Path) -> str:
    """A picture's path as a list names it; lists made on Windows may use backslashes.

    Raises DataError for what no file can be called.
    """
    path = os.path.normpath(folder / name.replace("\\", "/"))
    if "\0" in name or any(len(os.fsencode(part)) > LONGEST_NAME for part in Path(path).parts):
        raise DataError(f"no file can be called {name[:60]!r}")
    return path


def is_text(word: str) -> bool:
    """Whether a word was UTF-8 in its file, and not bytes that `read_text` kept as they are."""
    return not any("\udc80" <= letter <= "\udcff" for letter in word)


def some(items: Sequence[str]) -> str:
    """The first few of many, as text."""
    shown = ", ".join(items[:MAX_LISTED])
    return shown if len(items) <= MAX_LISTED else f"{shown}, ... ({len(items)} in all)"


def once(names: Sequence[str], file: Path) -> list[str]:
    """The names that a list holds. Raises DataError where one stands twice: its picture would weigh double."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{file} lists names more than once: {some(twice)}. Every picture is listed once")
    return list(names)


def raise_listed(source: str, problems: Sequence[str], what_to_do: str) -> None:
    """Raise one DataError for all problems of a file, line by line; do nothing when there are none."""
    if problems:
        rows = [f"  {problem}" for problem in problems[:MAX_LISTED]]
        if len(problems) > MAX_LISTED:
            rows.append(f"  ... and {len(problems) - MAX_LISTED} more")
        count = counted(len(problems), "problem")
        raise DataError("\n".join([f"{source}: {count}", *rows, what_to_do]))


def read_text(path: Path, what: str, names: bool = False) -> str:
    """A UTF-8 text file. names: it names files, which may be called by bytes that are no UTF-8: these are kept.

    Raises DataError naming it when it is missing or not text.
    """
    if not os.path.exists(path):  # noqa: PTH110 (no error for names too long)
        raise DataError(f"{path}: the {what} does not exist (working directory: {Path.cwd()})")
    try:
        text = read_file(path).decode("utf-8-sig", errors="surrogateescape" if names else "strict")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the {what} cannot be read as UTF-8 text: {error}") from None
