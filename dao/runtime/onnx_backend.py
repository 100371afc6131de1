"""An exported ONNX file in ONNX Runtime."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from dao.answers.card import ModelCard
from dao.answers.checked import Outputs
from dao.answers.kinds import answer_class
from dao.errors import CheckpointError, ConfigError, DataError, Problem, reason_of
from dao.runtime import onnx_guard
from dao.runtime.backends import Image
from dao.words.warning import warn

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class OnnxBackend:
    """An exported ONNX file in ONNX Runtime.

    device: "auto", "cpu", "cuda", "cuda:1", or a torch.device; "auto" is the first GPU that this ONNX Runtime can use.
    """

    device_by_name = True

    def __init__(self, path: Path, device: Any = "auto") -> None:
        import onnxruntime

        providers = providers_for(str(device), onnxruntime.get_available_providers())
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
        self.any_batch = not isinstance(self.input.shape[0], int)
        answer_class(self.card.task).check_names(self.names, self.card, str(path))

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
            raise CheckpointError(f"the exported file gives no answer: {reason_of(error)}") from error
        return dict(zip(self.names, found))


def providers_for(device: str, available: list[str]) -> list[Any]:
    """What ONNX Runtime is to work with on a device, of what it has. Raises ConfigError for a name that is no device's."""
    known = re.fullmatch(r"(auto|cpu|mps|xpu|cuda)(?::(\d+))?", device)
    if known is None:
        raise ConfigError(Problem("device", f"expected auto, cpu, cuda or cuda:1, got {device!r}"))
    name, number = known.groups()
    if name not in ("auto", "cuda") or CUDA not in available:
        if name == "cuda":
            warn("this ONNX Runtime cannot use the GPU (onnxruntime-gpu can): pictures are answered on the CPU")
        return [CPU]
    return [(CUDA, {"device_id": int(number or 0)}), CPU]
