"""Pictures that do not stay as they were while a run lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loguru import logger
from torch import Tensor

from dao.dataloaders import fingerprint
from dao.processes import dist
from dao.register import Registers
from dao.trainers.hooks.base import Hook
from dao.words.counted import counted

if TYPE_CHECKING:
    from dao.trainers.trainval import TrainVal


SHOWN = 5  # pictures that a warning names


@Registers.hooks.register()
class ChangedPictures(Hook):
    """Name validations that lack pictures which those before them had, as their metrics are of two sets; and say at the
    end which sets were changed while the run lasted: pictures that went, or have other sizes or dates."""

    def __init__(self) -> None:
        self.judging: Tensor | None = None
        self.left_out: list[str] | None = None  # of the validation before

    def after_epoch(self, trainer: TrainVal) -> None:
        if trainer.eval_loader is None or trainer.metrics_epoch != trainer.epoch:
            return
        trainer.eval_bad.gather()
        now, before = sorted(trainer.eval_bad.reasons), self.left_out
        self.left_out = now
        if before is not None and now != before:
            gone = sorted(set(now) - set(before))
            best = f", the best one (epoch {trainer.best['epoch']}) among them" if trainer.best else ""
            logger.warning(
                "epoch {} was validated without {} that the epochs before it were judged by{}: {}. What is compared "
                "from here on, the best as well, are numbers of different sets",
                trainer.epoch + 1, counted(len(gone), "picture"), best, ", ".join(gone[:SHOWN]),
            )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return {"left_out": self.left_out}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.left_out = state.get("left_out")

    def before_train(self, trainer: TrainVal) -> None:
        if dist.is_main() and trainer.eval_loader is not None:
            self.judging = fingerprint.fingerprint(trainer.eval_loader.dataset.records)

    def after_train(self, trainer: TrainVal) -> None:
        if not dist.is_main():
            return
        sets = [("training", trainer.data_state, trainer.dataset)]
        if trainer.eval_loader is not None:
            sets.append(("validation", self.judging, trainer.eval_loader.dataset))
        for name, before, dataset in sets:
            found = before is not None and fingerprint.changes(before, fingerprint.fingerprint(dataset.records))
            if found:
                logger.warning("the {} pictures were changed while the run lasted: {}; its numbers belong to no one set "
                               "of pictures", name, found)  # fmt: skip
