"""Checkpoints written beside the training: copied where it trains, written by one thread, one at a time."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from loguru import logger
from torch import Tensor

from dao.checkpoints import checkpoint
from dao.errors import RunError

_writing: weakref.WeakSet[Saver] = weakref.WeakSet()


class Saver:
    """Writes checkpoints in a thread of its own.

    A second save waits for the first one, so that files come to be in the order they were asked for. What goes wrong in
    the thread (a full disk) is raised by the next `save`, `check` or `wait`, once.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        _writing.add(self)

    def save(
        self,
        content: Mapping[str, Any],
        path: Path,
        previous: Path | None = None,
        then: Callable[[], None] | None = None,
        parameters: Collection[str] = (),
    ) -> None:
        """As `checkpoint.save`, from a copy of the content as it is now; returns when that copy is made.

        then: called when the file is in its place; parameters: names of weights that must be finite. Raises what the save
        before it came to grief by.
        """
        self.wait()
        copied = snapshot(content)

        def write() -> None:
            try:
                refuse_non_finite(copied, parameters)
                checkpoint.save(copied, path, previous)
                if then is not None:
                    then()
            except BaseException as error:  # raised where it can be answered: on the training thread
                self._error = error

        self._thread = threading.Thread(target=write, name="checkpoint")
        self._thread.start()

    def check(self) -> None:
        """Raise what has gone wrong by now, without waiting."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Until the file is whole and in its place. Raises what went wrong."""
        self._join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def end(self, failed: bool) -> None:
        """`wait`; failed: after a failure of another kind, which this one must not take the place of."""
        try:
            self.wait()
        except Exception as error:
            if not failed:
                raise
            logger.error("{}", error)

    def _join(self) -> None:
        thread = self._thread
        if thread is not None:
            thread.join()
            self._thread = None


def _before_fork() -> None:
    """A process that is forked in the middle of a write inherits locks that nobody opens again: let the write end."""
    for saver in list(_writing):
        while saver._thread is not None:
            try:
                saver._join()
            except RuntimeError:  # raised here by torch's signal handler: a loader process died, as the loader will say
                continue


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)


def refuse_non_finite(content: Mapping[str, Any], parameters: Collection[str]) -> None:
    """Raise RunError for weights that no run can go on from: a loss may be finite and its gradient not, or that of another
    process, whose loss is known there alone. Buffers may be infinite, as masks are, and not NaN."""
    for part in ("model", "ema"):
        for name, value in (content.get(part) or {}).items():
            if not isinstance(value, Tensor) or not value.is_floating_point():
                continue
            if not bool((value.isfinite() if name in parameters else ~value.isnan()).all()):
                raise RunError(
                    f"the weights of {name} are not finite (NaN or infinity) after the last update: they are not saved, and the "
                    "checkpoint before them is kept. Usual causes: the learning rate is too high, a label out of range, a "
                    "picture without content; clip_norm or a lower lr helps"
                )


def snapshot(value: Any) -> Any:
    """The same content in memory of its own, on the CPU; tensors that were one in memory stay one."""
    return _copy(value, {})


def _copy(value: Any, known: dict[tuple[Any, ...], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return _copy_tensor(value, known)
    if isinstance(value, OrderedDict):  # a module's state: its attribute tells load_state_dict the layers' versions
        copied: OrderedDict[Any, Any] = OrderedDict((key, _copy(item, known)) for key, item in value.items())
        vars(copied).update(vars(value))
        return copied
    if isinstance(value, Mapping):
        return {key: _copy(item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy(item, known) for item in value)
    return value


def _copy_tensor(value: Tensor, known: dict[tuple[Any, ...], Tensor]) -> Tensor:
    value = value.detach()
    place = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
    if place not in known or not value.numel():
        known[place] = value.clone() if value.device.type == "cpu" else value.cpu()
    return known[place]
