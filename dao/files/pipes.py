"""Printing into a pipe that is closed early (``--list | head``) is no error: the reader has what it wanted."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

CLOSED = 128 + 13  # as a program that SIGPIPE ends


def until_closed(main: Callable[[], int]) -> int:
    """Run a command; where its reader has left, leave as well, without a traceback."""
    try:
        code = main()
        sys.stdout.flush()  # here, where it can be caught, and not when Python ends
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # what is still buffered goes there when Python ends
        return CLOSED
    return code
