"""From raw pixels to a model's input: settings and geometry in numpy; the torch module on top of them in `module`."""

from __future__ import annotations

import importlib
from typing import Any

from dao.preprocess.geometry import Placement, placement
from dao.preprocess.settings import PreprocessSettings

__all__ = ["Placement", "Preprocess", "PreprocessSettings", "placement"]


def __getattr__(name: str) -> Any:
    """`Preprocess` where it always was, for those who have torch; the rest of this room does without."""
    if name == "Preprocess":
        return importlib.import_module("dao.preprocess.module").Preprocess
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
