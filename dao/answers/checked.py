"""The one door through which a model's arrays become predictions, whatever ran it: what is no answer does not pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.errors import AnswerError, CheckpointError
from dao.structures import Batch, Prediction

Outputs = dict[str, NDArray[Any]]
Shape = Sequence[int | None]  # of a picture's part of an array; None for a side that may have any length


def checked(
    outputs: Mapping[str, NDArray[Any]], expected: Mapping[str, Shape], classes: int, pictures: int
) -> dict[str, NDArray[Any]]:
    """The arrays, which are what the card promises, and finite.

    expected: shapes by name, without the first axis, which is ``pictures`` long; whole numbers under a name that speaks
    of classes ("labels", "class_map") lie below ``classes``. Raises CheckpointError for arrays that the model's card does
    not promise: the file is of another model. Raises AnswerError for a NaN or an infinity: what follows (an argmax, a
    threshold, a suppression) would make "no defect" of it.
    """
    for name, shape in expected.items():
        if name not in outputs:
            found = ", ".join(outputs) or "nothing"
            raise CheckpointError(f"the model answers with {found}; its card promises '{name}': the file is damaged")
        have = np.shape(outputs[name])
        if len(have) != 1 + len(shape) or have[0] != pictures or not _fits(have[1:], shape):
            promised = [pictures, *("any" if side is None else side for side in shape)]
            raise CheckpointError(
                f"the model's '{name}' has the shape {list(have)}, its card promises {promised}: the file is damaged"
            )
        if name in ("labels", "class_map"):
            _refuse_unknown_classes(name, outputs[name], classes)
    for name, values in outputs.items():
        refuse_non_finite(name, values)
    return dict(outputs)


def _fits(have: Sequence[int], shape: Shape) -> bool:
    return all(want is None or side == want for side, want in zip(have, shape))


def _refuse_unknown_classes(name: str, values: NDArray[Any], classes: int) -> None:
    if values.dtype.kind not in "iu" or (values.size and (values.max() >= classes or values.min() < -1)):
        raise CheckpointError(f"the model's '{name}' holds more than the numbers of its {classes} classes")


def refuse_non_finite(name: str, values: NDArray[Any]) -> None:
    """Raise AnswerError where an array of floats holds a NaN or an infinity."""
    if values.dtype.kind != "f" or is_finite(values):
        return
    count = int(values.size - np.isfinite(values).sum())
    raise AnswerError(
        f"no answer: {count} of {values.size} numbers of the model's '{name}' are not finite (NaN or infinity). Its weights or "
        "its arithmetic are damaged, so this says nothing about the picture"
    )


def is_finite(values: NDArray[Any]) -> bool:
    """Whether all are finite. A sum tells it in one pass; one that overflows is looked at again."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum(dtype=values.dtype))) or bool(np.isfinite(values).all())


def all_of(answers: Sequence[Prediction | AnswerError]) -> list[Prediction]:
    """The predictions of a batch. Raises the first AnswerError among them."""
    for one in answers:
        if isinstance(one, AnswerError):
            raise one
    return list(answers)  # type: ignore[arg-type]


def sound_of(answers: Sequence[Prediction | AnswerError], batch: Batch) -> list[Prediction]:
    """The predictions of a batch; a picture without one leaves the batch, and stands in its ``bad`` with the reason."""
    reasons = {i: str(one) for i, one in enumerate(answers) if isinstance(one, AnswerError)}
    if reasons:
        batch.leave_out(reasons)
    return [one for one in answers if not isinstance(one, AnswerError)]
