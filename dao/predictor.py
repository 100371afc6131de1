"""Picture in, prediction out, from a checkpoint or from an exported file, with the same answer.

>>> predictor = Predictor("runs/steel")                      # doctest: +SKIP
>>> predictor("part_0412.png").label                         # doctest: +SKIP
3
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dao.errors import CheckpointError, DataError
from dao.structures import Prediction
from dao.tasks import build
from dao.tasks.base import ModelCard, Outputs, Task, as_arrays
from dao.utils import checkpoint

Image = NDArray[np.uint8]


class Backend(Protocol):
    """What answers: our own model, or a runtime with an exported file.

    card: of the model, which an exported file carries (`ModelCard.to_json` wrote it).
    """

    card: ModelCard

    def run(self, images: Image) -> Outputs:
        """(B, H, W, C) uint8 -> named arrays, first axis B."""


class Predictor:
    """Answers for single pictures, in their own pixels.

    path: a checkpoint, a run folder (its best checkpoint, else the latest), or an exported file (.onnx, .pt2, or of an
    exporter of your own that names its backend).
    device: "auto", "cpu", "cuda", "cuda:1", ...
    facts: another operating point than the file's, e.g. {"threshold": 0.37} (notes/OperatingPoints).
    Raises CheckpointError when the file cannot be used, ConfigError for facts that it does not have.
    """

    def __init__(self, path: str | Path, device: str = "auto", facts: Mapping[str, Any] | None = None) -> None:
        import dao.register

        dao.register.import_all_modules_for_register()
        path = Path(path)
        make = (backend_of(path) if path.is_file() else None) or TorchBackend
        self.path = path
        self.backend: Backend = make(path, pick_device(device))
        self.card = self.backend.card
        self.task_class = build.task_class(self.card.task)
        if facts:
            self.card = self.task_class.at(self.card, facts)

    @property
    def classes(self) -> list[str]:
        """Class names in score order."""
        return self.card.classes

    def __call__(self, picture: str | Path | Image) -> Prediction:
        """Prediction for a file, or for (H, W, C) or (H, W) uint8 pixels, RGB or grey.

        Raises DataError when the file cannot be read or the array is of another kind.
        """
        image = self.read(picture)
        prediction = self.task_class.answer(self.backend.run, image, self.card)
        prediction.path = "" if isinstance(picture, np.ndarray) else str(picture)
        return prediction

    def read(self, picture: str | Path | Image) -> Image:
        """The picture's pixels as the model takes them: (H, W, C) uint8 with the model's number of channels."""
        channels = self.card.preprocess["in_channels"]
        if not isinstance(picture, np.ndarray):
            from dao.dataloaders.datasets.image_io import read_image

            return read_image(picture, channels, self.card.preprocess["bit_depth"])
        return fit_channels(picture, channels)

    def heatmap(self, image: Image, prediction: Prediction) -> NDArray[np.float32] | None:
        """(h, w) of 0..1 over the model's input: where it looked; None where the file or the task has none."""
        return self.backend.heatmap(image, prediction) if isinstance(self.backend, TorchBackend) else None

    def draw(self, image: Image, prediction: Prediction, **extras: Any) -> Image:
        """The picture with what the model says of it."""
        return self.task_class.draw(image, prediction, self.card, **extras)

    def thumbnail(self, image: Image, prediction: Prediction) -> Image:
        """The small picture of a contact sheet."""
        return self.task_class.thumbnail(image, prediction, self.card)

    def caption(self, prediction: Prediction) -> str:
        """The prediction in a few words."""
        return self.task_class.caption(prediction, self.card)

    def files(self, prediction: Prediction) -> dict[str, Image]:
        """What else of the prediction is a picture: a class map, say."""
        return self.task_class.files(prediction, self.card)

    def describe(self, prediction: Prediction) -> dict[str, Any]:
        """The prediction as plain JSON values with class names."""
        return self.task_class.describe(prediction, self.card)


def fit_channels(pixels: NDArray[Any], channels: int) -> Image:
    """Pixels given by a caller, as (H, W, channels) uint8. Raises DataError for anything but uint8 pictures."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise DataError(f"expected a (H, W, C) or (H, W) uint8 array, got {pixels.dtype} of shape {pixels.shape}")
    image = pixels[..., None] if pixels.ndim == 2 else pixels
    have = image.shape[2]
    if have == 4:
        image, have = image[..., :3], 3
    if have == channels:
        return np.ascontiguousarray(image)
    if have == 1:
        return np.repeat(image, 3, axis=2)
    if have == 3:
        import cv2

        return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None]
    raise DataError(f"expected 1, 3 or 4 channels in the last axis, got shape {pixels.shape}")


def pick_device(device: str) -> torch.device:
    """ "auto" means the first GPU where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


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
        self.card = ModelCard.from_json(metadata["aicore"])
        self.layout = metadata.get("layout", "nhwc")
        self.names = [output.name for output in self.session.get_outputs()]
        self.input = self.session.get_inputs()[0]

    def run(self, images: Image) -> Outputs:
        if self.layout == "nchw":
            images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        for axis, (want, have) in enumerate(zip(self.input.shape, images.shape)):
            if isinstance(want, int) and want != have:
                raise DataError(
                    f"this file was exported for inputs of shape {self.input.shape}, the picture has {list(images.shape)} "
                    f"(axis {axis}); export with dynamic: true to take any size"
                )
        return dict(zip(self.names, self.session.run(self.names, {self.input.name: images})))


class TorchExportBackend:
    """A file of torch.export, in torch but without our code."""

    def __init__(self, path: Path, device: torch.device) -> None:
        extra = {"aicore": "", "layout": ""}
        try:
            program = torch.export.load(path, extra_files=extra)
        except Exception as error:
            raise CheckpointError(f"{path} is not a usable torch.export file: {str(error).splitlines()[0]}") from None
        if not extra["aicore"]:
            raise CheckpointError(f"{path} was not exported by AICore: it holds no class names or preprocessing")
        self.card, self.layout = ModelCard.from_json(extra["aicore"]), extra["layout"]
        self.module = program.module()

    @torch.inference_mode()
    def run(self, images: Image) -> Outputs:
        tensor = torch.from_numpy(images)
        tensor = tensor.permute(0, 3, 1, 2).contiguous() if self.layout == "nchw" else tensor
        return {name: value.numpy() for name, value in self.module(tensor).items()}


def backend_of(path: str | Path) -> Callable[[Path, torch.device], Backend] | None:
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
