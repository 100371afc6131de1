"""Checkpoints: written whole or not at all, read as data and never as code, and weights of other makers.

A checkpoint is one file made by torch.save: weights, EMA weights, optimizer, scheduler, scaler, hook states, epoch,
iteration, resolved config, class names, preprocessing, metrics, versions. Only tensors and plain values, so that
``weights_only=True`` reads it.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from loguru import logger
from torch import Tensor, nn

from dao.errors import CheckpointError, RunError, reason_of
from dao.files import atomic
from dao.processes import dist, failures

FORMAT = 1
StateDict = dict[str, Tensor]
# where published files keep their weights, outermost first
WEIGHT_KEYS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model", "model_state_dict")


# -- ours ------------------------------------------------------------------------------------------------------------


def save(content: Mapping[str, Any], path: Path, previous: Path | None = None) -> None:
    """Write a checkpoint atomically: temporary file, flush to disk, read back, rename. The old file stays until then.

    previous: the name under which the old file is kept, for the day on which the disk spoils the new one.
    Raises RunError when the disk refuses.
    """
    temporary = atomic.temporary_of(path)
    refused: list[OSError] = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, "checksum": checksum(content), **content}, Remembering(file, refused))
            file.flush()
            os.fsync(file.fileno())
        load(temporary)  # proven before it takes the old one's place
        if previous is not None and path.is_file():
            keep(path, previous)
        temporary.replace(path)
        atomic.flush_folder(path.parent)
    except (OSError, RuntimeError, CheckpointError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = refused[0] if refused else error
        if isinstance(reason, RuntimeError):
            raise
        said = failures.of_system(reason) if isinstance(reason, OSError) else str(reason)
        kept = ". The one written before it is untouched" if path.is_file() else ""
        raise RunError(f"{path} could not be written: {said}{kept}") from error


class Remembering:
    """A file whose refusals are kept: torch.save turns what the system says of a failed write into words of its own."""

    def __init__(self, file: IO[bytes], refused: list[OSError]) -> None:
        self.file, self.refused = file, refused

    def write(self, data: Any) -> int:
        """As the file's; what it raises is added to ``refused``."""
        try:
            return self.file.write(data)
        except OSError as error:
            self.refused.append(error)
            raise

    def flush(self) -> None:
        """As the file's."""
        self.file.flush()


def keep(path: Path, name: Path) -> None:
    """Give a file a second name, so that at no moment it has none; a copy on disks that know no second names."""
    temporary = atomic.temporary_of(name)
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
    temporary.replace(name)


def checksum(content: Any) -> int:
    """CRC-32 over all tensors' bytes and all plain values, in order: torch reads a flipped bit without a word."""
    return _crc(content, 0)


def _crc(value: Any, crc: int) -> int:
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().flatten()
        crc = zlib.crc32(f"{value.dtype}{tuple(value.shape)}".encode(), crc)
        return zlib.crc32(flat.view(torch.uint8).numpy(), crc) if flat.numel() else crc
    if isinstance(value, Mapping):
        for key, item in value.items():
            crc = _crc(item, zlib.crc32(repr(key).encode(), crc))
        return crc
    if isinstance(value, list | tuple):
        for item in value:
            crc = _crc(item, crc)
        return zlib.crc32(str(len(value)).encode(), crc)
    return zlib.crc32(repr(value).encode(), crc)


