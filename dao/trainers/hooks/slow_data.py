"""Says when the network waits for its pictures, and what to raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loguru import logger

from dao.processes.cores import usable_cores
from dao.register import Registers
from dao.trainers.hooks.base import Hook

if TYPE_CHECKING:
    from dao.trainers.trainval import TrainVal


@Registers.hooks.register()
class SlowData(Hook):
    """Warn once, after the first epoch in which more than ``share`` of the time went by waiting for pictures.

    Epochs of fewer than ``least`` iterations tell nothing, nor does an epoch's first iteration, which fills the queue.
    """

    def __init__(self, share: float = 0.5, least: int = 10) -> None:
        self.share, self.least, self.said = share, least, False
        self.data = self.whole = 0.0
        self.count = 0

    def before_epoch(self, trainer: TrainVal) -> None:
        self.data = self.whole = 0.0
        self.count = -1

    def after_iter(self, trainer: TrainVal) -> None:
        self.count += 1
        if self.count:
            self.data += trainer.data_seconds
            self.whole += trainer.iter_seconds

    def after_epoch(self, trainer: TrainVal) -> None:
        if self.said or self.count < self.least or self.data <= self.share * self.whole:
            return
        self.said = True
        logger.warning(
            "waiting for pictures takes {:.0%} of the time ({:.0f} of {:.0f} ms an iteration): {}",
            self.data / self.whole, 1000 * self.data / self.count, 1000 * self.whole / self.count,
            advice(trainer.loader.num_workers, usable_cores(), trainer.loader.cached),
        )  # fmt: skip


def advice(num_workers: int, cores: int, cached: bool) -> str:
    """Which settings help.

    >>> advice(0, 8, True)
    'raise dataloader.kwargs.num_workers (now 0, with 8 cores), or make the pictures smaller on disk'
    """
    ways = []
    if num_workers < cores:
        ways.append(f"raise dataloader.kwargs.num_workers (now {num_workers}, with {cores} cores)")
    if not cached:
        ways.append("set dataloader.kwargs.cache (keeps decoded pictures in memory)")
    return ", or ".join([*ways, "make the pictures smaller on disk"])
