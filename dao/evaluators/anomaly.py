"""Evaluation of anomaly detection: pictures and pixels ranked, and what a threshold makes of them. Streamed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.drawing.masks import shrunk
from dao.errors import ConfigError, DataError, Problem, RunError
from dao.evaluators import factory, ranking, remarks
from dao.evaluators.base import Evaluator
from dao.evaluators.classification import flatten
from dao.evaluators.headline import line_of
from dao.evaluators.packed import as_png
from dao.evaluators.score_histogram import ScoreHistogram, aligned
from dao.processes import dist
from dao.register import Registers
from dao.structures import AnomalyTruth, Batch, Prediction

SIDE_KEPT = 256  # pixels to a side, at most, of the maps that are kept for the worst-N sheet


@dataclass(slots=True)
class PictureRow:
    """What is kept of one picture. outlined: whether a region is.
    maps: normalised map and truth as small PNGs, of the worst pictures alone."""

    index: int
    path: str
    kind: str
    bad: bool
    called_bad: bool
    raw_score: float
    score: float
    outlined: bool = False
    maps: tuple[bytes, bytes] | None = None

    @property
    def rank(self) -> tuple[float, float, int]:
        """Worst first: bad ones by how low they score, good ones by how high; far from the threshold, where normalised
        scores are all 0 or 1, by the raw ones."""
        sign = 1 if self.bad else -1
        return (self.score if self.bad else 1 - self.score, sign * self.raw_score, self.index)


@dataclass(slots=True)
class KindPixels:
    """Pixels of one kind of defect: by score, and by score with the share that each has in its region."""

    bad: ScoreHistogram = field(default_factory=ScoreHistogram)
    overlap: ScoreHistogram = field(default_factory=ScoreHistogram)
    regions: int = 0


@Registers.evaluators.register()
class AnomalyEvaluator(Evaluator):
    """Picture AUROC, average precision and best F1; pixel AUROC, average precision, best F1 and AUPRO; each per kind
    of defect as well; escapes and false alarms at the model's own threshold. Ranking goes by raw scores.

    threshold: from which raw score on a picture is bad; pixel_threshold: from which on a pixel is outlined; min_area: pixels,
    smaller regions are not outlined. None: the model's own. They go into the model's card, so demo, Predictor and exported
    files answer as was counted here.
    worst: pictures on the worst-N sheet. pixels: whether maps are judged as well (costs time on large pictures).
    Pixels of defective pictures without a mask, or with one that marks nothing, count for nothing, and neither do those
    outside a region of interest.
    """

    maximised = (
        "picture/auroc", "picture/average_precision", "picture/f1_max", "pixel/auroc", "pixel/average_precision",
        "pixel/f1_max", "pixel/aupro", "factory/auroc", "per_kind/<class>/auroc", "per_kind/<class>/average_precision",
        "per_kind/<class>/f1_max", "per_kind/<class>/aupro",
    )  # fmt: skip
    minimised = ("escape_rate", "false_alarm_rate", "per_kind/<class>/escape_rate")
    descriptive = (
        "pictures", "picture/f1_max_at", "pixel/regions", "per_kind/<class>/pictures", "per_kind/<class>/f1_max_at",
        "per_kind/<class>/regions", "verdict_and_region/good_with_region", "verdict_and_region/bad_without_region",
    )  # fmt: skip

    operating = ("threshold", "pixel_threshold", "min_area")

    def __init__(
        self,
        classes: list[str],
        worst: int = 24,
        pixels: bool = True,
        threshold: float | None = None,
        pixel_threshold: float | None = None,
        min_area: int | None = None,
    ) -> None:
        problems = self.check_config({"worst": worst}, "evaluator.kwargs")
        if problems:
            raise ConfigError(problems)
        self.worst, self.pixels = worst, pixels
        self.threshold, self.pixel_threshold, self.min_area = threshold, pixel_threshold, min_area
        self.best_metric = "picture/auroc"
        self.tie_breakers = ("pixel/aupro", "pixel/auroc", "picture/f1_max") if pixels else ("picture/f1_max",)
        super().__init__(classes)

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Numbers that are out of range."""
        worst = kwargs.get("worst", 0)
        return [] if 0 <= worst <= 10**4 else [Problem(f"{where}.worst", f"expected 0 to 10000, got {worst}")]

    def reset(self) -> None:
        self.rows: list[PictureRow] = []
        self.good_pixels = ScoreHistogram()
        self.kinds: dict[str, KindPixels] = {}
        self.details: dict[str, Any] = {}

    def update(self, predictions: list[Prediction], batch: Batch) -> None:
        for prediction, index, truth in zip(predictions, batch.indices, batch.targets, strict=True):
            refuse_not_finite(prediction)
            self.rows.append(
                PictureRow(
                    index=index, path=prediction.path, kind=truth.kind, bad=truth.bad,
                    called_bad=bool(prediction.label), raw_score=prediction.raw_score, score=prediction.anomaly_score,
                    outlined=bool(np.any(prediction.mask)), maps=_small_maps(prediction, truth),
                )
            )  # fmt: skip
            if self.pixels and truth.mask is not None:
                self._count_pixels(prediction, truth)
        self._forget_good_ones()

    def _count_pixels(self, prediction: Prediction, truth: AnomalyTruth) -> None:
        raw, mask = prediction.raw_map, truth.mask
        if raw.shape != mask.shape:
            raise DataError(f"{prediction.path}: the mask is {mask.shape}, the map {raw.shape} pixels")
        if truth.bad and not mask.any():
            return
        self.good_pixels.add(raw[~mask & prediction.looked_at])
        if not truth.bad:
            return
        mask = mask & prediction.looked_at
        own = self.kinds.setdefault(truth.kind, KindPixels())
        own.bad.add(raw[mask])
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        for i in range(1, count):
            left, top, width, height, area = (int(v) for v in stats[i])
            box = (slice(top, top + height), slice(left, left + width))
            own.overlap.add(raw[box][labels[box] == i], weight=1 / area)
        own.regions += count - 1

    def _forget_good_ones(self) -> None:
        """Keep the maps of the worst pictures alone; looked at now and then, as sorting costs."""
        kept = [row for row in self.rows if row.maps is not None]
        if len(kept) > 2 * self.worst + 8:
            for row in sorted(kept, key=lambda row: row.rank)[self.worst :]:
                row.maps = None

    def compute(self) -> dict[str, float]:
        gathered = dist.all_gather_object((self.rows, self.good_pixels, self.kinds))
        self.all_rows = sorted((row for rows, *_ in gathered for row in rows), key=lambda row: row.index)
        good, kinds = ScoreHistogram(), {}
        for _, histogram, own in gathered:
            good.merge(histogram)
            for name, part in own.items():
                total = kinds.setdefault(name, KindPixels())
                total.bad.merge(part.bad)
                total.overlap.merge(part.overlap)
                total.regions += part.regions
        self.details = details_of(self.all_rows, good, dict(sorted(kinds.items())))
        return flatten(self.details)

    def metric_names(self) -> list[str]:
        """By evaluating two made-up pictures."""
        rows = [PictureRow(i, "", ("good", "bad")[i], bool(i), bool(i), float(i), float(i)) for i in range(2)]
        made_up = KindPixels()
        for histogram in (made_up.bad, made_up.overlap):
            histogram.add(np.ones(1, np.float32))
        return flatten(details_of(rows, made_up.bad, {"bad": made_up}))

    def scored(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return np.array([row.raw_score for row in self.all_rows]), np.array([row.bad for row in self.all_rows], bool)

    def headline(self, metrics: Mapping[str, float]) -> str:
        return line_of(metrics, ("picture/auroc", "pixel/aupro"), self.details)

    def remarks(self) -> list[str]:
        return remarks.of_rates(self.details["factory"]) if "factory" in self.details else []

    def report(self, folder: Path) -> list[Path]:
        from dao.evaluators.anomaly_report import write_report

        if not self.details:
            raise RuntimeError("report() reads what compute() gathered; call that first")
        return write_report(self, folder)


def refuse_not_finite(prediction: Prediction) -> None:
    """Raise RunError for a score, or a map, that is no number: counted, it would be some score all the same."""
    for what, value in (("score", prediction.raw_score), ("map", prediction.raw_map)):
        if not np.isfinite(value).all():
            raise RunError(f"the model's {what} for {prediction.path} is not finite; the model is damaged")


def details_of(rows: list[PictureRow], good: ScoreHistogram, kinds: dict[str, KindPixels]) -> dict[str, Any]:
    """Everything the report holds, nested; rates as values with intervals."""
    scores = np.array([row.raw_score for row in rows], np.float64)
    bad, called = (np.array([getattr(row, name) for row in rows], bool) for name in ("bad", "called_bad"))
    details: dict[str, Any] = {"pictures": len(rows)}
    if not rows:
        return details
    names = np.array([row.kind for row in rows])
    everything = KindPixels(regions=sum(part.regions for part in kinds.values()))
    for part in kinds.values():
        everything.bad.merge(part.bad)
        everything.overlap.merge(part.overlap)
    return {
        **details,
        "picture": picture_ranking(scores, bad),
        "pixel": pixel_ranking(good, everything),
        "per_kind": {
            name: {
                "pictures": int((names == name).sum()),
                "escape_rate": asdict(factory.wilson(int((~called[names == name]).sum()), int((names == name).sum()))),
                "picture": picture_ranking(scores[~bad | (names == name)], bad[~bad | (names == name)]),
                "pixel": pixel_ranking(good, kinds.get(name, KindPixels())),
            }
            for name in sorted(set(names[bad].tolist()))
        },
        "factory": _factory(scores, bad, called),
        "verdict_and_region": agreement(rows),
    }


def agreement(rows: list[PictureRow]) -> dict[str, int]:
    """In how many pictures the verdict and what is outlined say different things."""
    return {
        "good_with_region": sum(row.outlined and not row.called_bad for row in rows),
        "bad_without_region": sum(row.called_bad and not row.outlined for row in rows),
    }


def picture_ranking(scores: NDArray[np.float64], bad: NDArray[np.bool_]) -> dict[str, float]:
    """AUROC, average precision and best F1 of pictures."""
    at, good, of_bad = ranking.counts_of(scores, bad)
    f1, place = ranking.best_f1(good, of_bad)
    return {
        "auroc": ranking.auroc(good, of_bad),
        "average_precision": ranking.average_precision(good, of_bad),
        "f1_max": f1,
        "f1_max_at": float(at[place]) if len(at) and f1 == f1 else float("nan"),
    }


def pixel_ranking(good: ScoreHistogram, kind: KindPixels) -> dict[str, float]:
    """AUROC, average precision, best F1 and AUPRO of pixels, defective ones against all good ones of the set."""
    _, (of_good, of_bad, overlap) = aligned(good, kind.bad, kind.overlap)
    return {
        "auroc": ranking.auroc(of_good, of_bad),
        "average_precision": ranking.average_precision(of_good, of_bad),
        "f1_max": ranking.best_f1(of_good, of_bad)[0],
        "aupro": ranking.aupro(of_good, overlap),
        "regions": kind.regions,
    }


def _factory(scores: NDArray[np.float64], bad: NDArray[np.bool_], called: NDArray[np.bool_]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "escape_rate": asdict(factory.wilson(int((bad & ~called).sum()), int(bad.sum()))),
        "false_alarm_rate": asdict(factory.wilson(int((~bad & called).sum()), int((~bad).sum()))),
        "auroc": factory.auroc(scores, bad),
    }
    curve = factory.curve(scores, bad, limits=(-np.inf, np.inf))
    if curve is not None:
        found["escape_at_false_alarm"] = [curve.best_escape_at(x) for x in factory.OPERATING_POINTS]
        found["false_alarm_at_escape"] = [curve.best_false_alarm_at(x) for x in factory.OPERATING_POINTS]
    return found


def _small_maps(prediction: Prediction, truth: AnomalyTruth) -> tuple[bytes, bytes]:
    """The normalised map and the truth (255 where it is not known), shrunk and packed."""
    height, width = prediction.anomaly_map.shape
    scale = min(1.0, SIDE_KEPT / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = np.round(prediction.anomaly_map * 255).astype(np.uint8)
    mask = np.full((height, width), 255, np.uint8) if truth.mask is None else truth.mask.astype(np.uint8)
    return (
        as_png(cv2.resize(grey, size, interpolation=cv2.INTER_AREA)),
        as_png(shrunk(mask, size)),
    )
