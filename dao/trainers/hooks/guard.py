"""Stops a run whose loss is no number any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from dao.errors import RunError
from dao.register import Registers
from dao.trainers.hooks.base import Hook

if TYPE_CHECKING:
    from dao.trainers.trainval import TrainVal


@Registers.hooks.register()
class NonFiniteGuard(Hook):
    """Stop at a NaN or infinite loss, naming the batch's files.

    On a CPU every iteration is looked at. A GPU would have to wait for each answer, so there the losses are kept and
    looked at together every ``interval`` iterations, and before anything is saved.
    """

    limits = {"interval": (1, float("inf"))}

    def __init__(self, interval: int = 20) -> None:
        self.interval = interval
        self.pending: list[tuple[int, int, dict[str, torch.Tensor], list[str]]] = []

    def after_iter(self, trainer: TrainVal) -> None:
        if not trainer.losses:
            return
        losses = {name: value.detach() for name, value in trainer.losses.items()}
        self.pending.append((trainer.epoch, trainer.iter, losses, trainer.batch.paths))
        if trainer.device.type == "cpu" or len(self.pending) >= self.interval:
            self.check()

    def after_epoch(self, trainer: TrainVal) -> None:
        self.check()

    def after_train(self, trainer: TrainVal) -> None:
        if trainer.stopping:  # an interrupted run is about to be saved
            self.check()

    def check(self) -> None:
        """Raises RunError for the first loss that is not finite."""
        pending, self.pending = self.pending, []
        if not pending:
            return
        if torch.stack([losses["loss"].float() for _, _, losses, _ in pending]).isfinite().all():
            return
        for epoch, i, losses, paths in pending:
            if not losses["loss"].isfinite():
                values = ", ".join(f"{name} {value.item():.4g}" for name, value in losses.items())
                files = "\n".join(f"  {path}" for path in paths)
                raise RunError(
                    f"the loss is not finite in epoch {epoch + 1}, iteration {i + 1}: {values}. "
                    "Usual causes: the learning rate is too high, a label out of range, a picture without content; "
                    f"clip_norm or a lower lr helps. The checkpoint before it is kept. The batch:\n{files}"
                )
