"""Evaluation of classifiers: what is right and wrong per class, and what that means for the line."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.answers.operating import own_thresholds
from dao.answers.verdicts import badness
from dao.errors import ConfigError, DataError, Problem, RunError, nearest
from dao.evaluators import factory, remarks
from dao.evaluators.base import Evaluator
from dao.evaluators.counts import confusion, macro, per_class, ranks_of
from dao.evaluators.headline import line_of
from dao.processes import dist
from dao.register import Registers
from dao.structures import Batch, Prediction
from dao.words.counted import counted
from dao.words.good_names import good_names

# place in the dataset, path, scores, truth (None: unlabelled), indices of the labels that were given
Row = tuple[int, str, NDArray[np.float32], NDArray[np.bool_] | None, list[int]]


@dataclass(slots=True)
class Results:
    """Every picture of an evaluation, in dataset order.

    paths: N; scores: (N, K); truth: (N, K) bool, all False where unlabelled; labelled: (N,) bool;
    said: (N, K) bool, the labels that the model gave.
    """

    paths: list[str]
    scores: NDArray[np.float32]
    truth: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    said: NDArray[np.bool_]

    def only_labelled(self) -> Results:
        """Those that metrics can be made of."""
        if self.labelled.all():
            return self
        keep = np.flatnonzero(self.labelled)
        paths = [self.paths[i] for i in keep]
        return Results(paths, self.scores[keep], self.truth[keep], self.labelled[keep], self.said[keep])


@Registers.evaluators.register()
class ClsEvaluator(Evaluator):
    """Accuracy, per-class and macro precision, recall and F1, AUROC, average precision, confusion matrix; and, where
    classes are known to be good or defective, escape rate and false-alarm rate.

    top_k: also count a picture right when its label is among the k highest scores.
    positive: classes that mean a defect; good: classes that mean a good part. Naming one side gives the other; without
    either, classes called good, OK, 合格, i.O., bueno and the like (dao/words/good_names.py) are the good ones. Where
    pictures carry several labels, a part without any positive one is good, so that every class may be positive.
    threshold: from which badness (`dao.answers.verdicts.badness`) on a part is bad; where pictures
    carry several labels, from which score on each label is given. class_thresholds: by name, of classes that are to be
    judged by their own score. None: the model's own (0.5 unless trained with another). They go into the model's card, so
    demo, Predictor and exported files answer as was counted here.
    worst: pictures on the worst-N sheet.
    The best checkpoint is the one with the least ``factory/balanced_error`` where classes are known to be good or
    defective: the mean of both rates, so that neither side is bought with the other. Elsewhere it goes by top-1, or by
    mean average precision with several labels. Ties go to AUROC and then to ``log_loss``.
    Macro averages leave out classes without a picture in the set.
    """

    maximised = (
        "top*", "subset_accuracy", "micro_f1", "map", "balanced_accuracy", "macro/*", "factory/auroc",
        "per_class/<class>/precision", "per_class/<class>/recall", "per_class/<class>/f1", "per_class/<class>/auroc",
        "per_class/<class>/average_precision",
    )  # fmt: skip
    minimised = ("escape_rate", "false_alarm_rate", "factory/balanced_error", "log_loss")
    descriptive = ("pictures", "unlabelled", "per_class/<class>/support")

    def __init__(
        self,
        classes: list[str],
        top_k: list[int] | None = None,
        positive: list[str] | None = None,
        good: list[str] | None = None,
        threshold: float | None = None,
        class_thresholds: dict[str, float] | None = None,
        worst: int = 24,
    ) -> None:
        problems = self.check_config({"top_k": top_k, "threshold": threshold, "worst": worst}, "evaluator.kwargs")
        if problems:
            raise ConfigError(problems)
        known_good = good_classes(list(classes), positive, good)
        self._named = bool(good or positive)
        self._bad = [name for name in classes if name not in known_good] if known_good or positive else []
        self.top_k = [k for k in (top_k or [5]) if 1 < k < len(classes)]
        self.threshold, self.class_thresholds, self.worst = threshold, class_thresholds, worst
        self.best_metric, self.tie_breakers = best_by(False, bool(self.bad))
        super().__init__(classes)

    @property
    def bad(self) -> list[str]:
        """Classes that mean a bad part: those that the config names, else the model's card, else by the names of good ones."""
        return list(self._bad if self._named else self.model_facts.get("bad_classes") or self._bad)

    @property
    def good(self) -> list[str]:
        """Classes that mean a good part; none where that is not known."""
        bad = self.bad
        return [name for name in self.classes if name not in bad] if bad else []

    @property
    def facts(self) -> dict[str, Any]:
        return {**({"positive": self.bad} if self.bad else {}), **super().facts}

    operating = ("threshold", "class_thresholds")
    naming = ("positive", "good")

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Numbers that are out of range."""
        problems = [
            Problem(f"{where}.top_k", f"expected numbers from 1 up, got {k}")
            for k in kwargs.get("top_k") or ()
            if k < 1
        ]
        threshold = kwargs.get("threshold")
        if threshold is not None and not 0 < threshold <= 1:
            problems.append(Problem(f"{where}.threshold", f"expected above 0, at most 1, got {threshold:g}"))
        if kwargs.get("worst", 0) < 0:
            problems.append(Problem(f"{where}.worst", f"expected 0 or more pictures, got {kwargs['worst']}"))
        return problems

    def reset(self) -> None:
        self._rows: list[Row] = []
        self.multi_label = False
        self.results: Results | None = None
        self.details: dict[str, Any] = {}

    def update(self, predictions: list[Prediction], batch: Batch) -> None:
        truths = self._truths(batch)
        for prediction, index, truth in zip(predictions, batch.indices, truths, strict=True):
            said = [prediction.label] if prediction.labels is None else prediction.labels
            self._rows.append((index, prediction.path, prediction.scores, truth, said))

    def _truths(self, batch: Batch) -> list[NDArray[np.bool_] | None]:
        if batch.targets is None or not len(batch):
            return [None] * len(batch)
        targets = batch.targets.cpu().numpy()
        if targets.ndim == 1:
            return [self._one_hot(int(label), path) for label, path in zip(targets, batch.paths, strict=True)]
        self.multi_label = True
        return list(targets > 0.5)

    def _one_hot(self, label: int, path: str) -> NDArray[np.bool_] | None:
        """(K,) bool; None for a negative label, which stands for an unlabelled picture."""
        if label >= len(self.classes):
            raise DataError(
                f"{path}: its label is class {label} of {counted(len(self.classes), 'class')}, which count from 0"
            )
        return None if label < 0 else np.arange(len(self.classes)) == label

    def compute(self) -> dict[str, float]:
        gathered = dist.all_gather_object((self._rows, self.multi_label))
        self.multi_label = any(several for _, several in gathered)
        self.best_metric, self.tie_breakers = best_by(self.multi_label, bool(self.bad))
        self.results = collate([row for rows, _ in gathered for row in rows], len(self.classes))
        refuse_not_finite(self.results)
        known = self.results.only_labelled()
        if not self.multi_label and self.bad and not self.good:
            message = "names every class; where a picture has one label, one class must be left to mean a good part"
            raise ConfigError(Problem("evaluator.kwargs.positive", message))
        self.details = self._details(known)
        return flatten(self.details)

    def metric_names(self) -> list[str]:
        """By evaluating one made-up picture a class, with one label and with several."""
        eye = np.eye(len(self.classes))
        made_up = Results([""] * len(eye), eye.astype(np.float32), eye > 0, np.ones(len(eye), bool), eye > 0)
        names: list[str] = []
        for several in (False, True):
            probe = copy.copy(self)
            probe.multi_label, probe.results = several, made_up
            names += [name for name in flatten(probe._details(made_up)) if name not in names]
        return names

    def _details(self, known: Results) -> dict[str, Any]:
        """Everything the report holds, nested; rates as values with intervals."""
        scores, truth = known.scores, known.truth
        predicted = self.verdict_of(known)
        details: dict[str, Any] = {"pictures": len(scores), "unlabelled": len(self.results.paths) - len(scores)}
        if not len(scores):
            return details
        details |= self._accuracy(scores, truth, predicted)
        details["log_loss"] = log_loss(scores, truth, self.multi_label)
        details["per_class"] = per_class(self.classes, scores, truth, predicted)
        details["macro"] = macro(details["per_class"])
        details["map"] = details["macro"]["average_precision"]
        if not self.multi_label:
            details["balanced_accuracy"] = details["macro"]["recall"]
            details["confusion_matrix"] = confusion(predicted.argmax(1), truth.argmax(1), len(self.classes)).tolist()
        if self.bad:
            details["factory"] = self._factory(scores, truth, predicted)
        return details

    def verdict_of(self, results: Results) -> NDArray[np.bool_]:
        """(N, K): what the model says, one class a picture unless they carry several."""
        return results.said

    def _accuracy(
        self, scores: NDArray[np.float32], truth: NDArray[np.bool_], predicted: NDArray[np.bool_]
    ) -> dict[str, Any]:
        exact = (predicted == truth).all(1)
        if self.multi_label:
            hits = (predicted & truth).sum()
            micro = 2 * hits / max(1, predicted.sum() + truth.sum())
            return {"subset_accuracy": asdict(factory.wilson(int(exact.sum()), len(exact))), "micro_f1": float(micro)}
        rank = np.where(
            exact, 0, ranks_of(scores, truth.argmax(1))
        )  # a threshold may have the say, not the highest score
        top = {f"top{k}": asdict(factory.wilson(int((rank < k).sum()), len(rank))) for k in self.top_k}
        return {"top1": asdict(factory.wilson(int(exact.sum()), len(exact))), **top}

    def _factory(
        self, scores: NDArray[np.float32], truth: NDArray[np.bool_], predicted: NDArray[np.bool_]
    ) -> dict[str, Any]:
        badness, bad = self.verdicts(scores, truth)
        called_bad = self._any_bad(predicted)
        found: dict[str, Any] = {
            "good_classes": self.good,
            "bad_classes": self.bad,
            "escape_rate": asdict(factory.wilson(int((bad & ~called_bad).sum()), int(bad.sum()))),
            "false_alarm_rate": asdict(factory.wilson(int((~bad & called_bad).sum()), int((~bad).sum()))),
            "auroc": factory.auroc(badness, bad),
        }
        found["balanced_error"] = (found["escape_rate"]["value"] + found["false_alarm_rate"]["value"]) / 2
        curve = factory.curve(badness, bad)
        if curve is not None:
            found["escape_at_false_alarm"] = [curve.best_escape_at(x) for x in factory.OPERATING_POINTS]
            found["false_alarm_at_escape"] = [curve.best_false_alarm_at(x) for x in factory.OPERATING_POINTS]
        return found

    def verdicts(
        self, scores: NDArray[np.float32], truth: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(N,) how bad each part looks, 0..1, and (N,) whether it is: whether one of its labels is a bad class.

        Badness is `dao.answers.verdicts.badness`: the likeliest bad class against the likeliest good one, or the highest of
        the bad classes' scores where pictures carry several labels. Classes with a threshold of their own have no part in
        it: where they reach it, the part is bad at any other threshold.
        """
        own = own_thresholds(self.model_facts, self.classes)
        bad = [self.classes.index(name) for name in self.bad]
        return badness(scores, bad, own, self.multi_label), self._any_bad(truth)

    def scored(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        if self.results is None or not self.bad:
            message = "no class is known to mean a good part, so no threshold tells good from bad; name the good ones"
            raise ConfigError(Problem("evaluator.kwargs.good", message))
        known = self.results.only_labelled()
        return self.verdicts(known.scores, known.truth)

    def _any_bad(self, labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return (labels & np.isin(self.classes, self.bad)).any(1)

    def remarks(self) -> list[str]:
        if not self.details.get("pictures"):
            return []
        return remarks.of_rates(self.details["factory"]) if self.bad else [remarks.no_known_good(self.classes)]

    def headline(self, metrics: Mapping[str, float]) -> str:
        names = ("subset_accuracy", "map") if self.multi_label else ("top1", "macro/f1", "factory/auroc")
        return line_of(metrics, names, self.details)

    def report(self, folder: Path) -> list[Path]:
        from dao.evaluators.report import write_report

        if self.results is None:
            raise RuntimeError("report() reads what compute() gathered; call that first")
        return write_report(self, folder)


def best_by(multi_label: bool, sorts_parts: bool) -> tuple[str, tuple[str, ...]]:
    """The metric that chooses the best checkpoint, and those that choose among equals.

    sorts_parts: classes are known to be good or bad, so that what counts is what the line does with a part.
    """
    right = "map" if multi_label else "top1"
    if sorts_parts:
        return "factory/balanced_error", (right, "factory/auroc", "log_loss")
    return right, ("macro/auroc", "log_loss")


def log_loss(scores: NDArray[np.float32], truth: NDArray[np.bool_], multi_label: bool) -> float:
    """Mean cross entropy (nats) of the true labels: of one a picture, or of each class's yes or no.

    scores: (N, K) probabilities; truth: (N, K). A sure answer that is wrong costs no more than 16.
    """
    if not multi_label:
        return float(-np.log(np.clip(scores[truth].astype(np.float64), 1e-7, 1 - 1e-7)).mean())
    sure = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.log(np.where(truth, sure, 1 - sure)).mean())


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
        if set(good) >= set(classes):
            raise ConfigError(Problem("evaluator.kwargs.good", "names every class; none is left to mean a defect"))
        return list(good)
    if positive:
        return [name for name in classes if name not in positive]
    return good_names(classes)


def collate(rows: list[Row], num_classes: int) -> Results:
    """Rows of all processes as arrays, sorted by place in the dataset so that their order says nothing of processes."""
    rows = sorted(rows, key=lambda row: row[0])
    scores = np.stack([row[2] for row in rows]) if rows else np.zeros((0, num_classes), np.float32)
    truth, said = np.zeros((2, len(rows), num_classes), bool)
    for place, row in enumerate(rows):
        truth[place] = False if row[3] is None else row[3]
        said[place, row[4]] = True
    labelled = np.array([row[3] is not None for row in rows], bool)
    return Results([row[1] for row in rows], scores, truth, labelled, said)


def refuse_not_finite(results: Results) -> None:
    """Raise RunError when scores are NaN or infinite: every metric of them would be a number, and nonsense."""
    wrong = np.flatnonzero(~np.isfinite(results.scores).all(1))
    if len(wrong):
        raise RunError(
            f"the model's scores are not finite for {len(wrong)} of {counted(len(results.paths), 'picture')}, the first is "
            f"{results.paths[wrong[0]]}; the weights have diverged (lower the rate, or clip gradients) or, with AMP, "
            "overflow"
        )


def flatten(details: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The scalars of a report by path: ``top1``, ``macro/f1``, ``per_class/dent/recall``, ``escape_rate``.

    A rate with its interval counts by its "value"; a class may be called so as well, and is a table of its own.
    """
    flat: dict[str, float] = {}
    for key, value in details.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and "value" in value and not isinstance(value["value"], Mapping):
            flat[name.removeprefix("factory/")] = float(value["value"])
        elif isinstance(value, Mapping):
            flat |= flatten(value, f"{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[name] = float(value)
    return flat
