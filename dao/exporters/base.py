"""What an exporter promises, and how pictures enter an exported file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from dao.config.signature import out_of_limits
from dao.errors import ConfigError, Problem
from dao.runtime.backends import Backend
from dao.tasks.base import Task

Layout = Literal["nhwc", "nchw"]
MAX_BATCH, MAX_SIDE = 4096, 32768


class Exporter(ABC):
    """Writes one file that answers without this code.

    suffix: of the file; name: what reports call the format.
    backend: what runs such a file, called with its path and a device: a `dao.runtime.backends.Backend`. By it the file is proven
    after it was written, and can be named wherever a checkpoint can be shown (Demo, Predictor). None where this
    machine cannot run it: then the file is written, and said not to be proven.
    dynamic: any batch and any picture size; otherwise ``batch_size`` pictures of ``image_size``, else of the model's
    own input size. layout: order of the uint8 input's axes.
    facts: what the file is to answer by where that differs from the checkpoint, e.g. {"score_threshold": 0.3}.
    """

    suffix: ClassVar[str]
    name: ClassVar[str]
    backend: ClassVar[Callable[[Path, torch.device], Backend] | None] = None
    # of exporters that have no such settings
    dynamic, batch_size, image_size, layout = True, 1, None, "nhwc"
    facts: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        dynamic: bool = True,
        batch_size: int = 1,
        image_size: tuple[int, int] | None = None,
        layout: Layout = "nhwc",
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.dynamic, self.batch_size, self.image_size, self.layout = dynamic, batch_size, image_size, layout
        self.facts = facts or {}

    @classmethod
    def check_config(cls, kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Numbers that are out of range."""
        height, width = kwargs.get("image_size") or (None, None)
        given = {"batch_size": kwargs.get("batch_size"), "image_size.0": height, "image_size.1": width}
        side = (1, MAX_SIDE)
        return out_of_limits(given, {"batch_size": (1, MAX_BATCH), "image_size.0": side, "image_size.1": side}, where)

    @abstractmethod
    def export(self, task: Task, path: Path) -> None:
        """Write ``task`` to ``path``, verified to be well-formed."""

    def opened(self, path: Path, device: torch.device) -> Backend | None:
        """What runs the file that `export` has just written, to prove it; None where this machine cannot."""
        make = type(self).backend
        return None if make is None else make(path, device)

    def traceable(self, task: Task) -> tuple[nn.Module, torch.Tensor, dict[str, object] | None]:
        """The module to trace, an example input, and which of its axes are free (None when none is).

        Raises ConfigError for a model that says in ``not_exportable`` why it cannot be traced.
        """
        reason = getattr(task.model, "not_exportable", "")
        if reason:
            raise ConfigError(Problem("export", reason))
        module = task.deployable()
        module.layout = self.layout
        h, w = self.example_hw(task)
        batch = 2 if self.dynamic else self.batch_size  # an example of 1 would be taken for a constant
        channels = task.preprocess.in_channels
        shape = (batch, h, w, channels) if self.layout == "nhwc" else (batch, channels, h, w)
        image = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return module.eval().cpu(), image, self._free_axes() if self.dynamic else None

    def example_hw(self, task: Task) -> tuple[int, int]:
        """Height and width to trace with: odd ones where any size is promised, so that nothing fits by accident."""
        h, w = self.image_size or task.preprocess.size
        return (h + 37, w + 53) if self.dynamic else (h, w)

    def _free_axes(self) -> dict[str, object]:
        dims = (
            torch.export.Dim("batch", min=1, max=MAX_BATCH),
            *(torch.export.Dim(side, min=2, max=MAX_SIDE) for side in ("height", "width")),
        )
        axes = (0, 1, 2) if self.layout == "nhwc" else (0, 2, 3)
        return {"images": dict(zip(axes, dims))}
