"""What classifiers are counted by, as pure functions of scores and labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    found = {}
    counts = np.stack([(predicted & truth).sum(0), predicted.sum(0), truth.sum(0)], 1).tolist()
    columns, own = np.ascontiguousarray(scores.T), np.ascontiguousarray(truth.T)  # a class's scores side by side
    for k, (name, (hits, said, are)) in enumerate(zip(classes, counts, strict=True)):
        area, steps = areas(columns[k], own[k])
        found[name] = {
            "support": are,
            "precision": hits / said if said else None,
            "recall": hits / are if are else None,
            "f1": 2 * hits / (said + are) if are else None,
            "auroc": area if area == area else None,
            "average_precision": steps if are else None,
        }
    return found


def areas(scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """The area under the receiver operating curve of one class, and that under the steps of precision over recall.

    scores, truth: (N,). Equal scores count half in the first and come together in the second. NaN: without pictures of the
    class, and the first without others. Both from one sort, and from places of the class's own scores in it.
    """
    total, others = int(truth.sum()), int((~truth).sum())
    if not total:
        return float("nan"), float("nan")
    ordered, own = np.sort(scores), np.sort(scores[truth])
    below, upto = np.searchsorted(ordered, own, "left"), np.searchsorted(ordered, own, "right")
    ranks = (below + upto + 1) / 2  # mean place, from 1, of each group of equal scores
    area = (ranks.sum() - total * (total + 1) / 2) / (total * others) if others else float("nan")
    hits = total - np.searchsorted(own, own, "left")  # pictures of the class from each score up, of all that are called
    return float(area), float((hits / (len(ordered) - below)).mean())


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
