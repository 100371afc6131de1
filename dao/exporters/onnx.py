"""ONNX: raw uint8 pixels in, named answers out, with preprocessing inside and the model card in the metadata."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from loguru import logger

from dao.exporters.base import Exporter, Layout
from dao.register import Registers
from dao.runtime.onnx_backend import OnnxBackend
from dao.tasks.base import Task


@Registers.exporters.register("OnnxExporter")
class OnnxExporter(Exporter):
    """One self-contained .onnx file.

    opset: of ONNX operators; 18 is the first with the antialiased resize.
    simplify: fold constants and fuse (onnxslim); kept only if the checker still accepts the result.
    """

    suffix, name, backend = ".onnx", "ONNX", OnnxBackend

    def __init__(
        self,
        opset: int = 18,
        dynamic: bool = True,
        batch_size: int = 1,
        image_size: tuple[int, int] | None = None,
        layout: Layout = "nhwc",
        simplify: bool = True,
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(dynamic, batch_size, image_size, layout, facts)
        self.opset, self.simplify = opset, simplify

    def export(self, task: Task, path: Path) -> None:
        import onnx

        module, image, free = self.traceable(task)
        with torch.no_grad():
            names = list(module(image))
        program = self._trace(module, image, free, names)
        model = program.model_proto
        if self.simplify:
            model = simplified(model)
        card = task.card()
        metadata = {"aicore": card.to_json(), "layout": self.layout, "classes": ",".join(card.classes)}
        onnx.helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, str(path))
        logger.info(
            "{}: opset {}, {:.1f} MB, outputs {}", path.name, self.opset, path.stat().st_size / 1e6, ", ".join(names)
        )

    def _trace(self, module: torch.nn.Module, image: torch.Tensor, free: Any, names: list[str]) -> Any:
        """torch's dynamo exporter, whose progress lines and converter warnings say nothing to a user."""
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            _quiet("torch.onnx", "onnxscript", "onnx_ir"),
        ):
            warnings.simplefilter("ignore")
            return torch.onnx.export(
                module,
                (image,),
                dynamo=True,
                dynamic_shapes=free,
                input_names=["images"],
                output_names=names,
                opset_version=self.opset,
                optimize=True,
                verbose=False,
            )


def simplified(model: Any) -> Any:
    """onnxslim's version of a model; the model itself, with a warning, where that fails."""
    import onnx
    import onnxslim

    try:
        slim = onnxslim.slim(model)
        onnx.checker.check_model(slim, full_check=True)
    except Exception as error:  # a simplifier's failure must not cost the user the export
        logger.warning("not simplified: {}", str(error).splitlines()[0] if str(error) else type(error).__name__)
        return model
    return slim


@contextlib.contextmanager
def _quiet(*names: str) -> Any:
    loggers = [logging.getLogger(name) for name in names]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels):
            one.setLevel(level)
