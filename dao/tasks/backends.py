"""What answers for a model by torch: our own code with a checkpoint, or a file of torch.export."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dao.answers.card import ModelCard
from dao.answers.checked import Outputs
from dao.checkpoints import checkpoint
from dao.errors import CheckpointError, reason_of
from dao.files import manifest
from dao.runtime.backends import Image
from dao.structures import Prediction
from dao.tasks import build
from dao.tasks.base import Task
from dao.tasks.deployable import as_arrays


def pick_device(device: str | torch.device) -> torch.device:
    """ "auto" means the first GPU where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


class TorchBackend:
    """Our own model from a checkpoint or a run folder."""

    any_batch = True

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path, self.device = checkpoint.find(path), device
        self.task: Task = build.task_from_checkpoint(checkpoint.load(self.path), str(self.path))
        self._place()

    @classmethod
    def of(cls, task: Task, device: torch.device) -> TorchBackend:
        """A backend round a task that is in memory."""
        self = cls.__new__(cls)
        self.path, self.device, self.task = Path(), device, task
        self._place()
        return self

    def _place(self) -> None:
        self.task.model.to(self.device).eval()
        self.task.preprocess.to(self.device)
        self.card = self.task.card()
        self.deployable = self.task.deployable().eval()

    @torch.inference_mode()
    def run(self, images: Image) -> Outputs:
        return as_arrays(self.deployable(torch.from_numpy(images).to(self.device)))

    def heatmap(self, image: Image, prediction: Prediction) -> NDArray[np.float32] | None:
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].to(self.device)
        return self.task.heatmap(self.task.preprocess(pixels), prediction)


class TorchExportBackend:
    """A file of torch.export, in torch but without our code.

    Reading one can run anything that its maker put into it: torch unpickles its sample inputs and constants, and evaluates
    its sizes. So it is read only where the user trusts it, and where it is the file that our Export wrote.
    """

    runs_code = True

    def __init__(self, path: Path, device: torch.device, trust: bool = False) -> None:
        if not trust:
            raise CheckpointError(
                f"{path} was not loaded: reading a file of torch.export can run code of whoever made it. Where it is your "
                "own, or from somebody whose programs you would run: trust: true (trainer.kwargs of Demo; trust=True of "
                "Predictor). An .onnx file or a checkpoint is data and needs no trust"
            )
        data, extra = manifest.verified(path), {"aicore": "", "layout": ""}
        try:
            program = torch.export.load(io.BytesIO(data), extra_files=extra)
        except Exception as error:
            raise CheckpointError(f"{path} is not a usable torch.export file ({reason_of(error)})") from None
        if not extra["aicore"]:
            raise CheckpointError(f"{path} was not exported by AICore: it holds no class names or preprocessing")
        self.card, self.layout = ModelCard.from_json(extra["aicore"], str(path)), extra["layout"]
        self.module = program.module()

    @torch.inference_mode()
    def run(self, images: Image) -> Outputs:
        tensor = torch.from_numpy(images)
        tensor = tensor.permute(0, 3, 1, 2).contiguous() if self.layout == "nchw" else tensor
        return {name: value.numpy() for name, value in self.module(tensor).items()}
