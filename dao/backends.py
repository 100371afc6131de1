"""What answers for a model: our own code with a checkpoint, or a runtime with an exported file."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dao.errors import CheckpointError, DataError
from dao.structures import Prediction
from dao.tasks import build
from dao.tasks.base import ModelCard, Outputs, Task, as_arrays
from dao.utils import checkpoint, manifest, onnx_guard

Image = NDArray[np.uint8]


class Backend(Protocol):
    """What answers: our own model, or a runtime with an exported file.

    card: of the model, which an exported file carries (`ModelCard.to_json` wrote it).
    runs_code: whether reading such a file can run code of whoever made it. It is then made with a third argument, trust:
    whether the user trusts the file, and refuses it otherwise. Backends without the attribute read data only.
    """

    card: ModelCard

    def run(self, images: Image) -> Outputs:
        """(B, H, W, C) uint8 -> named arrays, first axis B."""


class TorchBackend:
    """Our own model from a checkpoint or a run folder."""

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


class OnnxBackend:
    """An exported ONNX file in ONNX Runtime."""

    def __init__(self, path: Path, device: torch.device) -> None:
        import onnxruntime

        wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
        providers = [p for p in wanted if p in onnxruntime.get_available_providers()] + ["CPUExecutionProvider"]
        try:
            self.session = onnxruntime.InferenceSession(str(path), providers=providers)
        except Exception as error:  # onnxruntime's own exceptions have no public base
            raise CheckpointError(f"{path} is not a usable ONNX file: {str(error).splitlines()[0]}") from None
        metadata = self.session.get_modelmeta().custom_metadata_map
        if "aicore" not in metadata:
            raise CheckpointError(
                f"{path} was not exported by AICore: its metadata holds no class names or preprocessing"
            )
        onnx_guard.refuse_nan(path)
        self.card = ModelCard.from_json(metadata["aicore"], str(path))
        self.layout = metadata.get("layout", "nhwc")
        self.names = [output.name for output in self.session.get_outputs()]
        self.input = onnx_guard.input_of(self.session, self.layout, self.card.preprocess["in_channels"], path)
        build.task_class(self.card.task).check_names(self.names, self.card, str(path))

    def run(self, images: Image) -> Outputs:
        if self.layout == "nchw":
            images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        for axis, (want, have) in enumerate(zip(self.input.shape, images.shape)):
            if isinstance(want, int) and want != have:
                raise DataError(
                    f"this file was exported for inputs of shape {self.input.shape}, the picture has {list(images.shape)} "
                    f"(axis {axis}); export with dynamic: true to take any size"
                )
        try:
            found = self.session.run(self.names, {self.input.name: images})
        except Exception as error:  # onnxruntime's own exceptions have no public base
            raise CheckpointError(f"the exported file gives no answer: {checkpoint.reason_of(error)}") from error
        return dict(zip(self.names, found))


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
            raise CheckpointError(f"{path} is not a usable torch.export file ({checkpoint.reason_of(error)})") from None
        if not extra["aicore"]:
            raise CheckpointError(f"{path} was not exported by AICore: it holds no class names or preprocessing")
        self.card, self.layout = ModelCard.from_json(extra["aicore"], str(path)), extra["layout"]
        self.module = program.module()

    @torch.inference_mode()
    def run(self, images: Image) -> Outputs:
        tensor = torch.from_numpy(images)
        tensor = tensor.permute(0, 3, 1, 2).contiguous() if self.layout == "nchw" else tensor
        return {name: value.numpy() for name, value in self.module(tensor).items()}


def backend_of(path: str | Path) -> Callable[..., Backend] | None:
    """What runs an exported file, by the ending of its name and the registered exporters; None for other files.

    `TorchBackend` for those that hold a model's weights, and serve as a checkpoint.
    """
    from dao.register import Registers

    name = Path(path).name.lower()
    for component in map(Registers.exporters.get, Registers.exporters):
        suffix, backend = getattr(component, "suffix", None), getattr(component, "backend", None)
        if isinstance(suffix, str) and backend is not None and name.endswith(suffix.lower()):
            return backend
    return None


def open_file(path: Path, device: torch.device, trust: bool = False) -> Backend:
    """What answers for a checkpoint, a run folder or an exported file.

    trust: whether the user trusts a file that can run code when it is read. Raises CheckpointError for what cannot be used.
    """
    make = (backend_of(path) if path.is_file() else None) or TorchBackend
    return make(path, device, trust) if getattr(make, "runs_code", False) else make(path, device)
