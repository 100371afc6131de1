"""What an inspector counts: which true boxes were found, which found boxes are false alarms, at any score.

Boxes are matched once, the best score first, as COCO does it. A box below a score is then simply not counted: leaving
out the weakest changes nothing about the matches of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.answers.verdicts import shown_boxes
from dao.evaluators import factory
from dao.evaluators.coco_ap import PictureBoxes, on_difficult, overlaps

HIT, FALSE_ALARM, IGNORED = 1, 0, -1


@dataclass(frozen=True, slots=True)
class Matches:
    """Every found and every true box of a set, one row each.

    Found: picture (M,), label (M,), score (M,), verdict (M,) of HIT, FALSE_ALARM, IGNORED.
    True, those that count: true_picture (G,), true_label (G,), found_at (G,) the score that it was found with; -1: missed.
    """

    picture: NDArray[np.int64]
    label: NDArray[np.int64]
    score: NDArray[np.float64]
    verdict: NDArray[np.int64]
    true_picture: NDArray[np.int64]
    true_label: NDArray[np.int64]
    found_at: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pairing:
    """One picture's verdicts. verdict: (N,) of its found boxes; found_at: (G,) score that each true box was found with,
    -1 where it was missed."""

    verdict: NDArray[np.int64]
    found_at: NDArray[np.float64]


def pair(picture: PictureBoxes, iou_threshold: float) -> Pairing:
    """Which found box is which true one.

    Within each class, the best score first: a found box takes the free true box that it overlaps most, by at least the
    threshold; else, where it lies that much inside a crowd, it is ignored; else it is a false alarm. One whose object is
    a difficult one is ignored (`on_difficult`).
    """
    truth = picture.truth
    verdict = np.full(len(picture.scores), FALSE_ALARM, np.int64)
    found_at = np.full(len(truth.labels), -1.0)
    overlap = overlaps(picture.boxes_xyxy, truth)
    overlap[picture.labels[:, None] != truth.labels[None]] = -1
    near = (overlap >= iou_threshold).any(axis=1) if overlap.size else np.zeros(len(overlap), bool)
    aside = on_difficult(overlap, truth, iou_threshold)
    verdict[aside] = IGNORED
    order = np.argsort(-picture.scores, kind="stable")
    for i in order[(near & ~aside)[order]]:
        free = np.where(truth.ignore | (found_at >= 0), -1.0, overlap[i])
        best = int(free.argmax())
        if free[best] >= iou_threshold:
            verdict[i], found_at[best] = HIT, picture.scores[i]
        elif (overlap[i][truth.crowd] >= iou_threshold).any():
            verdict[i] = IGNORED
    return Pairing(verdict, found_at)


def tabulate(pictures: Sequence[PictureBoxes], pairings: Sequence[Pairing]) -> Matches:
    """The verdicts of all pictures as one table."""
    counted = [~picture.truth.ignore for picture in pictures]

    def join(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
        return np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype)

    return Matches(
        picture=np.repeat(np.arange(len(pictures)), [len(p.scores) for p in pictures]),
        label=join([p.labels for p in pictures], np.int64),
        score=join([p.scores for p in pictures], np.float64),
        verdict=join([p.verdict for p in pairings], np.int64),
        true_picture=np.repeat(np.arange(len(pictures)), [int(keep.sum()) for keep in counted]),
        true_label=join([p.truth.labels[keep] for p, keep in zip(pictures, counted)], np.int64),
        found_at=join([p.found_at[keep] for p, keep in zip(pairings, counted)], np.float64),
    )


def at_score(
    matches: Matches,
    score: float,
    pictures: int,
    label: int | None = None,
    own: Mapping[int, float] = MappingProxyType({}),
) -> dict[str, Any]:
    """What is counted when boxes from ``score`` on are shown, of one class or of all; own: scores of single classes."""
    of_class, of_true = _of(matches, label)
    shown = of_class & shown_boxes(matches.label, matches.score, score, own)
    hits, alarms = (int((shown & (matches.verdict == kind)).sum()) for kind in (HIT, FALSE_ALARM))
    found, total = (
        int((of_true & shown_boxes(matches.true_label, matches.found_at, score, own)).sum()),
        int(of_true.sum()),
    )
    said = hits + alarms
    return {
        "score": score if label is None else own.get(label, score),
        "boxes": total,
        "recall": _rate(found, total),
        "precision": _rate(hits, said),
        "f1": 2 * hits / (said + total) if total else None,
        "missed": total - found,
        "false_alarms": alarms,
        "false_alarms_per_picture": alarms / pictures if pictures else None,
    }


def best_f1(matches: Matches, label: int | None = None) -> dict[str, float | None]:
    """The highest F1 over all scores, and the score it is reached at (of equal ones the highest)."""
    of_class, of_true = _of(matches, label)
    counted = of_class & (matches.verdict != IGNORED)
    order = np.argsort(-matches.score[counted], kind="stable")
    scores, hits = matches.score[counted][order], (matches.verdict[counted][order] == HIT).cumsum()
    total = int(of_true.sum())
    if not total:
        return {"f1": None, "score": None}
    if not len(scores) or hits[-1] == 0:
        return {"f1": 0.0, "score": None}
    last_of_ties = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    f1 = 2 * hits[last_of_ties] / (last_of_ties + 1 + total)
    best = int(f1.argmax())
    return {"f1": float(f1[best]), "score": float(scores[last_of_ties[best]])}


def curve(
    matches: Matches, pictures: int, own: Mapping[int, float] = MappingProxyType({})
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(M,) falling scores, and how many true boxes are found and false alarms there are a picture from each on.

    own: scores of single classes: where one is reached the box is shown at any score, elsewhere at none. So `at_score`
    lies on the curve.
    """
    alone = np.isin(matches.label, list(own))
    scores = np.where(alone, np.inf, matches.score.astype(np.float64))
    counted = (matches.verdict != IGNORED) & (~alone | shown_boxes(matches.label, matches.score, np.inf, own))
    order = np.argsort(-scores[counted], kind="stable")
    scores, hit = scores[counted][order], matches.verdict[counted][order] == HIT
    last_of_ties = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)[: len(scores)]
    return scores[last_of_ties], hit.cumsum()[last_of_ties], (~hit).cumsum()[last_of_ties] / max(pictures, 1)


