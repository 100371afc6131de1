"""Which of a detector's boxes are answered: score, suppression within each class, and a limit; numpy alone.

What a model does inside its graph is `dao.models.detection.answers.choose`; this is the same for a file that answers with
what is said before suppression.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dao.errors import ConfigError, Problem

CANDIDATES = 1000  # best-scored boxes of a picture among which overlaps are resolved, unless more are to be answered

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """Which boxes a detector answers with.

    score_threshold: no box below it; nms_threshold: of two boxes of one class that overlap by more than this IoU the
    better stays; max_detections: of the best of a picture. shown_threshold: the least score that is drawn.
    """

    score_threshold: float = 0.01
    nms_threshold: float = 0.65
    max_detections: int = 300
    shown_threshold: float = 0.3

    def problems(self, where: str) -> list[Problem]:
        """Values out of range; where: their place in the config."""
        found = [
            Problem(f"{where}.{name}", f"must lie in 0..1, got {getattr(self, name):g}")
            for name in ("score_threshold", "nms_threshold", "shown_threshold")
            if not 0 <= getattr(self, name) <= 1
        ]
        if self.max_detections < 1:
            found.append(Problem(f"{where}.max_detections", f"must be at least 1, got {self.max_detections}"))
        return found

    def checked(self, where: str) -> AnswerSettings:
        """Itself. Raises ConfigError for values out of range."""
        problems = self.problems(where)
        if problems:
            raise ConfigError(problems)
        return self

    def candidates(self, boxes: int) -> int:
        """How many of so many boxes are looked at."""
        return min(boxes, max(CANDIDATES, 2 * self.max_detections))


def corners(centred: Floats) -> Floats:
    """(..., 4) centre and size -> x0, y0, x1, y1."""
    half = centred[..., 2:] / 2
    return np.concatenate([centred[..., :2] - half, centred[..., :2] + half], axis=-1)


def chosen(
    dense: Floats, size_hw: tuple[int, int], settings: AnswerSettings
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Boxes (D, 4) x0, y0, x1, y1 in input pixels, their scores and labels (D,), the best first.

    dense: (A, 5 + K) of one picture: centre, size, probability of an object and of each class. All scores are NaN where
    anything of it is not finite.
    """
    said = dense[:, 5:] * dense[:, 4:5]
    labels = said.argmax(axis=1)
    scores, boxes = said[np.arange(len(said)), labels], corners(dense[:, :4])
    lost = not (np.isfinite(said).all() and np.isfinite(boxes).all())
    best = np.argsort(-scores, kind="stable")[: settings.candidates(len(scores))]
    boxes, scores, labels = boxes[best], scores[best], labels[best]
    kept = _kept(_fields(boxes, labels, dense.shape[1] - 5, size_hw), scores, settings)
    kept = kept[scores[kept] > 0][: settings.max_detections]
    return boxes[kept], np.full(len(kept), np.nan, np.float32) if lost else scores[kept], labels[kept].astype(np.int64)


def _fields(boxes: Floats, labels: NDArray[np.integer], num_classes: int, size_hw: tuple[int, int]) -> Floats:
    """The boxes, those of each class moved to a field of its own on one wide sheet, so that those of two never meet."""
    height, width = size_hw
    side = 2 * max(height, width)
    low = np.array([-width / 2, -height / 2] * 2, np.float32)
    columns = math.isqrt(num_classes - 1) + 1
    field = (np.stack([labels % columns, labels // columns], axis=1) * side).astype(np.float32)
    return np.clip(boxes, low, low + np.float32(side)) + np.tile(field, 2)


def _kept(boxes: Floats, scores: Floats, settings: AnswerSettings) -> NDArray[np.int64]:
    """Places of those above the threshold that no better one hides; boxes come the best first."""
    waiting = np.flatnonzero(scores.astype(np.float64) >= settings.score_threshold)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while len(waiting):
        first, waiting = waiting[0], waiting[1:]
        kept.append(first)
        near, far = np.maximum(boxes[first, :2], boxes[waiting, :2]), np.minimum(boxes[first, 2:], boxes[waiting, 2:])
        common = np.maximum(far - near, np.float32(0)).prod(axis=1)
        with np.errstate(invalid="ignore"):  # two boxes without area do not hide each other
            hidden = common / (areas[first] + areas[waiting] - common) > np.float64(settings.nms_threshold)
        waiting = waiting[~hidden]
    return np.array(kept, np.int64)
