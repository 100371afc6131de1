"""Evaluation of classifiers: what is right and wrong per class, and what that means for the line."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.errors import ConfigError, Problem, nearest
from dao.evaluators import factory
from dao.evaluators.base import Evaluator
from dao.register import Registers
from dao.structures import Batch, Prediction
from dao.utils import dist

GOOD_NAMES = ("good", "ok", "pass", "normal", "defect_free")


@dataclass(slots=True)
class Results:
    """Every picture of an evaluation, in dataset order.

    paths: N; scores: (N, K); truth: (N, K) bool, all False where unlabelled; labelled: (N,) bool.
    """

    paths: list[str]
    scores: NDArray[np.float32]
    truth: NDArray[np.bool_]
    labelled: NDArray[np.bool_]

    def only_labelled(self) -> Results:
        """Those that metrics can be made of."""
        keep = np.flatnonzero(self.labelled)
        return Results([self.paths[i] for i in keep], self.scores[keep], self.truth[keep], self.labelled[keep])


@Registers.evaluators.register()
class ClsEvaluator(Evaluator):
    """Accuracy, per-class and macro precision, recall and F1, AUROC, average precision, confusion matrix; and, where
    classes are known to be good or defective, escape rate and false-alarm rate.

    top_k: also count a picture right when its label is among the k highest scores.
    positive: classes that mean a defect; good: classes that mean a good part. Naming one side gives the other; without
    either, a class called good, ok, pass, normal or defect_free is the good one.
    threshold: from which score on a label counts, where pictures carry several; worst: pictures on the worst-N sheet.
    Macro averages leave out classes without a picture in the set.
    """

    reads = ("scores", "label")

    def __init__(
        self,
        classes: list[str],
        top_k: list[int] | None = None,
        positive: list[str] | None = None,
        good: list[str] | None = None,
        threshold: float = 0.5,
        worst: int = 24,
    ) -> None:
        self.good = good_classes(list(classes), positive, good)
        self.top_k = [k for k in (top_k or [5]) if 1 < k < len(classes)]
        self.threshold, self.worst = threshold, worst
        self.best_metric = "top1"
        super().__init__(classes)

    def reset(self) -> None:
        self._rows: list[tuple[int, str, NDArray[np.float32], NDArray[np.bool_] | None]] = []
        self.multi_label = False
        self.results: Results | None = None
        self.details: dict[str, Any] = {}

    def update(self, predictions: list[Prediction], batch: Batch) -> None:
        truths = self._truths(batch)
        for prediction, index, truth in zip(predictions, batch.indices, truths, strict=True):
            self._rows.append((index, prediction.path, prediction.scores, truth))

    def _truths(self, batch: Batch) -> list[NDArray[np.bool_] | None]:
        if batch.targets is None or not len(batch):
            return [None] * len(batch)
        targets = batch.targets.cpu().numpy()
        if targets.ndim == 1:
            return list(np.eye(len(self.classes), dtype=bool)[targets])
        self.multi_label = True
        return list(targets > 0.5)

    def compute(self) -> dict[str, float]:
        gathered = dist.all_gather_object((self._rows, self.multi_label))
        self.multi_label = any(several for _, several in gathered)
        self.best_metric = "map" if self.multi_label else "top1"
        self.results = collate([row for rows, _ in gathered for row in rows], len(self.classes))
        known = self.results.only_labelled()
        self.details = self._details(known)
        return flatten(self.details)

    def metric_names(self) -> list[str]:
        """By evaluating one made-up picture a class, with one label and with several."""
        eye = np.eye(len(self.classes))
        made_up = Results([""] * len(eye), eye.astype(np.float32), eye > 0, np.ones(len(eye), bool))
        names: list[str] = []
        for several in (False, True):
            probe = copy.copy(self)
            probe.multi_label, probe.results = several, made_up
            names += [name for name in flatten(probe._details(made_up)) if name not in names]
        return names

    def _details(self, known: Results) -> dict[str, Any]:
        """Everything the report holds, nested; rates as values with intervals."""
        scores, truth = known.scores, known.truth
        predicted = self._predicted(scores)
        details: dict[str, Any] = {"pictures": len(scores), "unlabelled": len(self.results.paths) - len(scores)}
        if not len(scores):
            return details
        details |= self._accuracy(scores, truth, predicted)
        details["per_class"] = per_class(self.classes, scores, truth, predicted)
        details["macro"] = macro(details["per_class"])
        details["map"] = details["macro"]["average_precision"]
        if not self.multi_label:
            details["confusion_matrix"] = confusion(scores.argmax(1), truth.argmax(1), len(self.classes)).tolist()
        if self.good:
            details["factory"] = self._factory(scores, truth, predicted)
        return details

    def _predicted(self, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(N, K): what the model says, one class a picture unless they carry several."""
        if self.multi_label:
            return scores >= self.threshold
        return np.eye(len(self.classes), dtype=bool)[scores.argmax(1)] if len(scores) else scores > 1

    def _accuracy(
        self, scores: NDArray[np.float32], truth: NDArray[np.bool_], predicted: NDArray[np.bool_]
    ) -> dict[str, Any]:
        exact = (predicted == truth).all(1)
        if self.multi_label:
            hits = (predicted & truth).sum()
            micro = 2 * hits / max(1, predicted.sum() + truth.sum())
            return {"subset_accuracy": asdict(factory.wilson(int(exact.sum()), len(exact))), "micro_f1": float(micro)}
        own = scores[truth][:, None]
        # ties with the true class count against it: a model that says nothing must not look right
        rank = (scores > own).sum(1) + ((scores == own).sum(1) - 1)
        top = {f"top{k}": asdict(factory.wilson(int((rank < k).sum()), len(rank))) for k in self.top_k}
        return {"top1": asdict(factory.wilson(int(exact.sum()), len(exact))), **top}

    def _factory(
        self, scores: NDArray[np.float32], truth: NDArray[np.bool_], predicted: NDArray[np.bool_]
    ) -> dict[str, Any]:
        """A part is bad when none of its labels is a good class; its badness is 1 - the good classes' scores."""
        good = [self.classes.index(name) for name in self.good]
        bad, called_bad = ~truth[:, good].any(1), ~predicted[:, good].any(1)
        badness = 1.0 - scores[:, good].astype(np.float64).sum(1)
        found: dict[str, Any] = {
            "good_classes": self.good,
            "escape_rate": asdict(factory.wilson(int((bad & ~called_bad).sum()), int(bad.sum()))),
            "false_alarm_rate": asdict(factory.wilson(int((~bad & called_bad).sum()), int((~bad).sum()))),
            "auroc": factory.auroc(badness, bad),
        }
        curve = factory.curve(badness, bad)
        if curve is not None:
            found["escape_at_false_alarm"] = [curve.best_escape_at(x) for x in factory.OPERATING_POINTS]
            found["false_alarm_at_escape"] = [curve.best_false_alarm_at(x) for x in factory.OPERATING_POINTS]
        return found

    def headline(self, metrics: Mapping[str, float]) -> str:
        names = ("top1", "subset_accuracy", "map", "macro/f1", "macro/auroc")
        shown = [
            f"{name} {metrics[name]:.4f}" for name in names if metrics.get(name, float("nan")) == metrics.get(name)
        ]
        line = "  ".join(shown) + f"  ({int(metrics.get('pictures', 0))} pictures)"
        rates = self.details.get("factory")
        if rates:
            escape, alarm = (factory.Rate(**rates[key]).text() for key in ("escape_rate", "false_alarm_rate"))
            line += f"  escapes {escape}  false alarms {alarm}"
        return line

    def report(self, folder: Path) -> list[Path]:
        from dao.evaluators.report import write_report

        if self.results is None:
            raise RuntimeError("report() reads what compute() gathered; call that first")
        return write_report(self, folder)


