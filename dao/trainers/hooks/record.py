"""Curves: the numbers of a run to the loggers a config names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loguru import logger

from dao.processes import dist
from dao.register import Registers, to_plain
from dao.trainers.hooks.base import Hook

if TYPE_CHECKING:
    from dao.trainers.trainval import TrainVal

DEFAULT_LOGGERS: list[dict[str, Any]] = [{"type": "JsonLines"}, {"type": "TensorBoard"}]


@Registers.hooks.register()
class Record(Hook):
    """Hand training scalars (when a line is logged) and validation metrics to every logger of the config."""

    def __init__(self) -> None:
        self.loggers: list[Any] = []

    def before_train(self, trainer: TrainVal) -> None:
        if not dist.is_main():
            return
        sections = to_plain(trainer.config.get("loggers", DEFAULT_LOGGERS))
        for i, section in enumerate(sections):
            try:
                sink = Registers.loggers.build(section, f"loggers.{i}", run_dir=trainer.run_dir)
            except OSError as error:  # a curve is not worth a run
                logger.warning("{} records nothing: {}", section["type"], error)
                continue
            self.loggers.append(sink)

    def after_iter(self, trainer: TrainVal) -> None:
        if trainer.scalars:
            self.write(trainer, trainer.scalars)
            trainer.scalars = {}

    def after_epoch(self, trainer: TrainVal) -> None:
        if trainer.metrics_epoch == trainer.epoch:
            self.write(trainer, {f"val/{name}": value for name, value in trainer.metrics.items()})

    def write(self, trainer: TrainVal, values: dict[str, float]) -> None:
        """Send values to every logger, at the present iteration."""
        for sink in list(self.loggers):
            try:
                sink.scalars(values, step=trainer.global_iter + 1, epoch=trainer.epoch + 1)
            except OSError as error:
                logger.warning("{} stops recording: {}", type(sink).__name__, error)
                self.loggers.remove(sink)

    def after_train(self, trainer: TrainVal) -> None:
        for sink in self.loggers:
            try:
                sink.close()
            except OSError as error:
                logger.warning("{} was not written to its end: {}", type(sink).__name__, error)
