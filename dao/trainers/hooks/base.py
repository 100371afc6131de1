"""What a hook is: six points, each called with the trainer, in the order the hooks are listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from dao.config.signature import out_of_limits
from dao.errors import Problem

if TYPE_CHECKING:
    from dao.trainers.base import Trainer

STAGES = ("before_train", "before_epoch", "before_iter", "after_iter", "after_epoch", "after_train")


class Hook:
    """Override the stages you need; a misspelt one fails when the class is made.

    A hook reads and writes the trainer's public state and never reaches into another hook. What it must remember
    over a resume it gives out in `state_dict`, as plain values and tensors.
    limits: smallest and largest value a numeric setting may have, both included; checked before a run starts.
    where: the place in the config that asked for it ("hooks.2"); "" for one that every run has.
    """

    limits: ClassVar[dict[str, tuple[float, float]]] = {}
    where: str = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in vars(cls):
            if name.startswith(("before_", "after_")) and name not in STAGES:
                raise TypeError(f"{cls.__name__}.{name} would never run; the stages are {', '.join(STAGES)}")

    @classmethod
    def check_config(cls, kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Settings of a config outside their limits."""
        return out_of_limits(kwargs, cls.limits, where)

    def check_built(self, trainer: Trainer) -> None:
        """Model, data and evaluator are built, and no run folder yet: raise ConfigError for what cannot go with them."""

    def before_train(self, trainer: Trainer) -> None:
        """Everything is built and resumed; nothing has been trained yet."""

    def before_epoch(self, trainer: Trainer) -> None:
        """``trainer.epoch`` is about to begin."""

    def before_iter(self, trainer: Trainer) -> None:
        """``trainer.batch`` is on the device and may be changed."""

    def after_iter(self, trainer: Trainer) -> None:
        """``trainer.losses`` holds this iteration's losses; ``trainer.updated`` whether weights changed."""

    def after_epoch(self, trainer: Trainer) -> None:
        """The last iteration of ``trainer.epoch`` is done."""

    def after_train(self, trainer: Trainer) -> None:
        """Always called once before_train has finished; ``trainer.finished`` tells success from failure."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive a resume."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
