"""What a user's own dataset, model or loss must hold to, said in one message with its name where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dao.errors import ConfigError, Problem


def check_dataset(dataset: Any, name: str, where: str) -> None:
    """Class names, and records with a path and labels among them. Raises ConfigError naming the dataset's type."""
    problem = _dataset_problem(dataset)
    if problem:
        raise ConfigError(Problem(f"{where}.type", f"{name} {problem}"))


def _dataset_problem(dataset: Any) -> str:
    for attribute in ("records", "classes", "census"):
        if not hasattr(dataset, attribute):
            message = "derive from dao.dataloaders.datasets.base.ImageDataset, and call its __init__(records, classes)"
            return f"has no '{attribute}': {message}"
    names = list(dataset.classes)
    if not all(isinstance(name, str) for name in names):
        return f"gives classes that are no text: {names[:3]}"
    for index, record in enumerate(dataset.records):
        if not isinstance(getattr(record, "path", None), str):
            return f"gives a record without a path in text, number {index}: {record!r:.80}; records are of dao's Record"
        wrong = [label for label in _labels(record) if not _is_class(label, len(names))]
        if wrong:
            kind = f"an index from 0 to {len(names) - 1}" if names else "none: there are no classes"
            return f"gives {record.path} the label {wrong[0]!r}; expected {kind} ({', '.join(names[:6])})"
    return ""


def _labels(record: Any) -> Sequence[Any]:
    """A record's labels as it was given them; records of masks and boxes check their own."""
    several = getattr(record, "label_set", None)
    label = getattr(record, "label", None)
    return list(several) if several is not None else ([] if label is None else [label])


def _is_class(label: Any, count: int) -> bool:
    return hasattr(label, "__index__") and not isinstance(label, bool) and -1 <= int(label) < count


def check_output(model: Any, output: Any, shape: tuple[int, ...] | None) -> None:
    """What a model gives for one picture has the shape that its task reads; None: the model's own affair.

    Raises ConfigError naming the model.
    """
    if shape is None or (isinstance(output, Tensor) and tuple(output.shape) == shape):
        return
    got = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
    message = f"{type(model).__name__} gives {got} for one picture; expected logits, a tensor of shape {shape}"
    raise ConfigError(Problem("model.type", message))


def check_loss_value(loss: Any, value: Any) -> None:
    """One number, to be differentiated. Raises ConfigError naming the loss."""
    if isinstance(value, Tensor) and value.ndim == 0 and (value.is_floating_point() or value.is_complex()):
        return
    got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    message = (
        f"{type(loss).__name__} returns {got}; expected one number, a tensor without dimensions (.mean() makes one)"
    )
    raise ConfigError(Problem("loss.type", message))
