"""What a training run says of itself before its first iteration."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from loguru import logger

from dao.processes import dist
from dao.schedulers.base import in_epochs
from dao.trainers.base import kept
from dao.words.counted import counted

if TYPE_CHECKING:
    from dao.trainers.trainval import TrainVal


def describe(trainer: TrainVal) -> None:
    """The data, the model, the rates and how long augmentation is on; with --detail the layers and the whole config."""
    model = trainer.task.model
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    logger.info("{}", trainer.dataset.summary())
    logger.info(
        "{:.2f} M parameters, {:.2f} M of them trained, on {} with {}, {} an epoch",
        total / 1e6, trained / 1e6, trainer.device, counted(dist.world_size(), "process"),
        counted(trainer.iters_per_epoch, "iteration"),
    )  # fmt: skip
    if trainer.scheduler is not None:
        logger.info("rate: {}", rates(trainer))
    if window := window_of(trainer):
        logger.info("{}", window)
    if tail := tail_of(trainer):
        logger.info("{}", tail)
    if trainer.options.detail and dist.is_main():
        from dao.trainers.summary import model_summary

        logger.info("\n{}", model_summary(model, trainer.preprocess))
        logger.info("resolved config:\n{}", json.dumps(kept(trainer.config), indent=2))


def rates(trainer: TrainVal) -> str:
    """The course of the learning rate in a line: of the group that moves fastest, where layers have rates of their own."""
    bases = [group["initial_lr"] for group in trainer.optimizer.param_groups]
    slowest = (
        f" (the slowest of {len(bases)} groups: x {min(bases) / max(bases):.2g})" if min(bases) < max(bases) else ""
    )
    return trainer.scheduler.describe(max(bases)) + slowest


def window_of(trainer: TrainVal) -> str:
    """How many iterations make an update, and what that may cost; "" where each makes one, or nothing is passed twice."""
    if trainer.window is None or trainer.task.loss is None:
        return ""
    return (
        f"{trainer.accumulate} iterations make an update; where the loss counts pixels, positives or weights they pass forward "
        "twice (some half of the time more; trainer.kwargs.whole_windows: false for a mean of means)"
    )


def tail_of(trainer: TrainVal) -> str:
    """For how long augmentation is off at the end, and that this is less than was set, where it is; "" for a whole run."""
    kept, wanted = trainer.no_aug_epochs, trainer.wanted_no_aug_epochs
    cut = (
        f" (no_aug_epochs is {wanted}; of {trainer.max_epochs} epochs a fifth at most go without)"
        if kept < wanted
        else ""
    )
    if not kept:
        return f"augmentation stays on in every epoch{cut}" if cut else ""
    return f"augmentation is off in the last {in_epochs(kept)}{cut}"
