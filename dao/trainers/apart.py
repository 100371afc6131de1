"""Which pictures may be in two of a run's sets. The same file is the same picture, by whatever path it is reached."""

from __future__ import annotations

import os
from typing import Any

from dao.errors import ConfigError, Problem
from dao.words.counted import of_number


def shared_paths(first: Any, second: Any) -> list[str]:
    """Paths of the second dataset's pictures that the first one has as well."""
    known = {os.path.realpath(record.path) for record in first.records}
    return [record.path for record in second.records if os.path.realpath(record.path) in known]


def refuse_leaks(training: Any, calibration: Any | None, evaluation: Any | None) -> None:
    """A threshold fitted to pictures that taught the model, or that judge it, would look better than it is.

    All are datasets; of the training set those count that are not held out. Raises ConfigError.
    """
    if calibration is None:
        return
    own = {os.path.realpath(r.path) for r in training.records if not getattr(r, "held_out", False)}
    taught = [record.path for record in calibration.records if os.path.realpath(record.path) in own]
    judging = shared_paths(calibration, evaluation) if evaluation is not None else []
    for paths, does, do, what in (
        (taught, "teaches", "teach", "the model"),
        (judging, "is", "are", "in the evaluator's set"),
    ):
        if paths:
            message = f"{len(paths)} of its pictures {of_number(len(paths), does, do)} {what} as well, e.g. {paths[0]}"
            raise ConfigError(Problem("calibration.dataloader.dataset", message))


def refuse_judges(calibration: Any, evaluation: Any) -> None:
    """`refuse_leaks` for a model whose training set is not at hand. Raises ConfigError."""
    if judging := shared_paths(calibration, evaluation):
        are = of_number(len(judging), "is", "are")
        message = f"{len(judging)} of its pictures {are} in the evaluator's set as well, e.g. {judging[0]}"
        raise ConfigError(Problem("calibration.dataloader.dataset", message))


def judged_by_its_own(kept: Any | None, evaluation: Any | None) -> str:
    """What is to be said where the evaluator's pictures are those that thresholds come from; "" where they are not.

    kept: the dataset that they come from; None where that is a calibration set.
    """
    shared = shared_paths(kept, evaluation) if kept is not None and evaluation is not None else []
    if not shared:
        return ""
    total, are = len(evaluation.records), of_number(len(shared), "is the one", "are the ones")  # type: ignore[union-attr]
    return (
        f"{len(shared)} of the evaluator's {total} pictures {are} that the threshold comes from, e.g. "
        f"{shared[0]}: false alarms will look as rare as was asked for, whatever they are on other parts. Name test "
        "pictures in evaluator.dataloader, or others for the threshold in calibration.dataloader"
    )