def good_classes(classes: list[str], positive: list[str] | None, good: list[str] | None) -> list[str]:
    """Which classes mean a good part; empty where nothing says so. Raises ConfigError for names that are no class."""
    for key, names in (("positive", positive), ("good", good)):
        for name in names or ():
            if name not in classes:
                message = f"'{name}' is not a class. {nearest(name, classes)}"
                raise ConfigError(Problem(f"evaluator.kwargs.{key}", message))
    if good:
        both = sorted(set(good) & set(positive or ()))
        if both:
            raise ConfigError(
                Problem("evaluator.kwargs.good", f"{', '.join(both)} cannot be good and positive at once")
            )
        return list(good)
    if positive:
        rest = [name for name in classes if name not in positive]
        if not rest:
            raise ConfigError(
                Problem("evaluator.kwargs.positive", "names every class; none is left to mean a good part")
            )
        return rest
    return [name for name in classes if name.lower() in GOOD_NAMES]


def collate(rows: list[tuple[int, str, Any, Any]], num_classes: int) -> Results:
    """Rows of all processes as arrays, sorted by place in the dataset so that their order says nothing of processes."""
    rows = sorted(rows, key=lambda row: row[0])
    blank = np.zeros(num_classes, bool)
    scores = np.stack([row[2] for row in rows]) if rows else np.zeros((0, num_classes), np.float32)
    truth = (
        np.stack([blank if row[3] is None else row[3] for row in rows]) if rows else np.zeros((0, num_classes), bool)
    )
    return Results([row[1] for row in rows], scores, truth, np.array([row[3] is not None for row in rows], bool))


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
    """(K,) area under each class's precision-recall steps, by torchmetrics; NaN for a class without pictures."""
    import torch
    from torchmetrics.functional.classification import binary_average_precision

    found = []
    for k in range(scores.shape[1]):
        if truth[:, k].any():
            target = torch.from_numpy(truth[:, k].astype(np.int64))
            found.append(float(binary_average_precision(torch.from_numpy(np.ascontiguousarray(scores[:, k])), target)))
        else:
            found.append(float("nan"))
    return found


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


def flatten(details: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The scalars of a report by path: ``top1``, ``macro/f1``, ``per_class/dent/recall``, ``escape_rate``."""
    flat: dict[str, float] = {}
    for key, value in details.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and "value" in value:
            flat[name.removeprefix("factory/")] = float(value["value"])
        elif isinstance(value, Mapping):
            flat |= flatten(value, f"{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[name] = float(value)
    return flat
