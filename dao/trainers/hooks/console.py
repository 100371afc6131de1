"""What a person sees of a run: a live bar on a terminal, plain lines elsewhere, all of it in log.txt."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import torch
from loguru import logger

from dao.processes import dist
from dao.register import Registers
from dao.trainers.hooks.base import Hook

if TYPE_CHECKING:
    from dao.trainers.trainval import TrainVal


WIDTH = 120 - 17  # columns of a terminal, without the time and the level before a line


class Meter:
    """Means since the last line. Losses stay on their device until they are read: reading makes a GPU wait."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.losses: dict[str, torch.Tensor] = {}
        self.added: dict[str, int] = {}  # a model that learns in phases does not name the same ones each time
        self.seconds, self.data_seconds, self.count, self.pictures = 0.0, 0.0, 0, 0

    def add(self, trainer: TrainVal) -> None:
        """Take in one iteration."""
        for name, value in trainer.losses.items():
            value = value.detach().float()
            self.losses[name] = self.losses[name] + value if name in self.losses else value
            self.added[name] = self.added.get(name, 0) + 1
        self.seconds += trainer.iter_seconds
        self.data_seconds += trainer.data_seconds
        self.pictures += len(trainer.batch)
        self.count += 1

    def means(self) -> dict[str, float]:
        """Mean losses of all processes, on the CPU; every process must ask."""
        if not self.losses:
            return {}
        values = dist.mean_of_processes(torch.stack(list(self.losses.values())))
        parts = zip(self.losses, values.tolist(), strict=True)
        return {name: value / self.added[name] for name, value in parts}


@Registers.hooks.register()
class Console(Hook):
    """A line every ``interval`` iterations (None: the trainer's ``log_interval``) and at each epoch's end.

    epoch, iteration, losses, rate, seconds waited for data and of the whole iteration, memory, time left.
    """

    limits = {"interval": (1, float("inf"))}

    def __init__(self, interval: int | None = None) -> None:
        self.interval = interval
        self.meter = Meter()
        self.progress: Any = None

    def before_train(self, trainer: TrainVal) -> None:
        self.interval = self.interval or trainer.log_interval
        self.started, self.start_iter = time.monotonic(), None
        if sys.stderr.isatty() and dist.is_main():
            self._open_bar(trainer)

    def _open_bar(self, trainer: TrainVal) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[line]}"),
        )
        self.progress = Progress(*columns, transient=True)
        self.bar = self.progress.add_task("", total=trainer.iters_per_epoch, line="")
        self.progress.start()

    def before_epoch(self, trainer: TrainVal) -> None:
        if self.start_iter is None:
            # not `global_iter`: its iteration is still that of what came before, an owed end of another epoch perhaps
            self.started = time.monotonic()
            self.start_iter = trainer.epoch * trainer.iters_per_epoch + trainer.start_iter
        if self.progress is not None:
            self.progress.reset(self.bar, description=f"epoch {trainer.epoch + 1}/{trainer.max_epochs}")

    def after_iter(self, trainer: TrainVal) -> None:
        self.meter.add(trainer)
        last = trainer.iter + 1 == trainer.iters_per_epoch
        if (trainer.iter + 1) % self.interval == 0 or last:
            self.say(trainer)
        if self.progress is not None:
            self.progress.update(self.bar, completed=trainer.iter + 1)

    def say(self, trainer: TrainVal) -> None:
        """Write the line and start the next means."""
        losses, count = self.meter.means(), self.meter.count
        trainer.scalars = {
            **{f"train/{name}": value for name, value in losses.items()},
            "lr": current_lr(trainer),
            "seconds/data": self.meter.data_seconds / count,
            "seconds/iter": self.meter.seconds / count,
            "pictures_per_second": dist.world_size() * self.meter.pictures / self.meter.seconds,
        }
        line = self.render(trainer, losses)
        if self.progress is not None:
            what = f"loss {losses['loss']:.4f}  lr {trainer.scalars['lr']:.2g}" if losses else "collecting"
            short = f"{what}  eta {clock(self.seconds_left(trainer))}"
            self.progress.update(self.bar, line=short)
        logger.log("DEBUG" if self.progress is not None else "INFO", line)
        self.meter.reset()

    def render(self, trainer: TrainVal, losses: dict[str, float]) -> str:
        """Epoch, iteration, losses, rate, mean time of an iteration (of it waited for data), memory, time left.

        Where the line would be longer than `WIDTH`, memory is left out, or else what the loss is made of.
        """
        head = f"epoch {trainer.epoch + 1}/{trainer.max_epochs}  {trainer.iter + 1}/{trainer.iters_per_epoch}"
        loss = f"loss {losses['loss']:.4f}" if losses else "collecting"
        parts = " ".join(f"{name} {value:.3g}" for name, value in losses.items() if name != "loss")
        rate = [f"lr {trainer.scalars['lr']:.3g}"] if trainer.scheduler is not None else []
        waited, taken = (s / self.meter.count * 1000 for s in (self.meter.data_seconds, self.meter.seconds))
        took, memory = f"{taken:.0f} ms ({waited:.0f} data)", f"{memory_gib(trainer.device):.1f} GiB"
        left = f"eta {clock(self.seconds_left(trainer))}"
        whole = f"{loss} ({parts})" if parts else loss
        choices = ((whole, *rate, took, memory, left), (whole, *rate, took, left), (loss, *rate, took, memory, left))
        lines = ["  ".join([head, *words]) for words in choices]
        return next((line for line in lines if len(line) <= WIDTH), lines[-1])

    def seconds_left(self, trainer: TrainVal) -> float:
        """From the pace since this process began, validations included."""
        done = trainer.global_iter + 1 - (self.start_iter or 0)
        left = trainer.max_epochs * trainer.iters_per_epoch - trainer.global_iter - 1
        return (time.monotonic() - self.started) / done * left

    def after_train(self, trainer: TrainVal) -> None:
        if self.progress is not None:
            self.progress.stop()


def current_lr(trainer: TrainVal) -> float:
    """The highest rate of all parameter groups; 0 where there is no optimizer."""
    return max(trainer.scheduler.lrs) if trainer.scheduler is not None else 0.0


def memory_gib(device: torch.device) -> float:
    """Peak memory of this process so far: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import psutil

    return psutil.Process().memory_info().rss / 2**30


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
