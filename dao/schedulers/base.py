"""The learning rate as a function of the update, and the small machine that hands it to an optimizer.

An update is one change of the weights; with gradient accumulation there are fewer of them than iterations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch

from dao.config.signature import out_of_limits
from dao.errors import Problem
from dao.words.counted import of_number

WarmupShape = Literal["linear", "quadratic"]
INFINITY = float("inf")
AT_MOST = 5  # a warm-up, and a tail without augmentation, take a fifth of the run at most


def part_of_run(wanted: int, whole: int) -> int:
    """How long a warm-up or a tail is, of ``wanted`` epochs or updates, in a run of ``whole`` of them.

    Settings are written for a long run; of a shortened one they would leave nothing that trains at the full rate.

    >>> [part_of_run(10, epochs) for epochs in (100, 50, 8, 4)]
    [10, 10, 1, 0]
    """
    return max(min(wanted, whole // AT_MOST), 0)


def in_epochs(number: float) -> str:
    """A number of epochs in words.

    >>> in_epochs(1.0), in_epochs(1.6)
    ('1 epoch', '1.6 epochs')
    """
    return f"{number:.3g} {of_number(number, 'epoch')}"


def warm_up(i: int, iters: int, start_ratio: float, shape: WarmupShape) -> float:
    """Factor from ``start_ratio`` at update 0 to 1 at update ``iters``, and 1 from there on."""
    if i >= iters:
        return 1.0
    return start_ratio + (1.0 - start_ratio) * (i / iters) ** (2 if shape == "quadratic" else 1)


class Scheduler(ABC):
    """rate(i) = warm-up x body(i): the factor of the base learning rate at update i, counted from 0.

    total_iters: updates of the whole run; iters_per_epoch: updates of an epoch.
    warmup_epochs: length of the warm-up in epochs, at most a fifth of the run; warmup_lr_ratio: the factor it starts from.
    limits: smallest and largest value a numeric setting may have, both included; checked before a run starts.
    """

    limits: ClassVar[dict[str, tuple[float, float]]] = {
        "warmup_epochs": (0.0, INFINITY),
        "warmup_lr_ratio": (0.0, 1.0),
        "min_lr_ratio": (0.0, 1.0),
    }

    def __init__(
        self,
        total_iters: int,
        iters_per_epoch: int,
        warmup_epochs: float = 0.0,
        warmup_lr_ratio: float = 0.0,
        warmup_shape: WarmupShape = "linear",
    ) -> None:
        self.total_iters, self.iters_per_epoch = total_iters, iters_per_epoch
        self.warmup_lr_ratio, self.warmup_shape = warmup_lr_ratio, warmup_shape
        self.wanted_warmup_epochs = warmup_epochs
        self.warmup_iters = part_of_run(round(warmup_epochs * iters_per_epoch), total_iters)
        self.updates = 0
        self._optimizer: torch.optim.Optimizer | None = None

    @classmethod
    def check_config(cls, kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Settings of a config outside their limits."""
        return out_of_limits(kwargs, {**Scheduler.limits, **cls.limits}, where)

    def rate(self, i: int) -> float:
        """Factor of the base learning rate at update ``i``; past the run it stays where the run ended."""
        i = min(i, self.total_iters)
        return warm_up(i, self.warmup_iters, self.warmup_lr_ratio, self.warmup_shape) * self.body(i)

    @abstractmethod
    def body(self, i: int) -> float:
        """The factor without the warm-up, at update ``i`` from 0 to ``total_iters``."""

    def describe(self, lr: float) -> str:
        """The run's rates in a line, for a base rate: "0 -> 0.01 over 2 epochs, cosine to 0.0005 at epoch 47, then held"."""
        wanted = round(self.wanted_warmup_epochs * self.iters_per_epoch)
        cut = f" (a fifth of the run; {self.wanted_warmup_epochs:g} were set)" if self.warmup_iters < wanted else ""
        start = f"{self.warmup_lr_ratio * lr:.3g} -> " if self.warmup_iters else ""
        over = f" over {in_epochs(self.epochs(self.warmup_iters))}{cut}" if self.warmup_iters else ""
        return f"{start}{lr:.3g}{over}, {self.course(lr)}"

    def course(self, lr: float) -> str:
        """What the rate does after the warm-up, in a few words, for a base rate."""
        return f"{self.rate(self.total_iters) * lr:.3g} at the end"

    def epochs(self, updates: float) -> float:
        """Updates as epochs."""
        return updates / self.iters_per_epoch

    def after_warm_up(self, i: int, end: int) -> float:
        """How far update ``i`` lies between the end of the warm-up (0) and update ``end`` (1)."""
        return min(max(i - self.warmup_iters, 0) / max(end - self.warmup_iters, 1), 1.0)

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Take over the rates of an optimizer: the rate of each group now is its base, and the first rate is set."""
        self._optimizer = optimizer
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self._apply()

    def step(self) -> None:
        """Call after each update: sets the rates of the next one."""
        self.updates += 1
        self._apply()

    def epoch_end(self, metric: float | None, mode: str = "max") -> None:
        """Call after each epoch with the validation metric, or None when nothing was validated, and whether more
        ("max") or less ("min") of it is better. For plateau_lr."""

    def _apply(self) -> None:
        if self._optimizer is not None:
            factor = self.rate(self.updates)
            for group in self._optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor

    @property
    def lrs(self) -> list[float]:
        """Learning rate of each parameter group for the next update; empty before `attach`."""
        return [] if self._optimizer is None else [group["lr"] for group in self._optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on."""
        return {"updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`; the rates are set at once."""
        self.updates = int(state["updates"])
        self._apply()
