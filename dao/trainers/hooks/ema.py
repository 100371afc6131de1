"""An average of the weights, which answers better than the last ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from dao.register import Registers
from dao.trainers.hooks.base import Hook

if TYPE_CHECKING:
    from dao.trainers.trainval import TrainVal


def ema_decay(updates: int, decay: float, warmup: int) -> float:
    """Decay at an update (from 0): rises as 1 - exp(-n / warmup), so that early, poor weights are soon forgotten.

    >>> ema_decay(0, 0.999, 0)
    0.999
    """
    import math

    return decay * (1 - math.exp(-(updates + 1) / warmup)) if warmup > 0 else decay


@Registers.hooks.register()
class Ema(Hook):
    """Exponential moving average of weights and batch-norm statistics, after every weight update.

    decay: of the average in the long run; warmup: updates over which it rises to that.
    """

    limits = {"decay": (0, 1), "warmup": (0, float("inf"))}

    def __init__(self, decay: float = 0.9998, warmup: int = 500) -> None:
        self.decay, self.warmup, self.updates = decay, warmup, 0

    @torch.no_grad()
    def after_iter(self, trainer: TrainVal) -> None:
        if not trainer.updated:
            return
        decay = ema_decay(self.updates, self.decay, self.warmup)
        self.updates += 1
        own = tuple(getattr(trainer.task.model, "set_by_calibration", ()))
        copied = tuple(getattr(trainer.task.model, "not_averaged", ()))
        average = trainer.ema_model.state_dict()
        current = trainer.task.model.state_dict()
        current = {k: v for k, v in current.items() if k in average and not k.startswith(own)}
        floats = [name for name, value in current.items() if value.is_floating_point() and not name.startswith(copied)]
        torch._foreach_lerp_([average[n] for n in floats], [current[n] for n in floats], 1 - decay)
        for name in current.keys() - set(floats):  # counters, index buffers
            average[name].copy_(current[name])

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state.get("updates", 0)
