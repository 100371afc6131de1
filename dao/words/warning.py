"""A warning of what works with torch and without."""

from __future__ import annotations

import logging
import sys


def warn(message: str) -> None:
    """Into the run's log, where there is one; a PC at the line has Python's own."""
    if "loguru" in sys.modules:
        sys.modules["loguru"].logger.warning("{}", message)
    else:
        logging.getLogger("dao").warning(message)
