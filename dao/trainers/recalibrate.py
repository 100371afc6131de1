"""Thresholds found anew for a model that is trained, and where they are kept. The file they were taken from is never touched."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loguru import logger

from dao.answers.operating import SET_BY
from dao.checkpoints import checkpoint
from dao.errors import ConfigError, Problem
from dao.files import run_folder
from dao.register import Registers
from dao.structures import Batch
from dao.tasks.base import Task


def refuse_contradiction(config: Any, facts: Mapping[str, Any]) -> None:
    """Raise ConfigError where a threshold is to be found and is given at the same time, or no pictures say what it is."""
    if "dataloader" not in config.calibration or "dataset" not in config.calibration.dataloader:
        message = (
            "the section is missing: thresholds come from pictures that did not train the model and do not judge it"
        )
        raise ConfigError(Problem("calibration.dataloader.dataset", message))
    both = [name for name in ("threshold", "score", "pixel_threshold") if name in facts]
    if both:
        message = "is given, and calibration is to find it: leave one of them out"
        raise ConfigError([Problem(f"evaluator.kwargs.{name}", message) for name in both])


def recalibrate(task: Any, batches: Iterable[Batch], evaluator: Any, config: Any) -> Any:
    """The task, or whatever answers as one, with the thresholds that the config's calibrator finds on those pictures."""
    rule = Registers.calibrators.build(config.calibration, "calibration")
    kind: type[Task] = getattr(task, "task_class", type(task))
    found = kind.recalibrated(task, rule, batches, evaluator)
    how = found.get("calibration", "")
    other = task.with_facts(
        {name: value for name, value in found.items() if name in task.facts or name != "calibration"}
    )
    for name, value in found.items():
        name = kind.aliases.get(name, name)
        if name in other.facts[SET_BY] and name != "calibration" and other.facts[name] != task.facts.get(name):
            other.facts[SET_BY][name] = f"calibrated: {how}"
        logger.debug("{} {}", name, value)
    logger.info("recalibrated by {}: {}", config.calibration.type, how)
    return other


def save(path: Path, task: Any) -> Path:
    """A copy of a checkpoint, or of its weights as safetensors, with the task's card, beside it under a name that is free."""
    target, number = path.with_name(f"{path.stem}-point{path.suffix}"), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.stem}-point-{number}{path.suffix}")
    if path.suffix == ".safetensors":
        from dao.exporters.safetensors import SafetensorsExporter

        SafetensorsExporter().export(task, target)
    else:
        content = {name: value for name, value in checkpoint.load(path).items() if name != "format"}
        checkpoint.save({**content, "card": task.card().to_json()}, target)
    logger.success("saved with its operating point: {}", target)
    return target


def write_card(task: Any, folder: Path) -> None:
    """The card that was judged by, readable, in the report's folder."""
    run_folder.write_json(folder / "card.json", json.loads(json.dumps(asdict(task.card()))))
