"""Picture in, prediction out, from a checkpoint or from an exported file, with the same answer.

>>> predictor = Predictor("runs/steel")                      # doctest: +SKIP
>>> predictor("part_0412.png").label                         # doctest: +SKIP
3
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dao.backends import Backend, Image, OnnxBackend, TorchBackend, TorchExportBackend, backend_of, open_file
from dao.errors import AnswerError, DataError
from dao.structures import Prediction
from dao.tasks import build

__all__ = ["Backend", "OnnxBackend", "Predictor", "TorchBackend", "TorchExportBackend", "backend_of"]


class Predictor:
    """Answers for single pictures, in their own pixels.

    path: a checkpoint, a run folder (its best checkpoint, else the latest), or an exported file (.onnx, .pt2, or of an
    exporter of your own that names its backend).
    device: "auto", "cpu", "cuda", "cuda:1", ...
    facts: another operating point than the file's, e.g. {"threshold": 0.37} (notes/OperatingPoints).
    trust: read a file that can run code of whoever made it (.pt2) as well. All others are data.
    custom_modules: a folder of your own modules to import first, whose models, tasks or exporters the file needs; what
    lies in the working directory's custom_modules/ is main.py's and is not imported here.
    Raises CheckpointError when the file cannot be used, ConfigError for facts that it does not have.
    """

    def __init__(
        self,
        path: str | Path,
        device: str = "auto",
        facts: Mapping[str, Any] | None = None,
        trust: bool = False,
        custom_modules: str | Path | None = None,
    ) -> None:
        import dao.register

        dao.register.import_all_modules_for_register(custom_modules)
        path = Path(path)
        self.path = path
        self.backend: Backend = open_file(path, pick_device(device), trust)
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

        Raises DataError when the file cannot be read or the array is of another kind, AnswerError (a CheckpointError) when
        what the model says is not finite.
        """
        image = self.read(picture)
        path = "" if isinstance(picture, np.ndarray) else str(picture)
        try:
            prediction = self.task_class.answer(self.backend.run, image, self.card)
        except AnswerError as error:
            raise AnswerError(f"{path}: {error}" if path else str(error)) from None
        prediction.path = path
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

    def legend(self, prediction: Prediction) -> dict[str, tuple[int, int, int]]:
        """The colours on `thumbnail` that have a meaning, by class: RGB."""
        return self.task_class.legend(prediction, self.card)

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
