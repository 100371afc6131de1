"""Every process tells the others that it is alive, so that none waits half an hour for one that is gone.

A thread of its own writes a sign into the store by which the processes found each other, over a connection of its own,
and looks at the others'. A second thread watches the first: when the link is cut, the store itself does not answer. What
is found ends this process at once, with one message: its peers' collectives would never come back.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from dao.errors import ConfigError, Problem


def seconds(variable: str, default: float) -> float:
    """A patience that an environment variable may set. Raises ConfigError for what is no number of seconds."""
    said = os.environ.get(variable, "")
    try:
        found = float(said or default)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise ConfigError(Problem(variable, f"expected a number of seconds, got '{said}'"))
    return found


INTERVAL = 2.0  # seconds between two signs of life
PATIENCE = seconds("AICORE_HEARTBEAT_SECONDS", 20)  # without one, until a peer is given up; 0: for ever
LEFT = "left"
FAILED = "failed: "


class Heartbeat:
    """Signs of life of ``rank`` among ``world`` processes, in the store at host:port, under names that begin with ``run``.

    ``end`` is told why the run cannot go on, and must not return; by default it says so and ends this process.
    """

    def __init__(
        self,
        host: str,
        port: int,
        rank: int,
        world: int,
        end: Callable[[str], None] | None = None,
        run: str = "",
    ) -> None:
        self.host, self.port, self.rank, self.run = host, port, rank, run
        self.end = end or self._say_and_exit
        self.last_word = ""  # what is written into the store on leaving
        self.stopped = threading.Event()
        self.answered = time.monotonic()  # the store did, last
        self.seen = {peer: ("", time.monotonic()) for peer in range(world) if peer != rank}
        self.beating = threading.Thread(target=self._beat, daemon=True, name="heartbeat")

    def start(self) -> None:
        """Begin; every process must, before any leaves."""
        self.beating.start()
        threading.Thread(target=self._watch, daemon=True, name="heartbeat watch").start()

    def stop(self) -> None:
        """Leave in peace. Process 0, which has the store, stays until the others have left, or for PATIENCE seconds."""
        self._leave(LEFT)

    def fail(self, why: str) -> None:
        """Tell the others what ended this process, and give them time to read it."""
        self._leave(FAILED + why)

    def _leave(self, word: str) -> None:
        self.last_word = word
        self.stopped.set()
        # not one thread may still be in torch's code when the interpreter is taken down: it would abort the process
        self.beating.join(PATIENCE + INTERVAL)

    def _beat(self) -> None:
        import torch.distributed as torch_dist

        try:
            wait = timedelta(seconds=max(PATIENCE, INTERVAL))
            store: Any = torch_dist.TCPStore(self.host, self.port, None, False, timeout=wait, wait_for_workers=False)
            store = torch_dist.PrefixStore(self.run, store) if self.run else store
            store.set(f"host/{self.rank}", platform.node())
            count = 0
            while not self.stopped.is_set():
                count += 1
                store.set(f"beat/{self.rank}", str(count))
                self._look(store)
                self.answered = time.monotonic()
                self.stopped.wait(INTERVAL)
            store.set(f"beat/{self.rank}", self.last_word)
            self._stay(store)
        except Exception:  # the connection is gone: with process 0, which had the store, or with the link
            self._lost(f"the process that all meet at ({self.host}:{self.port}) is gone, or the link to it is cut")

    def _stay(self, store: Any) -> None:
        """Until the others have left, or have had time to read that this process failed."""
        failed = self.last_word != LEFT
        until = time.monotonic() + (2 * INTERVAL if failed else PATIENCE)
        while self.seen and (failed or self.rank == 0) and time.monotonic() < until:
            self._look(store)
            time.sleep(0.05)

    def _look(self, store: Any) -> None:
        for peer, (before, since) in list(self.seen.items()):
            now = store.get(f"beat/{peer}").decode() if store.check([f"beat/{peer}"]) else ""
            if now == LEFT or (now.startswith(FAILED) and self.stopped.is_set()):
                del self.seen[peer]
            elif now != before:
                self.seen[peer] = (now, time.monotonic())
            if now.startswith(FAILED):
                self._lost(f"rank {peer} on {store.get(f'host/{peer}').decode()} {now}")
            elif now == before != "" and time.monotonic() - since > PATIENCE:
                host = store.get(f"host/{peer}").decode()
                self._lost(f"rank {peer} on {host} has not been heard of for {PATIENCE:g} seconds")

    def _watch(self) -> None:
        while not self.stopped.wait(INTERVAL / 2):
            if time.monotonic() - self.answered > PATIENCE + INTERVAL:
                self._lost(f"{self.host}:{self.port} has not answered for {PATIENCE:g} seconds: is the link cut?")

    def _lost(self, why: str) -> None:
        """End, unless this process is ending by itself: of an error that all share, each says its own word."""
        if not self.stopped.wait(1):
            self.end(why)

    def _say_and_exit(self, why: str) -> None:
        sys.stderr.write(
            f"\n[rank {self.rank}] {why}\nThe run ends here; go on from its last checkpoint with --resume. "
            "(AICORE_HEARTBEAT_SECONDS sets how long is waited, 0 for ever.)\n"
        )
        sys.stderr.flush()
        os._exit(1)
