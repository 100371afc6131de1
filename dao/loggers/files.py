"""Loggers that write into the run folder: metrics.jsonl and TensorBoard."""

from __future__ import annotations

import json
import math
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from dao.register import Registers


@Registers.loggers.register()
class JsonLines:
    """One JSON object a line in metrics.jsonl, appended and flushed, so that a killed run keeps its curves."""

    def __init__(self, run_dir: Path) -> None:
        self.file = (run_dir / "metrics.jsonl").open("a", encoding="utf-8")

    def scalars(self, values: dict[str, float], step: int, epoch: int) -> None:
        """Append one line. NaN and infinity become null: JSON has no such numbers."""
        clean: dict[str, Any] = {k: v if math.isfinite(v) else None for k, v in values.items()}
        self.file.write(json.dumps({"step": step, "epoch": epoch, "time": round(time.time(), 3), **clean}) + "\n")
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


@Registers.loggers.register()
class TensorBoard:
    """Curves for ``tensorboard --logdir runs``, in the run's ``tensorboard/``."""

    def __init__(self, run_dir: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if threading.excepthook is not _without_the_writers:
            threading.excepthook = _without_the_writers
        self.writer = SummaryWriter(str(run_dir / "tensorboard"))

    def scalars(self, values: dict[str, float], step: int, epoch: int) -> None:
        """Add one point to each curve."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close."""
        self.writer.close()


def _without_the_writers(args: threading.ExceptHookArgs) -> None:
    """TensorBoard writes from a thread, whose OSError is raised again where the next point is added: it is told there."""
    frames = traceback.extract_tb(args.exc_traceback)
    if not (issubclass(args.exc_type, OSError) and any("tensorboard" in frame.filename for frame in frames)):
        threading.__excepthook__(args)
