"""Rates that only go down after the warm-up: constant, warm-up and cosine, steps, polynomial."""

from __future__ import annotations

import math

from dao.register import Registers
from dao.schedulers.base import INFINITY, Scheduler, WarmupShape, part_of_run
from dao.words.counted import counted, of_number


@Registers.schedulers.register("constant_lr")
class ConstantLR(Scheduler):
    """The base rate, after a warm-up if wanted."""

    def __init__(
        self,
        total_iters: int,
        iters_per_epoch: int,
        warmup_epochs: float = 0.0,
        warmup_lr_ratio: float = 0.0,
        warmup_shape: WarmupShape = "linear",
    ) -> None:
        super().__init__(total_iters, iters_per_epoch, warmup_epochs, warmup_lr_ratio, warmup_shape)

    def body(self, i: int) -> float:
        return 1.0

    def course(self, lr: float) -> str:
        return "held"


@Registers.schedulers.register("warm_cos_lr")
class WarmCosLR(Scheduler):
    """YOLOX's yoloxwarmcos (Ge et al. 2021): quadratic warm-up, half a cosine, and a constant tail.

    min_lr_ratio: factor at the end of the cosine and in the tail, the last ``no_aug_iters`` updates (at most a fifth of
        the run), in which the trainer has switched strong augmentation off.
    """

    def __init__(
        self,
        total_iters: int,
        iters_per_epoch: int,
        no_aug_iters: int = 0,
        warmup_epochs: float = 5.0,
        warmup_lr_ratio: float = 0.0,
        min_lr_ratio: float = 0.05,
        warmup_shape: WarmupShape = "quadratic",
    ) -> None:
        super().__init__(total_iters, iters_per_epoch, warmup_epochs, warmup_lr_ratio, warmup_shape)
        self.cosine_end = total_iters - part_of_run(no_aug_iters, total_iters)
        self.min_lr_ratio = min_lr_ratio

    def body(self, i: int) -> float:
        if i < self.warmup_iters:
            return 1.0
        if i >= self.cosine_end:
            return self.min_lr_ratio
        return cosine(self.after_warm_up(i, self.cosine_end), self.min_lr_ratio)

    def course(self, lr: float) -> str:
        held = ", then held" if self.cosine_end < self.total_iters else ""
        return f"cosine to {self.min_lr_ratio * lr:.3g} at epoch {self.epochs(self.cosine_end):.3g}{held}"


@Registers.schedulers.register("multistep_lr")
class MultiStepLR(Scheduler):
    """The rate is multiplied by ``gamma`` at each milestone.

    milestones: epochs, counted from the start of the run; 8.5 is the middle of the ninth.
    """

    limits = {"gamma": (0.0, 1.0)}

    def __init__(
        self,
        total_iters: int,
        iters_per_epoch: int,
        milestones: list[float],
        gamma: float = 0.1,
        warmup_epochs: float = 0.0,
        warmup_lr_ratio: float = 0.0,
        warmup_shape: WarmupShape = "linear",
    ) -> None:
        super().__init__(total_iters, iters_per_epoch, warmup_epochs, warmup_lr_ratio, warmup_shape)
        # behind the first update at the earliest, where an epoch is one alone
        self.milestones = [max(round(epoch * iters_per_epoch), min(1, math.ceil(epoch))) for epoch in milestones]
        self.gamma = gamma

    def body(self, i: int) -> float:
        return self.gamma ** sum(i >= milestone for milestone in self.milestones)

    def course(self, lr: float) -> str:
        reached = sorted(at for at in self.milestones if at < self.total_iters)
        late = len(self.milestones) - len(reached)
        steps = [f"{lr * self.gamma**n:.3g} from epoch {self.epochs(at):.3g}" for n, at in enumerate(reached, start=1)]
        after = f"{counted(late, 'milestone')} {of_number(late, 'lies', 'lie')}"
        return ", ".join(steps or ["held"]) + (f" ({after} after the run's end)" if late else "")


@Registers.schedulers.register("poly_lr")
class PolyLR(Scheduler):
    """(1 - progress)^power, as in DeepLab (Chen et al. 2018); power 1 is a straight line.

    min_lr_ratio: factor at the end of the run.
    """

    limits = {"power": (0.0, INFINITY)}

    def __init__(
        self,
        total_iters: int,
        iters_per_epoch: int,
        power: float = 0.9,
        min_lr_ratio: float = 0.0,
        warmup_epochs: float = 0.0,
        warmup_lr_ratio: float = 0.0,
        warmup_shape: WarmupShape = "linear",
    ) -> None:
        super().__init__(total_iters, iters_per_epoch, warmup_epochs, warmup_lr_ratio, warmup_shape)
        self.power, self.min_lr_ratio = power, min_lr_ratio

    def body(self, i: int) -> float:
        left = 1.0 - self.after_warm_up(i, self.total_iters)
        return self.min_lr_ratio + (1.0 - self.min_lr_ratio) * left**self.power

    def course(self, lr: float) -> str:
        end = f"{self.min_lr_ratio * lr:.3g} at epoch {self.epochs(self.total_iters):.3g}"
        return f"down to {end} by the power {self.power:g}"


def cosine(progress: float, low: float, high: float = 1.0) -> float:
    """Half a cosine from ``high`` at progress 0 to ``low`` at progress 1."""
    return low + 0.5 * (high - low) * (1.0 + math.cos(math.pi * progress))
