"""The skeleton that all four stages share. `run` is the chart of DESIGN.md, line for line."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

import torch
from loguru import logger

from dao.config import secret_values
from dao.config.reading import Config, Raw
from dao.errors import AICoreError, DataError
from dao.processes import dist, signals
from dao.structures import Batch, Unreadable
from dao.trainers.hooks.base import Hook
from dao.words.counted import counted
from dao.words.printable import one_line


@dataclass(slots=True)
class Options:
    """What the launcher decides rather than the config: where this process runs and how much it says."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    detail: bool = False


class Trainer:
    """Runs passes over a loader and calls hooks at six points.

    A stage overrides `setup` (build everything), `fetch` (where batches come from), `one_iter` (what is done with
    one) and `close`. Public state that hooks read: ``epoch`` (from 0), ``iter`` (in the epoch, from 0),
    ``iters_per_epoch``, ``max_epochs``, ``batch``, ``losses``, ``metrics`` (of the last evaluation), ``run_dir``.

    needs: config sections the stage cannot do without; many_processes: whether several can share its work;
    trains: whether it also needs what the task needs for training.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    many_processes: ClassVar[bool] = False
    trains: ClassVar[bool] = False

    @classmethod
    def complete(cls, raw: Raw) -> Raw:
        """Fill in what a config may leave out because a checkpoint knows it; called before validation ends."""
        return raw

    def __init__(self, config: Config, options: Options) -> None:
        self.config, self.options = config, options
        self.device = options.device
        self.hooks: list[Hook] = []
        self.run_dir = Path()
        self.loader: Iterable[Batch] = ()
        self.start_epoch, self.start_iter = 0, 0
        self.epoch, self.max_epochs = 0, 1
        self.iter, self.iters_per_epoch = 0, 0
        self.batch: Batch | None = None
        self.losses: dict[str, torch.Tensor] = {}
        self.metrics: dict[str, float] = {}
        self.bad = BadPictures()
        self.finished = False
        self.stop_reason = ""
        self.signal: int | None = None  # that arrived here
        self.stopping = False  # what all processes have agreed on

    # -- the chart

    def run(self) -> None:
        """Everything from the first folder to the last line of the summary."""
        self.before_train()
        try:
            self.train_in_epoch()
            self.finished = not self.stopping
        except Exception as error:  # the reason belongs into log.txt, which is closed below
            logger.opt(exception=not isinstance(error, AICoreError)).debug("{}", error)
            raise
        finally:
            self.after_train()

    def train_in_epoch(self) -> None:
        """All passes."""
        for self.epoch in range(self.start_epoch, self.max_epochs):  # noqa: B020 (the epoch is the trainer's state)
            if self.stop_reason:
                return
            self.before_epoch()
            self.train_in_iter()
            if self.stopping and self.iter + 1 < self.iters_per_epoch:
                return
            self.after_epoch()
            if self.stopping:
                return

    def train_in_iter(self) -> None:
        """One pass."""
        first, self.start_iter = self.start_iter, 0
        for self.iter, self.batch in enumerate(self.fetch(), start=first):  # noqa: B020
            self.before_iter()
            self.train_one_iter()
            self.after_iter()
            self.stopping = self.interrupted()
            if self.stopping:
                return

    # -- the six points

    def before_train(self) -> None:
        """Build everything, then tell the hooks."""
        self.setup()
        self.call_hooks("before_train")
        self._catch_signals()

    def before_epoch(self) -> None:
        """The pass over ``self.epoch`` begins."""
        self.call_hooks("before_epoch")

    def before_iter(self) -> None:
        """``self.batch`` has arrived."""
        self.bad.add(self.batch)
        self.call_hooks("before_iter")

    def after_iter(self) -> None:
        """The iteration is done."""
        self.call_hooks("after_iter")

    def after_epoch(self) -> None:
        """The pass is done."""
        self.call_hooks("after_epoch")

    def after_train(self) -> None:
        """Always: close what is open. What is published only after success asks ``self.finished``."""
        try:
            self.call_hooks("after_train")
            self.bad.summary()
            if self.stopping and (left := self.unfinished()):
                logger.warning("stopped; {}", left)
        finally:
            self.close()

    def call_hooks(self, stage: str) -> None:
        """Call the stage's method of every hook, in order."""
        for hook in self.hooks:
            getattr(hook, stage)(self)

    # -- what a stage fills in

    def rehearse(self) -> str:
        """For --check: build everything, try a batch, and say in a line what it took; "" where there is nothing to try.
        Called instead of `run`."""
        return ""

    def setup(self) -> None:
        """Build run folder, model, data and whatever else the stage needs."""
        raise NotImplementedError

    def fetch(self) -> Iterable[Batch]:
        """The batches of one pass."""
        return self.loader

    def train_one_iter(self) -> None:
        """What is done with ``self.batch``."""
        raise NotImplementedError

    def unfinished(self) -> str:
        """For a stage that is asked to stop: what is not written by now."""
        return ""

    def close(self) -> None:
        """Release what `setup` took."""

    # -- interruption

    def _catch_signals(self) -> None:
        """The first Ctrl-C, SIGTERM or SIGHUP ends the run after the current iteration; a second one ends it at once.

        A second one within a second is the same one: a terminal sends Ctrl-C to every process, and the launcher too.
        """
        arrived = 0.0

        def remember(number: int, frame: FrameType | None) -> None:
            nonlocal arrived
            if self.signal is not None and time.monotonic() - arrived > 1:
                raise KeyboardInterrupt
            if self.signal is not None:
                return
            self.signal, arrived = number, time.monotonic()
            logger.warning("{} received: leaving after this iteration", signal.Signals(number).name)

        signals.on_stop(remember)

    def interrupted(self) -> bool:
        """Whether this process was asked to stop."""
        return self.signal is not None


