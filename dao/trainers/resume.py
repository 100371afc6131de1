"""What a training run must remember to go on, and how it is put back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from dao.errors import CheckpointError
from dao.tasks import build
from dao.trainers.base import plain
from dao.utils import checkpoint, dist, run_folder

if TYPE_CHECKING:
    from dao.trainers.trainval import TrainVal


def content_of(trainer: TrainVal) -> dict[str, Any]:
    """All that is needed to go on, or to answer, as plain values and tensors; see `dao.utils.checkpoint`."""
    done = trainer.iter + 1 >= trainer.iters_per_epoch
    return {
        "model": trainer.task.model.state_dict(),
        "ema": trainer.ema_model.state_dict() if trainer.ema_model is not None else None,
        "update": trainer.update.state_dict(),
        "scheduler": trainer.scheduler.state_dict() if trainer.scheduler is not None else None,
        "hooks": {type(hook).__name__: hook.state_dict() for hook in trainer.hooks},
        "epoch": trainer.epoch + 1 if done else trainer.epoch,
        "iter": 0 if done else trainer.iter + 1,
        "iters_per_epoch": trainer.iters_per_epoch,
        "world_size": dist.world_size(),
        "seed": trainer.seed,
        "metrics": trainer.metrics,
        "best": trainer.best,
        "config": json.dumps(plain(trainer.config)),
        "card": trainer.task.card().to_json(),
        "versions": dict(run_folder.package_versions()),
    }


def restore(trainer: TrainVal, path: Path, content: dict[str, Any]) -> None:
    """Put a checkpoint's state into a trainer that is built. Raises CheckpointError when it is of something else."""
    card = build.card_of(content)
    if card.classes != trainer.dataset.classes:
        raise CheckpointError(
            f"{path} was trained on the classes {card.classes}, the data now has {trainer.dataset.classes}; "
            "to start from its weights alone use trainer.kwargs.ckpt"
        )
    try:
        trainer.task.model.load_state_dict(content["model"])
        trainer.update.load_state_dict(content["update"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is of another model or optimizer: {str(error).splitlines()[0]}") from None
    if trainer.scheduler is not None and content["scheduler"]:
        trainer.scheduler.load_state_dict(content["scheduler"])
    for hook in trainer.hooks:
        hook.load_state_dict(content["hooks"].get(type(hook).__name__, {}))
    trainer.task.facts |= {name: card.facts[name] for name in trainer.task.learned_facts if name in card.facts}
    trainer.start_epoch, trainer.start_iter = content["epoch"], content["iter"]
    if trainer.task.passes:  # what it had collected is not in the checkpoint
        trainer.start_iter = 0
    trainer.metrics, trainer.best = dict(content["metrics"]), dict(content["best"])
    if trainer.start_iter and content["iters_per_epoch"] != trainer.iters_per_epoch:
        logger.warning("an epoch had {} iterations and now has {}: epoch {} starts from its beginning",
                       content["iters_per_epoch"], trainer.iters_per_epoch, trainer.start_epoch + 1)  # fmt: skip
        trainer.start_iter = 0
    logger.info("resumed from {}: epoch {}, iteration {}", path, trainer.start_epoch + 1, trainer.start_iter + 1)
    if trainer.start_epoch >= trainer.max_epochs:
        logger.warning("all {} epochs are done; raise trainer.kwargs.max_epochs to train on", trainer.max_epochs)


def fine_tune(trainer: TrainVal, path: Path) -> None:
    """Start from what fits of another checkpoint's weights, and say what did not."""
    weights = checkpoint.load_weights(path)
    report = checkpoint.fit(trainer.task.model, weights)
    if not report.loaded:
        raise CheckpointError(f"{path} is of another model: {report.render()}")
    logger.info("fine-tuning from {}: {}", path, report.render())
