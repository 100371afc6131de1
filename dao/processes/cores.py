"""The processor cores that this process may use."""

import os


def usable_cores() -> int:
    """Fewer than the machine has where a scheduler or a container pins processes to some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