def load(path: Path, data: bytes | None = None) -> dict[str, Any]:
    """A checkpoint of ours, on the CPU; data: the file's bytes, where they came another way than from the disk.

    Raises CheckpointError when it is missing, torn, damaged, foreign or newer than us.
    """
    content = read_file(path, data)
    if not isinstance(content, dict) or "format" not in content:
        raise CheckpointError(
            f"{path} holds weights but is not a checkpoint of AICore: it has no config, classes or preprocessing. "
            f"To start from its weights, name it in model.kwargs.checkpoint_path."
        )
    if not isinstance(content["format"], int) or isinstance(content["format"], bool) or content["format"] < 1:
        raise CheckpointError(
            f"{path} is damaged: its format is {str(content['format'])[:40]!r}, and no number from 1 up"
        )
    if content["format"] > FORMAT:
        raise CheckpointError(
            f"{path} has format {content['format']}, this version reads up to {FORMAT}; update AICore"
        )
    wanted = content.pop("checksum", None)
    if wanted is not None and wanted != checksum({k: v for k, v in content.items() if k != "format"}):
        raise CheckpointError(f"{path} was damaged after it was written: its checksum does not hold")
    return content


def load_everywhere(path: Path, content: dict[str, Any] | None = None) -> dict[str, Any]:
    """As `load`, on every process; a machine that does not share process 0's disk is sent the file.

    content: the file's, where this process has read it already.
    """
    if all(dist.all_gather_object(path.is_file())):
        return content if content is not None else load(path)
    data = dist.broadcast_object(path.read_bytes() if dist.is_main() else b"")
    return content if content is not None else load(path, data)


def read_file(path: Path, data: bytes | None = None) -> Any:
    """What torch.load or safetensors finds in a file, or in its bytes, on the CPU, data only."""
    if data is None and not path.is_file():
        raise CheckpointError(f"{path} does not exist (working directory: {Path.cwd()})")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        source = path if data is None else io.BytesIO(data)
        return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # whose own words advise to load it unsafely
        raise CheckpointError(
            f"{path} was not loaded: it is no archive of tensors and plain values alone, and what else is in it could run "
            "code, which a checkpoint is never let do here. A file from elsewhere is used by its tensors: save its state "
            "dict alone, where it was made"
        ) from None
    except Exception as error:  # whatever bytes that are no checkpoint make the reader stumble over
        raise CheckpointError(f"{path} is torn or not a checkpoint ({reason_of(error)})") from None


def _read_safetensors(path: Path) -> dict[str, Any]:
    """The tensors of anybody's file; of our exporter's the checkpoint that it stands for, without what training needs."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except Exception as error:  # SafetensorError, and whatever a header of any kind makes torch and Python stumble over
        raise CheckpointError(f"{path} is not a readable safetensors file: {reason_of(error)}") from None
    if "aicore" not in metadata:
        return weights
    if metadata.get("checksum") != str(checksum(dict(sorted(weights.items())))):
        raise CheckpointError(f"{path} was damaged after it was written: its checksum does not hold")
    told = {"config": metadata.get("config"), "card": metadata["aicore"]}
    return {"format": FORMAT, "model": weights, "ema": None, **told, "epoch": 0, "metrics": {}, "best": {}}


def find(path: str | Path, prefer: str = "best") -> Path:
    """The checkpoint file that ``path`` means: itself, or the best (else latest) of a run folder."""
    path = Path(path)
    if path.is_file():
        return path
    for folder in (path, path / "checkpoints"):
        for name in (prefer, "best", "latest"):
            if (folder / f"{name}.ckpt").is_file():
                if name != prefer:
                    logger.warning("{} has no {}.ckpt: {}.ckpt is taken", folder, prefer, name)
                return folder / f"{name}.ckpt"
    if path.is_dir():
        raise CheckpointError(f"{path} holds no checkpoints/best.ckpt or latest.ckpt; is it a run folder?")
    raise CheckpointError(f"{path} does not exist (working directory: {Path.cwd()})")


def inference_weights(content: Mapping[str, Any], source: str = "the checkpoint") -> StateDict:
    """The weights a checkpoint answers with: the EMA's where there are any. Raises CheckpointError where there are none."""
    weights = content.get("ema") or content.get("model")
    if not isinstance(weights, Mapping) or not all(isinstance(one, Tensor) for one in weights.values()):
        raise CheckpointError(f"{source} is damaged: it holds no weights under 'ema' or 'model'")
    return weights  # type: ignore[return-value]


