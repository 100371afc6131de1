"""torch.export: one .pt2 file that torch runs without our code."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from loguru import logger

from dao.exporters.base import Exporter
from dao.files import manifest
from dao.register import Registers
from dao.tasks.backends import TorchExportBackend
from dao.tasks.base import Task


@Registers.exporters.register("TorchExporter")
class TorchExporter(Exporter):
    """An exported program (.pt2), for torch in Python or, compiled by AOTInductor, in C++.

    Reading such a file can run code. So a manifest is written beside it (<name>.pt2.manifest.json), and Demo and Predictor
    take the file where that names its hash and the user says ``trust``.
    """

    suffix, name, backend = ".pt2", "torch.export", TorchExportBackend

    def opened(self, path: Path, device: torch.device) -> TorchExportBackend:
        return TorchExportBackend(path, device, trust=True)  # it was written by this very process

    def export(self, task: Task, path: Path) -> None:
        module, image, free = self.traceable(task)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries about each other: they say nothing to a user
            program = torch.export.export(module, (image,), dynamic_shapes=free)
        extra = {"aicore": task.card().to_json(), "layout": self.layout}
        torch.export.save(program, path, extra_files=extra)
        manifest.write(path)
        logger.info("{}: {:.1f} MB", path.name, path.stat().st_size / 1e6)
