"""A prediction as plain JSON values, with the same keys whatever the problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dao.answers.card import ModelCard
from dao.answers.verdicts import REVIEW, verdict
from dao.structures import Prediction

if TYPE_CHECKING:
    from dao.answers.base import Answer


def as_dict(kind: type[Answer], prediction: Prediction, card: ModelCard) -> dict[str, Any]:
    """The verdict, its score, and what it rests on; what a problem does not have is empty.

    verdict: "good", "bad", or "review": nobody knows which classes mean a bad part, or there is no answer (``error``).
    badness: what the operating point is compared with (`Answer.badness`); None without a verdict. score: the same number,
    where nobody knows what is bad that of the answer itself. label, labels: of the picture; scores: by class; boxes, regions:
    places as `describe` has them.
    """
    known = kind.describe(prediction, card) if not prediction.error else {}
    sure = not prediction.error and prediction.bad is not None
    label, score = known.get("label"), None if prediction.error else round(float(kind.badness(prediction, card)), 6)
    height, width = prediction.original_hw
    return {
        "verdict": verdict(bool(prediction.bad)) if sure else REVIEW,
        "score": score,
        "badness": score if sure else None,
        "label": label,
        "labels": known.get("labels", [label] if label is not None else []),
        "scores": known.get("scores", {}),
        "boxes": known.get("boxes", []),
        "regions": known.get("regions", []),
        "path": prediction.path,
        "height": height,
        "width": width,
        "task": card.task,
        "error": prediction.error,
    }
