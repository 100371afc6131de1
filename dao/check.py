"""``--check``: everything that can be known to be wrong before hours are spent, and not one step of training."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch

from dao.config import Raw
from dao.dataloaders.check import DatasetReport, check_dataset, cross_split_duplicates
from dao.errors import DataError
from dao.preprocess import Preprocess
from dao.register import to_plain
from dao.tasks import build
from dao.tasks.base import Task
from dao.trainers.apart import judged_by_its_own, refuse_leaks
from dao.trainers.evaluation import to_device

CALIBRATION, EVALUATION = "calibration.dataloader.dataset", "evaluator.dataloader.dataset"


def check(raw: Raw, device: str) -> int:
    """Read every picture and label of every set once, try one batch, and print what was found.

    Returns 0 for a sound set-up; raises DataError with the number of problems otherwise, after listing them.
    """
    reports: list[DatasetReport] = []
    datasets: dict[str, Any] = {}
    classes: list[str] | None = None
    for where, section in dataset_sections(raw).items():
        dataset = datasets[where] = build.build_dataset(section, where, classes)
        classes = classes or list(dataset.classes) or None
        reports.append(check_dataset(dataset, where))
        say("\n".join(reports[-1].render()))
    shared = cross_split_duplicates(reports, held_out(datasets.get("dataloader.dataset")))
    if shared:
        say("in more than one split, byte for byte:\n" + "\n".join(f"  ! {line}" for line in shared))
    if "dataloader" in raw and "model" in raw:
        say(dry_run(raw, datasets, torch.device(device)))
    count = sum(len(report.problems) for report in reports) + len(shared)
    if count:
        raise DataError(
            f"--check found {count} problem{'s' if count != 1 else ''}, listed above; nothing was trained or changed"
        )
    say("no problems found; nothing was trained")
    return 0


def dataset_sections(raw: Raw) -> dict[str, Any]:
    """Every dataset a config names, by its place in the file."""
    places = ("dataloader.dataset", CALIBRATION, EVALUATION, "images")
    found: dict[str, Any] = {}
    for place in places:
        node: Any = raw
        for key in place.split("."):
            node = node.get(key) if isinstance(node, dict) else None
        if node is not None:
            found[place] = node
    return found


def held_out(dataset: Any) -> set[str]:
    """Paths of a training set's pictures that teach nothing: what judges by them is said, and not refused."""
    records = dataset.records if dataset is not None else ()
    return {r.path for r in records if getattr(r, "held_out", False)} - {
        r.path for r in records if not getattr(r, "held_out", False)
    }


def dry_run(raw: Raw, datasets: Mapping[str, Any], device: torch.device) -> str:
    """One batch through loader, model, loss and backward; says how large it was and what the loss came to."""
    dataset = datasets["dataloader.dataset"]
    preprocess = Preprocess(**to_plain(raw.get("preprocess", {})))
    section = to_plain(raw["dataloader"])
    section["kwargs"] = {**section.get("kwargs", {}), "num_workers": 0, "cache": False}
    loader = build.build_loader(section, "dataloader", dataset, preprocess, True, 0)
    batch = to_device(next(iter(loader)), device)
    task_class = build.task_class(raw["type"])
    model = build.build_model(raw, dataset.classes, preprocess.in_channels).to(device)
    task = task_class(
        model,
        preprocess.to(device),
        dataset.classes,
        loss=build.build_loss(raw, dataset, device),
        facts=task_class.facts_of(dataset),
    )
    task.prepare(dataset)
    compare_sets(task, datasets)
    losses = task.training_step(batch)
    if "loss" in losses:
        losses["loss"].backward()
    values = ", ".join(f"{name} {value.item():.4f}" for name, value in losses.items())
    return f"one batch: {len(batch)} pictures, input {tuple(batch.images.shape)}, {values or 'collected'}"


def compare_sets(task: Task, datasets: Mapping[str, Any]) -> None:
    """What a run would say, or refuse, of pictures that are in two of its sets."""
    dataset, calibration, evaluation = (
        datasets.get(place) for place in ("dataloader.dataset", CALIBRATION, EVALUATION)
    )
    refuse_leaks(dataset, calibration, evaluation)
    kept = task.set_apart(dataset, calibrated=calibration is not None)
    if note := judged_by_its_own(kept if calibration is None else None, evaluation):
        say(f"note: {note}")


def say(text: str) -> None:
    """To stdout: it is what was asked for, not a log line."""
    sys.stdout.write(text + "\n")
