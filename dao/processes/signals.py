"""Being asked to stop: Ctrl-C, SIGTERM (schedulers, `kill`) and SIGHUP (a terminal or an ssh connection that is gone)."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

# SIGHUP is unknown to Windows
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived where nothing is saved on the way out; as KeyboardInterrupt, it is no error.

    left: what was not written, for the user; "" where that is not known.
    """

    def __init__(self, number: int, left: str = "") -> None:
        super().__init__(number, left)
        self.number, self.left = number, left

    def __str__(self) -> str:
        name = signal.Signals(self.number).name
        return f"{name} received: stopped{f'; {self.left}' if self.left else ''}"


def on_stop(handler: Callable[[int, FrameType | None], Any]) -> bool:
    """Have ``handler`` called for every signal that asks to stop; False outside the main thread, where none can be set.

    One that is ignored stays so: under nohup a closed terminal is nothing to stop for.
    """
    for number in STOPPING:
        if signal.getsignal(number) == signal.SIG_IGN:
            continue
        try:
            signal.signal(number, handler)
        except ValueError:  # a notebook's thread, or a server's: the caller keeps its own handling
            return False
    return True


def raise_on_stop() -> None:
    """From here on SIGTERM and SIGHUP raise `Terminated`, as Ctrl-C raises KeyboardInterrupt: what is open is closed."""

    def leave(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated(number)

    on_stop(leave)
