"""Evaluation of detectors: COCO's average precision, and what it means at the line."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.answers.operating import own_thresholds
from dao.answers.verdicts import box_badness
from dao.errors import ConfigError, DataError, Problem, RunError
from dao.evaluators import box_counts, factory, remarks
from dao.evaluators.base import Evaluator
from dao.evaluators.box_counts import Matches, Pairing
from dao.evaluators.classification import flatten
from dao.evaluators.coco_ap import COCO_IOUS, COCO_MOST, PictureBoxes, Precision, precision
from dao.evaluators.detection_worst import is_bad
from dao.evaluators.headline import line_of
from dao.models.detection.answers import AnswerSettings
from dao.processes import dist
from dao.register import Registers
from dao.structures import Batch, GroundTruth, Prediction
from dao.words.counted import counted


@Registers.evaluators.register()
class DetEvaluator(Evaluator):
    """COCO AP (AP, AP50, AP75, small, medium, large, per class); recall and false alarms per picture at a score; the
    score of the best F1; and whole pictures: AUROC, escapes and false alarms of "any defect or none".

    score: from which on a box is shown and counts in recall, false alarms, confusion matrix and escapes;
    class_thresholds: the same of single classes, by name. None: the model's own (0.3 unless trained with another). They go
    into the model's card, so demo, Predictor and exported files answer as was counted here.
    iou: overlap from which on a found box is a true one, in everything but AP.
    extra_iou: AP at these overlaps as well (0.33 is DeepPCB's); max_detections: boxes that AP counts of each
    picture and class; None: as many as the model may answer. COCO's own AP, of at most 100, is reported as ap_coco.
    worst: pictures on the worst-N sheet.
    Ignored boxes (COCO's crowd, VOC's difficult) count neither as found nor as missed, each by its set's own rule. Small,
    medium and large go by the area that the annotations state of an object, else by that of its box.
    """

    maximised = (
        "ap", "ap*", "at_score/recall", "at_score/precision", "at_score/f1", "best_f1/f1", "factory/auroc",
        "per_class/<class>/ap", "per_class/<class>/ap*", "per_class/<class>/recall", "per_class/<class>/precision",
        "per_class/<class>/f1",
        "per_class/<class>/best_f1",
    )  # fmt: skip
    minimised = (
        "escape_rate", "false_alarm_rate", "at_score/missed", "at_score/false_alarms",
        "at_score/false_alarms_per_picture", "per_class/<class>/missed", "per_class/<class>/false_alarms",
        "per_class/<class>/false_alarms_per_picture",
    )  # fmt: skip
    descriptive = (
        "pictures", "at_score/score", "at_score/boxes", "best_f1/score", "per_class/<class>/score", "per_class/<class>/boxes",
        "per_class/<class>/best_f1_score", "factory/bad_pictures", "factory/good_pictures",
    )  # fmt: skip

    def __init__(
        self,
        classes: list[str],
        score: float | None = None,
        iou: float = 0.5,
        extra_iou: list[float] | None = None,
        max_detections: int | None = None,
        worst: int = 24,
        class_thresholds: dict[str, float] | None = None,
    ) -> None:
        values = {"score": score, "iou": iou, "extra_iou": extra_iou, "max_detections": max_detections, "worst": worst}
        problems = self.check_config(values, "evaluator.kwargs")
        if problems:
            raise ConfigError(problems)
        self.iou, self.worst, self.max_detections = iou, worst, max_detections
        self.given_score, self.class_thresholds = score, class_thresholds
        self.extra_iou = [round(value, 4) for value in extra_iou or []]
        self.best_metric, self.tie_breakers = "ap", ("ap50", "best_f1/f1", "factory/auroc")
        super().__init__(classes)

    @property
    def facts(self) -> dict[str, Any]:
        given = {"score": self.given_score, "class_thresholds": self.class_thresholds}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def score(self) -> float:
        """From which on a box is shown: the config's, else the model's."""
        known = self.model_facts.get("shown_threshold", AnswerSettings().shown_threshold)
        return known if self.given_score is None else self.given_score

    @property
    def own(self) -> dict[int, float]:
        """The same of those classes that have one of their own, by index."""
        given = {} if self.class_thresholds is None else {"class_thresholds": self.class_thresholds}
        return own_thresholds({**self.model_facts, **given}, self.classes)

    operating = ("score", "class_thresholds")

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Numbers that are out of range."""
        problems = [
            Problem(f"{where}.{key}", f"expected above 0, at most 1; got {value:g}")
            for key in ("score", "iou", "extra_iou")
            for value in np.atleast_1d(kwargs.get(key) if kwargs.get(key) is not None else [])
            if not 0 < value <= 1
        ]
        for key, least in {"max_detections": 1, "worst": 0}.items():
            if kwargs.get(key) is not None and kwargs[key] < least:
                problems.append(Problem(f"{where}.{key}", f"expected {least} or more, got {kwargs[key]}"))
        return problems

    @property
    def most_counted(self) -> int:
        """Boxes of a picture and class that AP counts."""
        return self.max_detections or self.model_facts.get("max_detections") or COCO_MOST

    def reset(self) -> None:
        self._rows: list[tuple[int, PictureBoxes]] = []
        self.pictures: list[PictureBoxes] = []
        self.pairings: list[Pairing] = []
        self.matches: Matches | None = None
        self.precision: Precision | None = None
        self.details: dict[str, Any] = {}

    def update(self, predictions: list[Prediction], batch: Batch) -> None:
        if batch.targets is None and len(batch):
            raise DataError(
                "these pictures have no boxes to compare with; a detection dataset has (CocoDetection, ...)"
            )
        for prediction, index, truth in zip(predictions, batch.indices, batch.targets or (), strict=True):
            self._rows.append((index, self._kept(prediction, truth)))

    def _kept(self, prediction: Prediction, truth: GroundTruth) -> PictureBoxes:
        """What is kept of a picture: its boxes, the best first."""
        beyond = truth.labels >= len(self.classes)
        if beyond.any():
            label = int(truth.labels[beyond][0])
            raise DataError(
                f"{prediction.path}: a box is of class {label} of {counted(len(self.classes), 'class')}, which count from 0"
            )
        order = np.argsort(-prediction.box_scores, kind="stable")
        boxes, labels, scores = (
            x[order] for x in (prediction.boxes_xyxy, prediction.box_labels, prediction.box_scores)
        )
        return PictureBoxes(prediction.path, prediction.original_hw, truth, boxes, labels, scores)

    def compute(self) -> dict[str, float]:
        gathered = dist.all_gather_object(self._rows)
        rows = sorted((row for rows in gathered for row in rows), key=lambda row: row[0])
        self.pictures = [picture for _, picture in rows]
        refuse_not_finite(self.pictures)
        self.details = self._details()
        return flatten(self.details)

    def metric_names(self) -> list[str]:
        """By evaluating made-up pictures: one without a box, one with a found box of each class and size."""
        probe = copy.copy(self)
        count = len(self.classes)
        labels = np.tile(np.arange(count), 3)
        sides = np.repeat([10.0, 50.0, 100.0], count)
        places = 200.0 * np.arange(len(labels))
        boxes = np.stack([places, places * 0, places + sides, sides], axis=1).astype(np.float32)
        truth = GroundTruth(boxes, labels, np.zeros(len(labels), bool))
        nothing = GroundTruth(boxes[:0], labels[:0], truth.ignore[:0])
        scores = np.ones(len(labels), np.float32)
        hw = (100, int(places[-1]) + 100)
        probe.pictures = [
            PictureBoxes("", hw, truth, boxes, labels, scores),
            PictureBoxes("", hw, nothing, boxes[:1], labels[:1], scores[:1]),
        ]
        return list(flatten(probe._details()))

    def _details(self) -> dict[str, Any]:
        """Everything the report holds, nested; rates as values with intervals."""
        details: dict[str, Any] = {"pictures": len(self.pictures)}
        if not self.pictures:
            return details
        self.precision = precision(self.pictures, len(self.classes), [*self.extra_iou, self.iou], self.most_counted)
        self.pairings = [box_counts.pair(picture, self.iou) for picture in self.pictures]
        self.matches = box_counts.tabulate(self.pictures, self.pairings)
        details |= {**average_precisions(self.precision, self.extra_iou), "ap_coco": self._coco_ap()}
        details["at_score"] = box_counts.at_score(self.matches, self.score, len(self.pictures), own=self.own)
        details["best_f1"] = box_counts.best_f1(self.matches)
        details["per_class"] = {
            name: self._of_class(label, own)
            for (label, name), own in zip(
                enumerate(self.classes), box_counts.by_class(self.matches, len(self.classes)), strict=True
            )
        }
        matrix = box_counts.confusion(self.pictures, self.pairings, len(self.classes), self.iou, self.score, self.own)
        details["confusion_matrix"] = matrix.tolist()
        details["factory"] = self._factory()
        return details

    def _coco_ap(self) -> float:
        """AP of the 100 best boxes of each picture and class: another number only where there are more."""
        most_found = max((np.bincount(p.labels).max(initial=0) for p in self.pictures), default=0)
        if self.most_counted == COCO_MOST or most_found <= min(COCO_MOST, self.most_counted):
            return self.precision.ap()
        return precision(self.pictures, len(self.classes)).ap()

    def _of_class(self, label: int, matches: Matches) -> dict[str, Any]:
        """matches: of that class."""
        found = average_precisions(self.precision, self.extra_iou, label)
        counts = box_counts.at_score(matches, self.score, len(self.pictures), label, self.own)
        best = box_counts.best_f1(matches, label)
        return {**found, **counts, "best_f1": best["f1"], "best_f1_score": best["score"]}

    def _factory(self) -> dict[str, Any]:
        """Whole pictures: is there anything, and was anything said."""
        badness, bad = self.verdicts()
        said = badness >= self.score
        found: dict[str, Any] = {
            "bad_pictures": int(bad.sum()),
            "good_pictures": int((~bad).sum()),
            "escape_rate": asdict(factory.wilson(int((bad & ~said).sum()), int(bad.sum()))),
            "false_alarm_rate": asdict(factory.wilson(int((~bad & said).sum()), int((~bad).sum()))),
            "auroc": factory.auroc(badness, bad),
        }
        curve = factory.curve(badness, bad)
        if curve is not None:
            found["escape_at_false_alarm"] = [curve.best_escape_at(x) for x in factory.OPERATING_POINTS]
            found["false_alarm_at_escape"] = [curve.best_false_alarm_at(x) for x in factory.OPERATING_POINTS]
        return found

    def verdicts(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(P,) the highest score said of each picture, 0 where nothing was, and (P,) whether there is anything to find.

        Pictures of which only ignored boxes are known are left out: nobody knows whether they are good.
        """
        decided = [p for p in self.pictures if is_bad(p) is not None]
        badness = np.array([box_badness(p.labels, p.scores, self.own) for p in decided], np.float64)
        return badness, np.array([is_bad(p) for p in decided], bool)

    def scored(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return self.verdicts()

    def headline(self, metrics: Mapping[str, float]) -> str:
        marked = self.details.get("at_score", {}).get("recall")
        found = f"found {marked['count']} of {counted(marked['total'], 'defect')}" if marked else ""
        return line_of(metrics, ("ap", "ap50"), self.details, found)

    def remarks(self) -> list[str]:
        if not self.pictures:
            return []
        most = [int(np.bincount(p.truth.labels[~p.truth.ignore]).max(initial=0)) for p in self.pictures]
        crowded = sum(count > self.most_counted for count in most)
        return [*remarks.crowded(max(most), crowded, self.most_counted), *remarks.of_rates(self.details["factory"])]

    def report(self, folder: Path) -> list[Path]:
        from dao.evaluators.detection_report import write_report

        if not self.details:
            raise RuntimeError("report() reads what compute() gathered; call that first")
        return write_report(self, folder)


def ap_name(iou: float) -> str:
    """``ap50`` for 0.5, ``ap33`` for 0.33."""
    return f"ap{iou * 100:g}".replace(".", "_")


def average_precisions(found: Precision, extra_iou: Sequence[float], label: int | None = None) -> dict[str, float]:
    """COCO's six numbers, and AP at further overlaps; of one class or the mean over classes. NaN: nothing to find."""
    values = {"ap": found.ap(COCO_IOUS, label), "ap50": found.ap([0.5], label), "ap75": found.ap([0.75], label)}
    values |= {f"ap_{area}": found.ap(COCO_IOUS, label, area) for area in ("small", "medium", "large")}
    return values | {ap_name(iou): found.ap([iou], label) for iou in extra_iou}


def refuse_not_finite(pictures: Sequence[PictureBoxes]) -> None:
    """Raise RunError when boxes or scores are NaN or infinite: every metric of them would be a number, and nonsense."""
    wrong = [p.path for p in pictures if not (np.isfinite(p.boxes_xyxy).all() and np.isfinite(p.scores).all())]
    if wrong:
        raise RunError(
            f"the model's boxes or scores are not finite for {len(wrong)} of {counted(len(pictures), 'picture')}, the first is "
            f"{wrong[0]}; the weights have diverged (lower the rate, or clip gradients) or, with AMP, overflow"
        )
