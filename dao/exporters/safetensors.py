"""safetensors: the weights alone, as data that no reader can be made to run, with the model card in the metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loguru import logger

from dao.checkpoints import checkpoint
from dao.errors import ConfigError, Problem
from dao.exporters.base import Exporter
from dao.register import Registers
from dao.tasks.backends import TorchBackend
from dao.tasks.base import Task


@Registers.exporters.register("SafetensorsExporter")
class SafetensorsExporter(Exporter):
    """One .safetensors file of the weights a checkpoint answers with (the EMA's where it has one).

    Its metadata hold the model card, the model's section of the config and a checksum, so that `trainer.kwargs.ckpt`,
    `model.kwargs.checkpoint_path` and the Predictor take it as they take a checkpoint. Other programs read the tensors by
    their names. To go on with a run it takes a checkpoint.
    """

    suffix, name, backend = ".safetensors", "safetensors", TorchBackend

    def __init__(self, facts: dict[str, Any] | None = None) -> None:
        super().__init__(facts=facts)

    def export(self, task: Task, path: Path) -> None:
        from safetensors.torch import save_file

        if task.section is None:
            raise ConfigError(Problem("export", "the task does not know which model it was built from"))
        weights = {name: value.detach().cpu().contiguous().clone() for name, value in task.model.state_dict().items()}
        card = task.card()
        config = {"type": card.task, "preprocess": card.preprocess, "model": task.section}
        metadata = {
            "format": "pt",  # what other readers look for
            "aicore": card.to_json(),
            "config": json.dumps(config),
            "checksum": str(checkpoint.checksum(dict(sorted(weights.items())))),
        }
        save_file(weights, path, metadata=metadata)
        logger.info("{}: {} tensors, {:.1f} MB", path.name, len(weights), path.stat().st_size / 1e6)
