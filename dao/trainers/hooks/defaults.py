"""The hooks every training run has, in order, and how the user's join them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dao.register import Registers
from dao.trainers.hooks.base import Hook
from dao.trainers.hooks.checkpoint import BestCheckpoint, LatestCheckpoint, SettledCheckpoint
from dao.trainers.hooks.console import Console
from dao.trainers.hooks.ema import Ema
from dao.trainers.hooks.evaluate import Evaluate, FinalReport
from dao.trainers.hooks.guard import NonFiniteGuard
from dao.trainers.hooks.pictures import ChangedPictures
from dao.trainers.hooks.record import Record
from dao.trainers.hooks.slow_data import SlowData

if TYPE_CHECKING:
    from dao.trainers.trainval import TrainVal


def for_training(trainer: TrainVal, sections: Sequence[Mapping[str, Any]]) -> list[Hook]:
    """Shipped hooks first, the user's after; one of a shipped type takes that one's place, with its own settings."""
    hooks: list[Hook] = [
        NonFiniteGuard(),
        Console(),
        SlowData(),
        LatestCheckpoint(trainer.save_interval, trainer.keep, trainer.save_minutes, trainer.save_iters),
        Evaluate(trainer.eval_interval),
        ChangedPictures(),
        BestCheckpoint(),
        Record(),
        *([FinalReport()] if trainer.test_after_train else []),
    ]
    if trainer.ema:
        hooks.insert(0, Ema())
    for place, section in enumerate(sections):
        hook = Registers.hooks.build(section, f"hooks.{place}")
        hook.where = f"hooks.{place}"
        same = [i for i, shipped in enumerate(hooks) if type(shipped) is type(hook)]
        if same:
            hooks[same[0]] = hook
        else:
            hooks.append(hook)
    return [*hooks, SettledCheckpoint()]