# -- of other makers -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class FitReport:
    """What of a file's weights fitted a model. Names are the model's, except ``unexpected``, which are the file's."""

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    by_order: bool = False

    def render(self) -> str:
        """One line of what was loaded, and one each of what was not and of what the file holds beside it."""
        total = len(self.loaded) + len(self.missing) + len(self.mismatched)
        how = ", by their order and shape as the names differ" if self.by_order else ""
        told = {
            "of the model are not in the file, and start as a new model's do": self.missing,
            "of the model have another shape in the file, and start as a new model's do": self.mismatched,
            "of the file have no place in this model, and are left out": self.unexpected,
        }
        lines = [f"  {len(names)} {what}: {_shorten(names)}" for what, names in told.items() if names]
        return "\n".join([f"{len(self.loaded)} of the model's {total} tensors were loaded{how}", *lines])


def _shorten(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f", ... and {len(names) - limit} more" if len(names) > limit else "")


def load_weights(path: str | Path) -> StateDict:
    """The state dict in a file of ours, of timm, torchvision or others: unwrapped, without ``module.`` prefixes."""
    content = read_file(Path(path))
    if isinstance(content, dict) and "format" in content:
        return inference_weights(content)
    for key in WEIGHT_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict) and content[key]:
            content = content[key]
            break
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise CheckpointError(f"{path} holds no weights: expected a dict of tensors, at the top or under {WEIGHT_KEYS}")
    return {re.sub(r"^(module\.|_orig_mod\.)+", "", name): value for name, value in tensors.items()}


def fit(model: nn.Module, weights: StateDict) -> FitReport:
    """Copy into ``model`` every tensor of ``weights`` whose name and shape fit; the rest is reported.

    Where fewer than half of the names are known, the same network under other names is tried (torchvision's
    MobileNet in timm's): the tensors in order, if their shapes agree one by one up to the classifier.
    """
    own = model.state_dict()
    by_name = _match_by_name(own, weights)
    counted = [name for name in own if not name.endswith("num_batches_tracked")]
    if sum(name in by_name for name in counted) * 2 < len(counted):
        by_order = _match_by_order(own, weights)
        if len(by_order) > len(by_name):
            return _copy(model, own, by_order, weights, by_order=True)
    return _copy(model, own, by_name, weights, by_order=False)


def _match_by_name(own: StateDict, weights: StateDict) -> dict[str, str]:
    return {name: name for name in own if name in weights and own[name].shape == weights[name].shape}


def _match_by_order(own: StateDict, weights: StateDict) -> dict[str, str]:
    """Own name -> file's name, walking both in order; empty unless everything but a last layer agrees in shape."""
    ours = [n for n in own if not n.endswith("num_batches_tracked")]
    theirs = [n for n in weights if not n.endswith("num_batches_tracked")]
    matched: dict[str, str] = {}
    for mine, other in zip(ours, theirs):
        if own[mine].shape != weights[other].shape:
            break
        matched[mine] = other
    head = 2  # weight and bias of the classifier may be of another number of classes
    return matched if len(ours) == len(theirs) and len(matched) >= len(ours) - head else {}


def _copy(model: nn.Module, own: StateDict, match: dict[str, str], weights: StateDict, by_order: bool) -> FitReport:
    model.load_state_dict({mine: weights[other] for mine, other in match.items()}, strict=False)
    rest = [n for n in own if n not in match and not n.endswith("num_batches_tracked")]
    used = set(match.values())
    return FitReport(
        loaded=[n for n in match if not n.endswith("num_batches_tracked")],
        missing=[n for n in rest if n not in weights],
        mismatched=[n for n in rest if n in weights],
        unexpected=[n for n in weights if n not in used and n not in own and not n.endswith("num_batches_tracked")],
        by_order=by_order,
    )
