"""Evaluation of masks: pixels, outlines, and what an inspector counts. Streamed: no picture is kept but the worst few."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.answers import operating as points
from dao.answers.operating import EVEN, MIN_AREA
from dao.answers.peaks import has_region, region_peak
from dao.errors import ConfigError, DataError, Problem, RunError
from dao.evaluators import defects, factory, pixels, remarks
from dao.evaluators.base import Evaluator
from dao.evaluators.classification import flatten
from dao.evaluators.headline import line_of
from dao.evaluators.packed import as_png
from dao.processes import dist
from dao.register import Registers
from dao.structures import Batch, Prediction
from dao.words.counted import counted

ALARM_POINTS = (0.02, 0.05, 0.1, 0.5, 1.0)  # false alarms per picture at which recall is reported


@dataclass(slots=True)
class PictureRow:
    """What is kept of one picture. bad, called_bad: whether a region of at least ``min_area`` labelled pixels is marked, or
    called, a defect; score: the highest threshold at which such a region is left; iou: of its defect classes, 1 where none
    is marked or called; marked: the classes with a pixel in the truth; masks: truth and prediction as PNG, of the worst
    pictures alone."""

    index: int
    path: str
    bad: bool
    called_bad: bool
    score: float
    iou: float
    wrong_pixels: int
    counted: defects.Counted
    marked: tuple[int, ...] = ()
    masks: tuple[bytes, bytes] | None = None

    @property
    def rank(self) -> tuple[float, int, int]:
        """Worst first."""
        return (self.iou, -self.wrong_pixels, self.index)


@Registers.evaluators.register()
class SegEvaluator(Evaluator):
    """IoU, Dice and boundary F1 per class and as means, with and without the background; pixel accuracy; confusion
    matrix; defects found and false alarms per picture, region by region; picture-level AUROC, escapes, false alarms.

    threshold: from which probability of a defect on a pixel is one; class_thresholds: by name, of classes that are to be
    judged by their own probability; min_area: pixels, smaller regions are neither defects nor alarms. None: the model's
    own (0.5 and 5 unless trained with others). They go into the model's card, so demo, Predictor and exported files answer
    as was counted here. min_overlap: share of a defect's pixels that must
    be called a defect for it to be found. boundary_tolerance: how far outlines may lie apart, as a share of the
    picture's diagonal. worst: pictures on the worst-N sheet.
    A picture in which only regions below ``min_area`` are marked is neither a good part nor a bad one.
    Means leave out classes that neither the truth nor the predictions have. Unlabelled pixels count nowhere, and pictures
    without a labelled one are only numbered.
    """

    maximised = (
        "miou", "mdice", "boundary_f1", "pixel_accuracy", "foreground/*", "factory/auroc",
        "per_class/<class>/iou", "per_class/<class>/dice", "per_class/<class>/boundary_f1",
        "per_class/<class>/precision", "per_class/<class>/recall",
        "defects/recall", "defects/right_kind", "defects/per_class/<class>", "defects/recall_at_false_alarms_per_picture/*",
    )  # fmt: skip
    minimised = ("escape_rate", "false_alarm_rate", "defects/false_alarms", "defects/false_alarms_per_picture")
    descriptive = (
        "pictures", "unlabelled", "per_class/<class>/pixels", "defects/threshold_at_false_alarms_per_picture/*",
        "factory/undecided_pictures",
    )  # fmt: skip

    def __init__(
        self,
        classes: list[str],
        min_area: int | None = None,
        min_overlap: float = 0.1,
        boundary_tolerance: float = 0.0075,
        worst: int = 24,
        threshold: float | None = None,
        class_thresholds: dict[str, float] | None = None,
    ) -> None:
        given = {"min_area": min_area, "min_overlap": min_overlap, "worst": worst, "threshold": threshold}
        problems = self.check_config({**given, "boundary_tolerance": boundary_tolerance}, "evaluator.kwargs")
        if problems:
            raise ConfigError(problems)
        self.min_area, self.threshold, self.class_thresholds = min_area, threshold, class_thresholds
        self.min_overlap, self.worst = min_overlap, worst
        self.boundary_tolerance = boundary_tolerance
        self.best_metric, self.tie_breakers = "foreground/miou", ("foreground/iou_any_kind", "factory/auroc")
        super().__init__(classes)

    operating = ("threshold", "class_thresholds", "min_area")

    @property
    def area_in_use(self) -> int:
        """Pixels of the smallest region that counts."""
        return self.min_area or self.model_facts.get("min_area") or MIN_AREA

    @property
    def levels(self) -> NDArray[np.float64]:
        """The thresholds that the curve has points at: the one that the class map was made by is among them."""
        own = self.threshold or self.model_facts.get("threshold") or EVEN
        return np.union1d(defects.THRESHOLDS, [own])

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Numbers that are out of range."""
        limits = {"min_area": (1, 10**9), "min_overlap": (0, 1), "boundary_tolerance": (0, 1), "worst": (0, 10**4)}
        problems = [
            Problem(f"{where}.{key}", f"expected {low} to {high}, got {kwargs[key]}")
            for key, (low, high) in limits.items()
            if kwargs.get(key) is not None and not low <= kwargs[key] <= high
        ]
        return problems + points.problems(
            {"threshold": kwargs.get("threshold")}, [], {"threshold": f"{where}.threshold"}
        )

    def reset(self) -> None:
        count = len(self.classes)
        self.confusion = np.zeros((count, count), np.int64)
        self.boundary = np.zeros((count, 4), np.int64)
        self.rows: list[PictureRow] = []
        self._with_masks: list[PictureRow] = []
        self.unlabelled = 0
        self.details: dict[str, Any] = {}
        self.froc: defects.Froc | None = None

    def update(self, predictions: list[Prediction], batch: Batch) -> None:
        if len(batch) and not isinstance(batch.targets, list):
            raise DataError("these pictures have no masks to compare with; SegDataloader over a dataset of masks has")
        for prediction, index, truth in zip(predictions, batch.indices, batch.targets or (), strict=True):
            if truth is not None:
                refuse_unfit(prediction, truth)
            if truth is None or (truth == pixels.IGNORE).all():
                self.unlabelled += 1
                continue
            self._count(prediction, index, truth)

    def _count(self, prediction: Prediction, index: int, truth: NDArray[np.uint8]) -> None:
        count, mask, labelled = len(self.classes), prediction.mask, truth != pixels.IGNORE
        area = self.area_in_use
        counted = defects.count(truth, mask, prediction.defect_map, area, self.min_overlap, self.levels)
        table = pixels.confusion(truth, mask, count)
        self.confusion += table
        tolerance = pixels.tolerance_of(truth.shape, self.boundary_tolerance)
        self.boundary += pixels.boundary_counts(truth, mask, count, tolerance)
        union = table[1:].sum() + table[0, 1:].sum()
        iou = pixels.mean(pixels.iou(table)[1:]) if union else 1.0
        row = PictureRow(
            index=index,
            path=prediction.path,
            bad=bool(counted.defects),
            called_bad=has_region((mask > 0) & labelled, area),
            score=region_peak(np.where(labelled, prediction.defect_map, np.float32(0)), area),
            iou=iou,
            wrong_pixels=int(table.sum() - np.trace(table)),
            counted=counted,
            marked=tuple(k for k in range(1, count) if table[k].any()),
            masks=(as_png(truth), as_png(mask)),
        )
        self.rows.append(row)
        self._with_masks.append(row)
        self._forget_good_ones()

    def _forget_good_ones(self) -> None:
        """Keep the masks of the worst pictures alone; looked at now and then, as sorting costs."""
        if len(self._with_masks) <= 2 * self.worst + 8:
            return
        self._with_masks.sort(key=lambda row: row.rank)
        for row in self._with_masks[self.worst :]:
            row.masks = None
        del self._with_masks[self.worst :]

    def compute(self) -> dict[str, float]:
        gathered = dist.all_gather_object((self.rows, self.confusion, self.boundary, self.unlabelled))
        self.all_rows = sorted((row for rows, *_ in gathered for row in rows), key=lambda row: row.index)
        table = np.sum([part[1] for part in gathered], axis=0)
        boundary = np.sum([part[2] for part in gathered], axis=0)
        self.details = self._details(self.all_rows, table, boundary)
        self.details["unlabelled"] = sum(part[3] for part in gathered)
        return flatten(self.details)

    def metric_names(self) -> list[str]:
        """By evaluating one made-up picture of every class."""
        count = len(self.classes)
        truth = np.arange(count, dtype=np.uint8)[None]
        made_up = defects.count(truth, truth, (truth > 0).astype(np.float32), 1, self.min_overlap, self.levels)
        rows = [PictureRow(i, "", bool(i), bool(i), float(i), 1.0, 0, made_up) for i in range(2)]
        details = self._details(rows, pixels.confusion(truth, truth, count), np.ones((count, 4), np.int64))
        return [*flatten(details), "unlabelled"]

    def _details(self, rows: list[PictureRow], table: pixels.Counts, boundary: pixels.Counts) -> dict[str, Any]:
        """Everything the report holds, nested; rates as values with intervals."""
        details: dict[str, Any] = {"pictures": len(rows)}
        if not rows:
            return details
        iou, dice, edges = pixels.iou(table), pixels.dice(table), pixels.boundary_f1(boundary)
        precision, recall = pixels.precision_recall(table)
        details |= {
            "miou": pixels.mean(iou),
            "mdice": pixels.mean(dice),
            "boundary_f1": pixels.mean(edges),
            "pixel_accuracy": float(np.trace(table) / max(table.sum(), 1)),
            "foreground": {
                "miou": pixels.mean(iou[1:]),
                "mdice": pixels.mean(dice[1:]),
                "boundary_f1": pixels.mean(edges[1:]),
                "iou_any_kind": any_kind_iou(table),
            },
            "per_class": {
                name: {
                    "iou": iou[k], "dice": dice[k], "boundary_f1": edges[k], "precision": precision[k],
                    "recall": recall[k], "pixels": int(table[k].sum()),
                }
                for k, name in enumerate(self.classes)
            },
            "defects": self._regions(rows),
            "confusion_matrix": table.tolist(),
        }  # fmt: skip
        return {**details, "factory": self._factory(rows)}

    def _regions(self, rows: list[PictureRow]) -> dict[str, Any]:
        marked = [defect for row in rows for defect in row.counted.defects]
        alarms = sum(row.counted.alarms for row in rows)
        alarms_at = np.sum([row.counted.alarms_at for row in rows], axis=0)
        self.froc = defects.froc(np.array([d.score for d in marked]), alarms_at, len(rows), self.levels)
        at = {f"{x:g}": self.froc.best_at(x) for x in ALARM_POINTS}
        return {
            "recall": asdict(factory.wilson(sum(d.found for d in marked), len(marked))),
            "right_kind": asdict(factory.wilson(sum(d.right_kind for d in marked), len(marked))),
            "false_alarms": alarms,
            "false_alarms_per_picture": alarms / len(rows),
            "recall_at_false_alarms_per_picture": {key: recall for key, (recall, _) in at.items()},
            "threshold_at_false_alarms_per_picture": {key: threshold for key, (_, threshold) in at.items()},
            "per_class": {name: asdict(factory.wilson(*_found(marked, k))) for k, name in enumerate(self.classes) if k},
        }

    def _factory(self, rows: list[PictureRow]) -> dict[str, Any]:
        decided = decided_of(rows)
        bad, called = (np.array([getattr(row, name) for row in decided], bool) for name in ("bad", "called_bad"))
        scores = np.array([row.score for row in decided])
        found: dict[str, Any] = {
            "undecided_pictures": len(rows) - len(decided),
            "escape_rate": asdict(factory.wilson(int((bad & ~called).sum()), int(bad.sum()))),
            "false_alarm_rate": asdict(factory.wilson(int((~bad & called).sum()), int((~bad).sum()))),
            "auroc": factory.auroc(scores, bad),
        }
        curve = factory.curve(scores, bad)
        if curve is not None:
            found["escape_at_false_alarm"] = [curve.best_escape_at(x) for x in factory.OPERATING_POINTS]
            found["false_alarm_at_escape"] = [curve.best_false_alarm_at(x) for x in factory.OPERATING_POINTS]
        return found

    def scored(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        rows = decided_of(self.all_rows)
        return np.array([row.score for row in rows]), np.array([row.bad for row in rows], bool)

    def headline(self, metrics: Mapping[str, float]) -> str:
        marked = self.details.get("defects", {}).get("recall")
        found = f"found {marked['count']} of {counted(marked['total'], 'defect')}" if marked else ""
        return line_of(metrics, ("foreground/miou",), self.details, found)

    def remarks(self) -> list[str]:
        undecided = [row.path for row in getattr(self, "all_rows", ()) if row.counted.undecided]
        outside = remarks.of_undecided(undecided, self.area_in_use) + remarks.of_unlabelled(
            self.details.get("unlabelled", 0)
        )
        return outside + (remarks.of_rates(self.details["factory"]) if "factory" in self.details else [])

    def report(self, folder: Path) -> list[Path]:
        from dao.evaluators.seg_report import write_report

        if not self.details:
            raise RuntimeError("report() reads what compute() gathered; call that first")
        return write_report(self, folder)


def decided_of(rows: list[PictureRow]) -> list[PictureRow]:
    """The pictures that are known to be good or bad: not those in which only specks below ``min_area`` are marked."""
    return [row for row in rows if not row.counted.undecided]


def _found(marked: list[defects.TrueDefect], label: int) -> tuple[int, int]:
    of_class = [d.found for d in marked if d.label == label]
    return sum(of_class), len(of_class)


def any_kind_iou(table: pixels.Counts) -> float:
    """IoU of defective pixels, whatever their kind, against the background; NaN where none is marked or called."""
    hit, union = table[1:, 1:].sum(), table.sum() - table[0, 0]
    return float(hit / union) if union else float("nan")


def refuse_unfit(prediction: Prediction, truth: NDArray[np.uint8]) -> None:
    """Raise when a prediction cannot be compared: another size, or numbers that are none."""
    if prediction.mask.shape != truth.shape:
        raise DataError(f"{prediction.path}: the mask is {truth.shape}, the prediction {prediction.mask.shape} pixels")
    if not np.isfinite(prediction.scores).all():
        raise RunError(
            f"the model's probabilities for {prediction.path} are not finite; the weights have diverged (lower the "
            "rate, or clip gradients) or, with AMP, overflow"
        )
