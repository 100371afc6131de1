"""``--check``: everything that can be known to be wrong before hours are spent, and not one step of training."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch

from dao.config.reading import Raw
from dao.config.secret_values import hidden
from dao.dataloaders.check import DatasetReport, check_dataset, cross_split_duplicates
from dao.dataloaders.inherited import left_over
from dao.errors import DataError
from dao.tasks import build
from dao.trainers import rehearsal
from dao.words.counted import counted
from dao.words.printable import printable

# what trains, what finds thresholds and what judges must not share pictures; a demo or a proof may show any
KEPT_APART = ("dataloader.dataset", "calibration.dataloader.dataset", "evaluator.dataloader.dataset")
SHOWN = 20


def check(raw: Raw, device: str) -> int:
    """Read every picture and label of every set once, try one batch, and print what was found.

    Returns 0 for a sound set-up; raises DataError with the number of problems otherwise, after listing them.
    """
    reports: dict[str, DatasetReport] = {}
    classes: list[str] | None = None
    set_apart: set[str] = set()
    sections = dataset_sections(raw)
    strange = inherited(sections)
    if strange:  # said before they are read: they may not fit the classes
        say("\n".join(f"  ! {note}" for note in strange))
    for where, section in sections.items():
        dataset = build.build_dataset(section, where, classes, announce=False)
        classes = classes or list(dataset.classes) or None
        set_apart = set_apart or held_out(dataset)
        depth = raw.get("preprocess", {}).get("bit_depth", 16)
        reports[where] = check_dataset(dataset, where, judges=where.startswith("evaluator."), bit_depth=depth)
        say("\n".join(reports[where].render()))
    shared = cross_split_duplicates([r for where, r in reports.items() if where in KEPT_APART], set_apart)
    if shared:
        more = [f"  ! ... and {len(shared) - SHOWN} more"] if len(shared) > SHOWN else []
        say("\n".join(["the same pictures on both sides:", *(f"  ! {line}" for line in shared[:SHOWN]), *more]))
    tried = rehearsal.rehearse(raw, torch.device(device))
    if tried:
        say(tried)
    count = sum(len(report.problems) for report in reports.values()) + len(shared) + len(strange)
    if count:
        raise DataError(f"--check found {counted(count, 'problem')}, listed above; nothing was trained or changed")
    say("no problems found; nothing was trained")
    return 0


def dataset_sections(raw: Raw) -> dict[str, Any]:
    """Every dataset a config names, by its place in the file."""
    found: dict[str, Any] = {}
    for place in (*KEPT_APART, "images"):
        node: Any = raw
        for key in place.split("."):
            node = node.get(key) if isinstance(node, dict) else None
        if node is not None:
            found[place] = node
    return found


def inherited(sections: Mapping[str, Any]) -> list[str]:
    """What is to be said of sets that came with an inherited config and are not the user's own."""
    training = sections.get(KEPT_APART[0]) or {}
    judging = [where for where in KEPT_APART[1:] if where in sections] if training else []
    return [note for where in judging if (note := left_over(training, sections[where], where))]


def held_out(dataset: Any) -> set[str]:
    """Paths of a training set's pictures that teach nothing: what judges by them is said, and not refused."""
    kept = {record.path for record in dataset.records if getattr(record, "held_out", False)}
    return kept - {record.path for record in dataset.records if not getattr(record, "held_out", False)}


def say(text: str) -> None:
    """To stdout: it is what was asked for, not a log line."""
    sys.stdout.write(printable(hidden(text)) + "\n")
