"""What classifiers are counted by, as pure functions of scores and labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.evaluators import factory


def ranks_of(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) place of each picture's label among its scores, from 0. Of equal scores the lower class index comes first,
    as with argmax: so top-1 agrees with the answer, top-k is never below it, and a model that gives every class the
    same score is right by chance only.

    scores: (N, K); labels: (N,).
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    before = np.arange(scores.shape[1])[None] < labels[:, None]
    return ((scores > own) | ((scores == own) & before)).sum(1)


def per_class(
    classes: list[str], scores: NDArray[np.float32], truth: NDArray[np.bool_], predicted: NDArray[np.bool_]
) -> dict[str, dict[str, Any]]:
    """Precision, recall, F1, AUROC (one against the rest), average precision; None where the set cannot say."""
    ap = average_precisions(scores, truth)
    found = {}
    for k, name in enumerate(classes):
        hits, said, are = (int(x.sum()) for x in (predicted[:, k] & truth[:, k], predicted[:, k], truth[:, k]))
        area = factory.auroc(scores[:, k], truth[:, k])
        found[name] = {
            "support": are,
            "precision": hits / said if said else None,
            "recall": hits / are if are else None,
            "f1": 2 * hits / (said + are) if are else None,
            "auroc": area if area == area else None,
            "average_precision": ap[k] if are else None,
        }
    return found


def average_precisions(scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> list[float]:
    """(K,) area under each class's precision-recall steps; NaN for a class without pictures."""
    return [step_area(scores[:, k], truth[:, k]) for k in range(scores.shape[1])]


def step_area(scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """Area under the steps of precision over recall of one class, (N,) each; equal scores come together."""
    total = int(truth.sum())
    if not total:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], np.cumsum(truth[order])
    last_of_ties = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    hits = hits[last_of_ties]
    return float((np.diff(hits, prepend=0) * (hits / (last_of_ties + 1))).sum() / total)


def macro(rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Means over the classes that have pictures. A class that is never predicted has precision 0 in the mean."""
    present = [row for row in rows.values() if row["support"]]
    names = ("precision", "recall", "f1", "auroc", "average_precision")
    means = {}
    for name in names:
        values = [0.0 if row[name] is None and name == "precision" else row[name] for row in present]
        known = [value for value in values if value is not None]
        means[name] = float(np.mean(known)) if known else float("nan")
    return means


def confusion(predicted: NDArray[np.int64], truth: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """(K, K) counts, rows the truth, columns what was said."""
    return np.bincount(truth * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)
