"""`dao.runtime.Predictor` under the name that it always had; and what answers with torch, imported when asked for."""

from __future__ import annotations

import importlib
from typing import Any

from dao.runtime.backends import Backend, backend_of
from dao.runtime.onnx_backend import OnnxBackend
from dao.runtime.predictor import Predictor, fit_channels

__all__ = ["Backend", "OnnxBackend", "Predictor", "backend_of", "fit_channels"]


def __getattr__(name: str) -> Any:
    if name in ("TorchBackend", "TorchExportBackend", "pick_device"):
        return getattr(importlib.import_module("dao.tasks.backends"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
