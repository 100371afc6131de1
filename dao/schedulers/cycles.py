"""Rates that go up again: cosine with restarts, one cycle."""

from __future__ import annotations

from dao.register import Registers
from dao.schedulers.base import INFINITY, Scheduler, WarmupShape, in_epochs
from dao.schedulers.decay import cosine


@Registers.schedulers.register("cosine_restarts_lr")
class CosineRestartsLR(Scheduler):
    """SGDR (Loshchilov and Hutter 2017): half a cosine, again and again, after the warm-up.

    cycle_epochs: length of the first cycle; cycle_mult: how much longer each next one is.
    decay: factor of the peak from one cycle to the next; min_lr_ratio: factor at the end of every cycle.
    """

    limits = {"cycle_epochs": (1e-3, INFINITY), "cycle_mult": (1.0, INFINITY), "decay": (0.0, 1.0)}

    def __init__(
        self,
        total_iters: int,
        iters_per_epoch: int,
        cycle_epochs: float = 10.0,
        cycle_mult: float = 1.0,
        decay: float = 1.0,
        min_lr_ratio: float = 0.0,
        warmup_epochs: float = 0.0,
        warmup_lr_ratio: float = 0.0,
        warmup_shape: WarmupShape = "linear",
    ) -> None:
        super().__init__(total_iters, iters_per_epoch, warmup_epochs, warmup_lr_ratio, warmup_shape)
        self.cycle_iters = max(cycle_epochs * iters_per_epoch, 1.0)
        self.cycle_mult, self.decay, self.min_lr_ratio = cycle_mult, decay, min_lr_ratio

    def body(self, i: int) -> float:
        cycle, progress = place_in_cycles(max(i - self.warmup_iters, 0), self.cycle_iters, self.cycle_mult)
        return cosine(progress, self.min_lr_ratio, max(self.decay**cycle, self.min_lr_ratio))

    def course(self, lr: float) -> str:
        longer = f", each {self.cycle_mult:g} times as long" if self.cycle_mult != 1 else ""
        lower = f", each peak x {self.decay:g}" if self.decay != 1 else ""
        first = in_epochs(self.epochs(self.cycle_iters))
        return f"cosine to {self.min_lr_ratio * lr:.3g} again and again, at first in {first}{longer}{lower}"


def place_in_cycles(t: float, length: float, mult: float) -> tuple[int, float]:
    """Number of the cycle that update ``t`` lies in, from 0, and how far into it, from 0 to below 1.

    length: updates of the first cycle; mult: factor from one length to the next.

    >>> [place_in_cycles(t, 2, 2) for t in (0, 1, 2, 5, 6)]
    [(0, 0.0), (0, 0.5), (1, 0.0), (1, 0.75), (2, 0.0)]
    """
    cycle = 0
    while t >= length:
        t, length, cycle = t - length, length * mult, cycle + 1
    return cycle, t / length


@Registers.schedulers.register("one_cycle_lr")
class OneCycleLR(Scheduler):
    """1cycle (Smith and Topin 2018) with cosine flanks, as torch's OneCycleLR; the optimizer's lr is the peak.

    pct_start: share of the run spent rising; div_factor: peak over start; final_div_factor: start over end.
    It is its own warm-up. Momentum is left alone.
    """

    limits = {"pct_start": (0.0, 1.0), "div_factor": (1.0, INFINITY), "final_div_factor": (1.0, INFINITY)}

    def __init__(
        self,
        total_iters: int,
        iters_per_epoch: int,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        super().__init__(total_iters, iters_per_epoch)
        self.start = 1.0 / div_factor
        self.end = self.start / final_div_factor
        self.peak_iter = pct_start * total_iters - 1
        if pct_start > 0:  # a run too short to rise begins at the peak
            self.peak_iter = max(self.peak_iter, 0.0)

    def body(self, i: int) -> float:
        last = self.total_iters - 1
        if last <= 0:  # the only update there is
            return 1.0
        if i <= self.peak_iter and self.peak_iter > 0:
            return cosine(i / self.peak_iter, 1.0, self.start)
        if last <= self.peak_iter:  # no room to fall
            return 1.0
        return cosine(min((i - self.peak_iter) / (last - self.peak_iter), 1.0), self.end)

    def describe(self, lr: float) -> str:
        """It has no warm-up of its own to speak of."""
        peak = f"{lr * self.start:.3g} -> {lr:.3g} over {in_epochs(self.epochs(self.peak_iter + 1))}, "
        return (peak if self.peak_iter > 0 else f"{lr:.3g}, ") + self.course(lr)

    def course(self, lr: float) -> str:
        return f"cosine to {self.end * lr:.3g} at epoch {self.epochs(self.total_iters):.3g}"