def by_class(matches: Matches, num_classes: int) -> list[Matches]:
    """The rows of each class, in their order: to look through all of them for each takes classes times boxes."""
    found, true = (_places(labels, num_classes) for labels in (matches.label, matches.true_label))
    return [
        Matches(
            *(getattr(matches, name)[rows] for name in ("picture", "label", "score", "verdict")),
            *(getattr(matches, name)[true_rows] for name in ("true_picture", "true_label", "found_at")),
        )
        for rows, true_rows in zip(found, true)
    ]


def _places(labels: NDArray[np.int64], num_classes: int) -> list[NDArray[np.int64]]:
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.searchsorted(labels[order], np.arange(1, num_classes)))


def _of(matches: Matches, label: int | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    if label is None:
        return np.ones(len(matches.label), bool), np.ones(len(matches.true_label), bool)
    return matches.label == label, matches.true_label == label


def _rate(count: int, total: int) -> dict[str, Any] | None:
    return asdict(factory.wilson(count, total)) if total else None


def confusion(
    pictures: Sequence[PictureBoxes],
    pairings: Sequence[Pairing],
    num_classes: int,
    iou_threshold: float,
    score: float,
    own: Mapping[int, float] = MappingProxyType({}),
) -> NDArray[np.int64]:
    """(K + 1, K + 1) boxes: rows the truth, columns what was said; the last ones are the background.

    Boxes of the right class are matched first, so that the diagonal is what `at_score` calls found; then, by overlap,
    what is left over of both sides is taken for confused; what remains was missed, or is a false alarm.
    """
    counts = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for picture, pairing in zip(pictures, pairings):
        verdict, found_at = pairing.verdict, pairing.found_at
        shown = shown_boxes(picture.labels, picture.scores, score, own)
        hit = shown & (verdict == HIT)
        np.add.at(counts, (picture.labels[hit], picture.labels[hit]), 1)
        left = np.flatnonzero(shown & (verdict == FALSE_ALARM))
        missed = np.flatnonzero(~picture.truth.ignore & ~shown_boxes(picture.truth.labels, found_at, score, own))
        pairs = confused_pairs(overlaps(picture.boxes_xyxy[left], picture.truth.take(missed)), iou_threshold)
        for i, j in pairs:
            counts[picture.truth.labels[missed[j]], picture.labels[left[i]]] += 1
        rest = np.delete(left, [i for i, _ in pairs])
        unseen = np.delete(missed, [j for _, j in pairs])
        np.add.at(counts, (num_classes, picture.labels[rest]), 1)
        np.add.at(counts, (picture.truth.labels[unseen], num_classes), 1)
    return counts


def confused_pairs(overlap: NDArray[np.float64], iou_threshold: float) -> list[tuple[int, int]]:
    """Rows and columns paired one to one, the largest overlap first, down to the threshold."""
    pairs: list[tuple[int, int]] = []
    overlap = overlap.copy()
    while overlap.size and overlap.max() >= iou_threshold:
        i, j = np.unravel_index(overlap.argmax(), overlap.shape)
        pairs.append((int(i), int(j)))
        overlap[i, :] = overlap[:, j] = -1
    return pairs