REMEDY = (
    "There may be more: --check looks at all and lists them. Mend or remove them, or let more be left out "
    "(trainer.kwargs.max_bad_fraction)"
)


class BadPictures:
    """Counts pictures that could not be read, or had no finite answer, names each once, and stops the run when they are too many.

    total: pictures in the dataset; max_fraction: of them that may be unreadable.
    """

    SHOWN = 20

    def __init__(self, total: int = 0, max_fraction: float = 1.0) -> None:
        self.total, self.max_fraction = total, max_fraction
        self.reasons: dict[str, str] = {}
        self.refused = False  # the error has named them all

    def add(self, batch: Batch | None) -> None:
        """Take in a batch's unreadable pictures. Raises DataError past ``max_fraction``."""
        for picture in batch.bad if batch else ():
            self.add_one(picture)

    def add_one(self, picture: Unreadable) -> None:
        """Take in one; see `add`."""
        if picture.path in self.reasons:
            return
        self.reasons[picture.path] = picture.reason
        self._refuse_too_many()
        logger.warning("skipped: {} ({})", one_line(picture.path), one_line(picture.reason))

    def _refuse_too_many(self) -> None:
        if len(self.reasons) > self.max_fraction * max(self.total, 1):
            self.refused = True
            what = f"more than max_bad_fraction = {self.max_fraction:g} of {counted(self.total, 'picture')}"
            raise DataError(f"{self._render(what)}\n{REMEDY}")

    def gather(self) -> None:
        """Take in what the other processes found; all of them must call. Raises DataError past ``max_fraction``."""
        for reasons in dist.all_gather_object(self.reasons):
            self.reasons |= reasons
        self._refuse_too_many()

    def summary(self) -> None:
        """Say at the end how many were left out."""
        if self.reasons and not self.refused:
            logger.warning(self._render(f"of {counted(self.total, 'picture')}, left out of this run"))

    def _render(self, what: str) -> str:
        shown = [f"  {one_line(path)}: {one_line(reason)}" for path, reason in list(self.reasons.items())[: self.SHOWN]]
        more = len(self.reasons) - len(shown)
        tail = [f"  ... and {more} more"] if more > 0 else []
        return "\n".join(
            [f"{counted(len(self.reasons), 'picture')} cannot be read or answered, {what}:", *shown, *tail]
        )


def kept(config: Any) -> Any:
    """A config as it is written down: plain, with references in the place of secret values."""
    return secret_values.hidden_in(plain(config))


def plain(value: Any) -> Any:
    """A config node as plain dicts and lists."""
    from dao.register import to_plain

    return to_plain(value)
