"""Accumulation that is one large batch: what the losses divide by is counted over the whole window, as over all processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dao.losses.base import Loss
from dao.losses.parts import Window
from dao.structures import Batch
from dao.trainers.update import is_update_iter

if TYPE_CHECKING:
    from dao.trainers.trainval import TrainVal


def must_measure(loss: nn.Module | None, targets: Any) -> bool:
    """Whether some loss divides by what differs from batch to batch: labelled pixels, positives, class weights."""
    return any(isinstance(module, Loss) and not module.alike(targets) for module in (loss.modules() if loss else ()))


class WholeWindow:
    """Measures each iteration of a window, and learns from all of them in its last one.

    It costs a second pass forward, without gradient, and the memory of the window's pictures.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.window, self.batches, self.dice = Window(), list[Batch](), list[list[Tensor]]()

    def wants(self, trainer: TrainVal) -> bool:
        """Whether this iteration is to be measured: it opens a window that must be, or goes on with one."""
        return bool(self.batches) or must_measure(trainer.task.loss, trainer.batch.targets)

    def train_one_iter(self, trainer: TrainVal) -> bool:
        """One iteration; the losses shown are those of its own batch. True when the weights have changed."""
        self.dice.append(dice_of(trainer.device))
        self.batches.append(trainer.batch)
        trainer.losses = self._measure(trainer)
        if not is_update_iter(trainer.iter, trainer.iters_per_epoch, trainer.accumulate):
            return False
        updated = self._learn(trainer)
        self._begin()
        return updated

    @torch.no_grad()
    def _measure(self, trainer: TrainVal) -> dict[str, Tensor]:
        """Its statistics stay as they are: the batch norms see each batch again, and count it then."""
        buffers = [(buffer, buffer.clone()) for buffer in trainer.task.model.buffers()]
        with trainer.update.autocast(), self.window.measuring():
            losses = trainer.task.training_step(trainer.batch)
        for buffer, before in buffers:
            buffer.copy_(before)
        return losses

    def _learn(self, trainer: TrainVal) -> bool:
        first, updated = trainer.iter - len(self.batches) + 1, False
        for part, (batch, dice) in enumerate(zip(self.batches, self.dice, strict=True)):
            throw_again(dice, trainer.device)
            with trainer.update.sync(first + part, trainer.iters_per_epoch):
                with trainer.update.autocast(), self.window.learning(part):
                    loss = trainer.task.training_step(batch).get("loss")
                updated = trainer.update(loss, first + part, trainer.iters_per_epoch)
        return updated


def dice_of(device: torch.device) -> list[Tensor]:
    """The state of the random numbers that dropout and its like draw from."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def throw_again(states: list[Tensor], device: torch.device) -> None:
    """Random numbers as they were."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
