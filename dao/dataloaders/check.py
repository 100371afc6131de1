"""Read every picture and every label of a dataset once, and say what is wrong. Source files are only ever read."""

from __future__ import annotations

import os
from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dao.dataloaders import content
from dao.dataloaders.datasets.base import ImageDataset, some
from dao.dataloaders.survey import describe_depth
from dao.errors import DataError
from dao.images import decoding_budget
from dao.images.files import read_file
from dao.images.image_io import decode_all_bits, to_uint8
from dao.words.counted import counted, of_number


@dataclass(slots=True)
class Picture:
    """What reading one file told: its size and the fingerprint of its pixels when it could be decoded."""

    path: str
    labels: tuple[int, ...]
    hw: tuple[int, int] | None = None
    pixels: str = ""
    reason: str = ""
    missing: bool = False
    brightest: int = 0  # of 16-bit pixels


@dataclass(slots=True)
class DatasetReport:
    """The state of one dataset.

    unreadable: path and reason; missing: paths; duplicates: groups of files that hold the same picture, pixel for pixel;
    contradictions: those of them whose labels differ; problems: one sentence each, empty for a sound set;
    notes: what was taken otherwise than as written, which is no problem.
    fingerprints: of each picture's pixels, by its path.
    """

    name: str
    classes: list[str]
    class_counts: list[int]
    total: int
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    duplicates: list[list[str]] = field(default_factory=list)
    contradictions: list[list[str]] = field(default_factory=list)
    smallest_hw: tuple[int, int] | None = None
    largest_hw: tuple[int, int] | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fingerprints: dict[str, str] = field(default_factory=dict)

    def render(self) -> list[str]:
        """The report as lines of text."""
        lines = [f"{self.name}: {counted(self.total, 'picture')}, {counted(len(self.classes), 'class')}"]
        width = max((len(name) for name in self.classes), default=0)
        lines += [f"  {name:<{width}}  {count:>7}" for name, count in zip(self.classes, self.class_counts)]
        if self.smallest_hw and self.largest_hw:
            low, high = ("x".join(map(str, hw)) for hw in (self.smallest_hw, self.largest_hw))
            lines.append(f"  size (height x width): {low if low == high else f'{low} to {high}'}")
        lines += [f"  - {note}" for note in self.notes]
        lines += [f"  ! {problem}" for problem in self.problems] or ["  no problems"]
        return lines


def check_dataset(dataset: ImageDataset, name: str, judges: bool = False, bit_depth: int = 16) -> DatasetReport:
    """Decode and fingerprint every picture of a dataset, by threads.

    judges: whether models are judged by it, and not made from it. bit_depth: of its 16-bit pictures, by the config.
    """
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        pictures = list(pool.map(lambda index: _look_at(dataset, index), range(len(dataset))))
    report = DatasetReport(name, list(dataset.classes), dataset.class_counts(), len(pictures))
    report.missing = [p.path for p in pictures if p.missing]
    report.unreadable = [(p.path, p.reason) for p in pictures if p.reason and not p.missing]
    sizes = sorted((p.hw for p in pictures if p.hw), key=lambda hw: hw[0] * hw[1])
    if sizes:
        report.smallest_hw, report.largest_hw = sizes[0], sizes[-1]
    report.fingerprints = {p.path: p.pixels for p in pictures if p.pixels}
    once = list({p.path: p for p in pictures}.values()) if dataset.repeats else pictures
    for twins in _identical(once):
        report.duplicates.append([p.path for p in twins])
        if len({p.labels for p in twins}) > 1:
            report.contradictions.append([p.path for p in twins])
    report.problems = _problems(report, dataset.judges_without if judges else dataset.learns_without)
    report.problems += dataset.census.omissions()
    deepest = max(pictures, key=lambda p: p.brightest, default=None)
    if (
        deepest is not None
        and deepest.brightest
        and (wrong := describe_depth(deepest.brightest, deepest.path, bit_depth))
    ):
        report.problems.append(wrong)
    report.notes = dataset.census.adjustments()
    return report


def _look_at(dataset: ImageDataset, index: int) -> Picture:
    record = dataset.records[index]
    picture = Picture(record.path, record.labels)
    try:
        with decoding_budget.shared():
            decoded = decode_all_bits(read_file(record.path), record.path)
            picture.pixels = content.of_pixels(decoded)
            if decoded.dtype == np.uint16:
                picture.brightest = max(1, int(decoded.max()))
            picture.hw = to_uint8(decoded, record.path).shape[:2]
            picture.reason = dataset.picture_problem(index, picture.hw)
    except DataError as error:
        picture.missing = not Path(record.path).exists()
        picture.reason = str(error).removeprefix(f"{record.path}: ")
    return picture


def _identical(pictures: Sequence[Picture]) -> list[list[Picture]]:
    by_pixels: dict[str, list[Picture]] = {}
    for picture in pictures:
        if picture.pixels:
            by_pixels.setdefault(picture.pixels, []).append(picture)
    return [twins for twins in by_pixels.values() if len(twins) > 1]


def _problems(report: DatasetReport, learns_without: Sequence[str]) -> list[str]:
    problems = [f"unreadable: {path}: {reason}" for path, reason in report.unreadable]
    problems += [f"missing: {path}" for path in report.missing]
    counts = zip(report.classes, report.class_counts, strict=True)
    empty = [name for name, count in counts if count == 0 and name not in learns_without]
    if empty and report.total and any(report.class_counts):
        problems.append(f"classes without a picture: {some(empty)}")
    problems += [f"same picture with different labels: {' = '.join(paths)}" for paths in report.contradictions]
    agreeing = [paths for paths in report.duplicates if paths not in report.contradictions]
    problems += [f"same picture more than once: {' = '.join(paths)}" for paths in agreeing]
    return problems


def cross_split_duplicates(reports: Sequence[DatasetReport], allowed: Set[str] = frozenset()) -> list[str]:
    """What the datasets of a run have in common and must not: pictures that are the same, pixel for pixel.

    A picture that was trained on says nothing when it is evaluated. The same path in two datasets counts as well.
    One sentence a picture, and one alone where all pictures of a dataset are in another.
    allowed: paths that the first of them names and does not teach by; the same file may be in another one.
    """
    problems = []
    for i, first in enumerate(reports):
        known = {pixels: path for path, pixels in first.fingerprints.items()}
        for second in reports[i + 1 :]:
            shared = [
                (known[pixels], path)
                for path, pixels in second.fingerprints.items()
                if pixels in known
                and not (known[pixels] in allowed and os.path.realpath(known[pixels]) == os.path.realpath(path))
            ]
            if shared and len(shared) == len(second.fingerprints):
                many = of_number(
                    len(shared),
                    f"the one picture of {second.name} is",
                    f"all {len(shared)} pictures of {second.name} are",
                )
                problems.append(f"{many} in {first.name}")
            else:
                problems += [f"in {first.name} and in {second.name}: {one} = {other}" for one, other in shared]
    return problems
