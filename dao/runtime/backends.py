"""What answers for a model, found by the ending of a file's name; each is imported when such a file is opened."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dao.answers.card import ModelCard
from dao.answers.checked import Outputs
from dao.errors import CheckpointError

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


ONNX = "dao.runtime.onnx_backend:OnnxBackend"
WITH_TORCH = {
    ".pt2": "dao.tasks.backends:TorchExportBackend",
    ".safetensors": "dao.tasks.backends:TorchBackend",
    "": "dao.tasks.backends:TorchBackend",  # checkpoints and run folders
}
KINDS = ".onnx, .pt2, .safetensors, .ckpt"
CHECKPOINTS = b"PK", b"\x80"  # how the archives and the pickles begin that torch writes, whatever they are called


def backend_of(path: str | Path) -> Callable[..., Backend] | None:
    """What runs an exported file, by the ending of its name and the registered exporters; None for other files.

    For those that hold a model's weights, and serve as a checkpoint, it is what answers with a checkpoint.
    """
    name = Path(path).name.lower()
    for component in _exporters():
        suffix, backend = getattr(component, "suffix", None), getattr(component, "backend", None)
        if isinstance(suffix, str) and backend is not None and name.endswith(suffix.lower()):
            return backend
    if name.endswith(".onnx"):
        return located(ONNX)
    return next((_with_torch(place) for suffix, place in WITH_TORCH.items() if suffix and name.endswith(suffix)), None)


def _exporters() -> list[Any]:
    """Those that have been registered; none where nobody has imported the registers yet, which takes its time."""
    if (register := sys.modules.get("dao.register")) is None:
        return []
    return [register.Registers.exporters.get(name) for name in register.Registers.exporters]


def open_file(path: Path, device: Any = "auto", trust: bool = False) -> Backend:
    """What answers for a checkpoint, a run folder or an exported file.

    device: "auto", "cpu", "cuda", "cuda:1", or a torch.device. trust: whether the user trusts a file that can run code
    when it is read. Raises CheckpointError for what cannot be used.
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist (working directory: {Path.cwd()})")
    refuse_other_files(path)
    make = (backend_of(path) if path.is_file() else None) or _with_torch(WITH_TORCH[""])
    if not getattr(make, "device_by_name", False):
        device = _torch_device(device)
    return make(path, device, trust) if getattr(make, "runs_code", False) else make(path, device)


def refuse_other_files(path: Path) -> None:
    """Raise CheckpointError for a file that neither is called nor begins as a model does, before torch is imported to say so."""
    if not path.is_file() or path.suffix.lower() == ".ckpt" or backend_of(path) is not None:
        return
    with path.open("rb") as file:
        begins = file.read(2)
    if not begins.startswith(CHECKPOINTS):
        raise CheckpointError(f"{path} is no model ({KINDS}), nor of an exporter that is known here")


def located(place: str) -> Any:
    """What "module:name" means; imported here, so that nothing is which is not asked for."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _torch_device(device: Any) -> Any:
    """As `torch.device`, which a backend expects that does not say otherwise; unchanged where there is no torch."""
    try:
        return located("dao.tasks.backends:pick_device")(device)
    except ModuleNotFoundError:
        return device


def _with_torch(place: str) -> Callable[..., Backend]:
    """What answers with torch, after all that it may have to build is known by name."""
    from dao.register import import_all_modules_for_register

    try:
        import_all_modules_for_register()
        return located(place)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"only an .onnx file can be answered with here: all else needs the whole of AICore, and {error.name} is not "
            "installed (pip install aicore)"
        ) from None
