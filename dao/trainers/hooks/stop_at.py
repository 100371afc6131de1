"""Stops a run at an iteration that was named beforehand, as a signal at that moment would."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from dao.register import Registers
from dao.trainers.hooks.base import Hook

if TYPE_CHECKING:
    from dao.trainers.trainval import TrainVal


@Registers.hooks.register()
class StopAt(Hook):
    """Save and leave after ``iteration`` iterations of the whole run, or at the end of the accumulation window it lies in.

    For trying out whether a run goes on as it should; `python main.py --verify-resume` does it for you.
    """

    limits = {"iteration": (1, float("inf"))}

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_iter(self, trainer: TrainVal) -> None:
        if trainer.global_iter + 1 >= self.iteration:
            trainer.signal = int(signal.SIGTERM)
