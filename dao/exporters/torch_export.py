"""torch.export: one .pt2 file that torch runs without our code."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from loguru import logger

from dao.exporters.base import Exporter
from dao.predictor import TorchExportBackend
from dao.register import Registers
from dao.tasks.base import Task


@Registers.exporters.register("TorchExporter")
class TorchExporter(Exporter):
    """An exported program (.pt2), for torch in Python or, compiled by AOTInductor, in C++."""

    suffix, name, backend = ".pt2", "torch.export", TorchExportBackend

    def export(self, task: Task, path: Path) -> None:
        module, image, free = self.traceable(task)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries about each other: they say nothing to a user
            program = torch.export.export(module, (image,), dynamic_shapes=free)
        extra = {"aicore": task.card().to_json(), "layout": self.layout}
        torch.export.save(program, path, extra_files=extra)
        logger.info("{}: {:.1f} MB", path, path.stat().st_size / 1e6)
