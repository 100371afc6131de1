"""One place that decides where log lines go: the terminal, and the run folder's log.txt."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any, TextIO

from loguru import logger

from dao.config.secret_values import hidden
from dao.processes import dist
from dao.words.printable import printable

TERMINAL_FORMAT = "<green>{time:HH:mm:ss}</green> <level>{level: <7}</level> {message}"
FILE_FORMAT = "{time:YYYY-MM-DD HH:mm:ss.SSS} {level: <7} {message}"
EARLY_LINES = 1000
_file_sink: int | None = None
_early: list[str] = []  # what was said before the run folder was known


def to_terminal(verbose: bool = False, level: str | None = None) -> None:
    """Log to stderr: everything from rank 0, warnings and worse from the others, which say who they are.

    level: the least that is shown; None for DEBUG when ``verbose``, else INFO.
    """
    global _file_sink
    logger.remove()
    logger.configure(patcher=_make_printable)
    _file_sink = None
    _early.clear()
    logger.add(_remember, format=FILE_FORMAT, level="DEBUG")
    level = level or ("DEBUG" if verbose else "INFO")
    if dist.is_main():
        logger.add(_to_stderr, format=TERMINAL_FORMAT, level=level, colorize=sys.stderr.isatty())
    else:
        form = TERMINAL_FORMAT.replace("{message}", f"[rank {dist.rank()}] {{message}}")
        logger.add(sys.stderr, format=form, level="WARNING")


def _make_printable(record: Any) -> None:
    """The one place through which every message passes on its way to any sink."""
    record["message"] = printable(hidden(record["message"]))


def _to_stderr(line: str) -> None:
    """Looked up at every line: a live progress bar puts its own stream there, and prints lines above itself."""
    with contextlib.suppress(OSError):  # a terminal that is gone, a pipe whose reader left: no run ends because of it
        sys.stderr.write(line)
        sys.stderr.flush()


def _remember(line: str) -> None:
    if _file_sink is None and len(_early) < EARLY_LINES:
        _early.append(str(line))


class _LogFile:
    """A run's log.txt. What a full disk does not take is lost, and nothing else: no run ends because of its log."""

    def __init__(self, path: Path) -> None:
        self.file: TextIO | None = None
        with contextlib.suppress(OSError):
            self.file = path.open("a", encoding="utf-8", errors="backslashreplace")

    def write(self, text: str) -> None:
        if self.file is not None:
            with contextlib.suppress(OSError):
                self.file.write(text)
                self.file.flush()

    def stop(self) -> None:
        if self.file is not None:
            with contextlib.suppress(OSError):
                self.file.close()


def to_file(path: Path) -> None:
    """Log to a file as well, from now on; rank 0 only."""
    global _file_sink
    close_file()
    if dist.is_main():
        sink = _LogFile(path)
        sink.write("".join(_early))
        _early.clear()
        _file_sink = logger.add(sink, format=FILE_FORMAT, level="DEBUG")


def close_file() -> None:
    """Stop logging to the run's file."""
    global _file_sink
    if _file_sink is not None:
        logger.remove(_file_sink)
        _file_sink = None
