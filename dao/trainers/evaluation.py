"""One pass of an evaluator over a loader: shared by training's validation and the eval stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch

from dao.evaluators.base import Evaluator
from dao.structures import Batch
from dao.tasks.base import Task


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move what computes; in place."""
    batch.images = batch.images.to(device, non_blocking=True)
    if hasattr(batch.targets, "to"):  # what training takes; an evaluator's targets stay where they are
        batch.targets = batch.targets.to(device, non_blocking=True)
    return batch


def answering_as_counted(task: Task, evaluator: Evaluator) -> Task:
    """The task with those facts that the evaluator's settings decide, which knows them from then on.

    Raises ConfigError where the task has no such fact, or no such value can be set.
    """
    evaluator.model_facts = task.facts
    if evaluator.facts:
        task = task.with_facts(evaluator.facts, "evaluator.kwargs")
        evaluator.model_facts = task.facts
    return task


class Counted:
    """A loader of which someone sees every batch (to count unreadable pictures), as often as it is gone through."""

    def __init__(self, loader: Iterable[Batch], seen: Callable[[Batch], None]) -> None:
        self.loader, self.seen = loader, seen

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            self.seen(batch)
            yield batch


def evaluate(
    task: Task,
    loader: Iterable[Batch],
    evaluator: Evaluator,
    device: torch.device,
    seen: Callable[[Batch], None] = lambda batch: None,
) -> dict[str, float]:
    """Metrics of the task's current model over every picture of the loader, once, on all processes together.

    ``seen`` is called with every batch that was answered (to count what is unreadable or has no answer, to move a bar).
    """
    evaluator.reset()
    evaluator.model_facts = task.facts
    for batch in loader:
        predictions = task.predict_and_leave_out(to_device(batch, device))
        seen(batch)
        evaluator.update(predictions, batch)
    return evaluator.compute()
