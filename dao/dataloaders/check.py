"""Read every picture and every label of a dataset once, and say what is wrong. Source files are only ever read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from dao.dataloaders.datasets.base import ImageDataset, some
from dao.dataloaders.datasets.image_io import decode_image, read_bytes
from dao.errors import DataError


@dataclass(slots=True)
class Picture:
    """What reading one file told: its size when it could be decoded, its fingerprint when it could be read."""

    path: str
    labels: tuple[int, ...]
    hw: tuple[int, int] | None = None
    sha1: str = ""
    reason: str = ""
    missing: bool = False


@dataclass(slots=True)
class DatasetReport:
    """The state of one dataset.

    unreadable: path and reason; missing: paths; duplicates: groups of byte-identical files;
    contradictions: those of them whose labels differ; problems: one sentence each, empty for a sound set.
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
    fingerprints: dict[str, str] = field(default_factory=dict)  # path -> sha1

    def render(self) -> list[str]:
        """The report as lines of text."""
        lines = [f"{self.name}: {self.total} pictures, {len(self.classes)} classes"]
        width = max((len(name) for name in self.classes), default=0)
        lines += [f"  {name:<{width}}  {count:>7}" for name, count in zip(self.classes, self.class_counts)]
        if self.smallest_hw and self.largest_hw:
            low, high = ("x".join(map(str, hw)) for hw in (self.smallest_hw, self.largest_hw))
            lines.append(f"  size (height x width): {low if low == high else f'{low} to {high}'}")
        lines += [f"  ! {problem}" for problem in self.problems] or ["  no problems"]
        return lines


def check_dataset(dataset: ImageDataset, name: str) -> DatasetReport:
    """Decode and fingerprint every picture of a dataset, by threads."""
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        pictures = list(pool.map(lambda index: _look_at(dataset, index), range(len(dataset))))
    report = DatasetReport(name, list(dataset.classes), dataset.class_counts(), len(pictures))
    report.missing = [p.path for p in pictures if p.missing]
    report.unreadable = [(p.path, p.reason) for p in pictures if p.reason and not p.missing]
    sizes = sorted((p.hw for p in pictures if p.hw), key=lambda hw: hw[0] * hw[1])
    if sizes:
        report.smallest_hw, report.largest_hw = sizes[0], sizes[-1]
    report.fingerprints = {p.path: p.sha1 for p in pictures if p.sha1}
    for twins in _identical(pictures):
        report.duplicates.append([p.path for p in twins])
        if len({p.labels for p in twins}) > 1:
            report.contradictions.append([p.path for p in twins])
    report.problems = _problems(report, dataset.needs_every_class) + dataset.problems
    return report


def _look_at(dataset: ImageDataset, index: int) -> Picture:
    record = dataset.records[index]
    picture = Picture(record.path, record.labels)
    try:
        data = read_bytes(record.path)
        picture.sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        height, width = decode_image(data, record.path).shape[:2]
        picture.hw = (height, width)
        picture.reason = dataset.picture_problem(index, picture.hw)
    except DataError as error:
        picture.missing = not Path(record.path).exists()
        picture.reason = str(error).removeprefix(f"{record.path}: ")
    return picture


def _identical(pictures: Sequence[Picture]) -> list[list[Picture]]:
    by_sha1: dict[str, list[Picture]] = {}
    for picture in {picture.path: picture for picture in pictures}.values():  # a set may list one several times
        if picture.sha1:
            by_sha1.setdefault(picture.sha1, []).append(picture)
    return [twins for twins in by_sha1.values() if len(twins) > 1]


def _problems(report: DatasetReport, needs_every_class: bool) -> list[str]:
    problems = [f"unreadable: {path}: {reason}" for path, reason in report.unreadable]
    problems += [f"missing: {path}" for path in report.missing]
    empty = [name for name, count in zip(report.classes, report.class_counts) if count == 0]
    if empty and needs_every_class and report.total and any(report.class_counts):
        problems.append(f"classes without a picture: {some(empty)}")
    problems += [f"same file with different labels: {' = '.join(paths)}" for paths in report.contradictions]
    agreeing = [paths for paths in report.duplicates if paths not in report.contradictions]
    problems += [f"same file more than once: {' = '.join(paths)}" for paths in agreeing]
    return problems


def cross_split_duplicates(reports: Sequence[DatasetReport], allowed: Set[str] = frozenset()) -> list[str]:
    """One sentence for each file that lies, byte for byte, in more than one of the datasets.

    A picture that was trained on says nothing when it is evaluated. The same path in two datasets counts as well;
    datasets that are one and the same (an evaluation of the training set) are not compared.
    allowed: paths that the first of them names and does not teach by; the same file may be in another one.
    """
    problems = []
    for i, first in enumerate(reports):
        by_sha1 = {sha1: path for path, sha1 in first.fingerprints.items()}
        for second in reports[i + 1 :]:
            if second.fingerprints == first.fingerprints:
                continue
            for path, sha1 in second.fingerprints.items():
                same = sha1 in by_sha1 and os.path.realpath(by_sha1[sha1]) == os.path.realpath(path)
                if sha1 in by_sha1 and not (same and first is reports[0] and by_sha1[sha1] in allowed):
                    problems.append(f"in {first.name} and in {second.name}: {by_sha1[sha1]} = {path}")
    return problems
