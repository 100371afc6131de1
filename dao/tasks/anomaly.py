"""Anomaly detection: how far a picture, and every pixel of it, is from good parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from loguru import logger
from torch import Tensor, nn

from dao.answers.anomaly import AnomalyAnswer
from dao.answers.anomaly_scale import SLOPE
from dao.answers.operating import SET_BY
from dao.answers.roi import raster
from dao.calibrators.base import Calibrator
from dao.calibrators.rules import FalseAlarmRate
from dao.dataloaders.datasets.anomaly import kept_for_threshold
from dao.dataloaders.pictures import TrainingPictures
from dao.errors import ConfigError, Problem
from dao.models.anomaly.base import AnomalyModel
from dao.models.sync_bn import fixed_statistics
from dao.preprocess.module import Preprocess
from dao.processes import dist
from dao.register import Registers
from dao.structures import Batch
from dao.tasks.anomaly_calibration import (
    HELD_OUT,
    IN_SAMPLE_ALONE,
    VIEWS,
    inputs_of_good,
    inputs_of_windows,
    score_kept,
    score_set,
    thresholds,
    windows_of_a_picture,
)  # fmt: skip
from dao.tasks.base import Task


@Registers.tasks.register("anomaly")
class AnomalyTask(AnomalyAnswer, Task):
    """Raw maps and scores of a model, and the same normalised so that 0.5 is the threshold.

    Facts in the card: see `AnomalyAnswer`.
    """

    models = "anomaly_models"
    evaluator = "AnomalyEvaluator"
    training_needs = ("optimizer",)
    learned_facts = (
        "picture_threshold", "picture_typical", "pixel_threshold", "pixel_typical", "region_threshold", "calibration",
    )  # fmt: skip

    def __init__(
        self,
        model: nn.Module,
        preprocess: Preprocess,
        classes: Sequence[str],
        loss: nn.Module | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model, preprocess, classes, loss, facts)
        if self.facts["region"]:
            self._look_within()
        self.any_held_out, self.kept_are = False, IN_SAMPLE_ALONE
        self.pictures: TrainingPictures | None = None

    @classmethod
    def facts_of(cls, dataset: Any) -> dict[str, Any]:
        return {"region": dataset.region} if getattr(dataset, "region", None) else {}

    def _look_within(self) -> None:
        """Tell the model where to look, in the pixels of its input."""
        kind = self.preprocess.settings.resize
        if kind != "stretch":
            message = (
                f"is '{kind}', but the dataset has a region of interest: only \"stretch\" puts a place of the picture at "
                "the same place of the input, whatever the picture's size"
            )
            raise ConfigError(Problem("preprocess.resize", message))
        looked_at = raster(self.facts["region"], self.preprocess.size)
        if not looked_at.any():
            raise ConfigError(Problem("dataset.kwargs.region", "is smaller than a pixel of preprocess.size"))
        self.model.look_within(torch.tensor(looked_at).to(self.preprocess.mean.device))

    # -- learning

    def prepare(self, dataset: Any) -> None:
        if self.model.position_bound and self.preprocess.settings.tiled:
            message = (
                f"'tile' shows {type(self.model).__name__} windows from anywhere, and it learns what is good at each "
                "place of its input; use 'stretch' or 'letterbox', or PatchCore, which does not mind the place"
            )
            raise ConfigError(Problem("preprocess.resize", message))
        held = [record for record in dataset.records if getattr(record, "held_out", False)]
        self.any_held_out = bool(held)
        pictures = (len(dataset.records) - len(held)) * (
            windows_of_a_picture(dataset, self.preprocess) if self.cuts else 1
        )
        if held:
            self.kept_are = VIEWS if any(getattr(record, "view", False) for record in held) else HELD_OUT
        self.model.expect(pictures, self.preprocess.size)
        self.pictures = TrainingPictures(dataset, self.preprocess, self.blanked)
        if getattr(self.model, "features", None) is not None and self.model.features.random:
            logger.warning(
                "the backbone's weights are random: enough to try the tool and for defects that stand out. For work set "
                "model.kwargs.pretrained, or checkpoint_path where there is no internet"
            )

    @property
    def cuts(self) -> bool:
        """Whether every window of a training picture is learnt from. A model that is trained sees others each epoch."""
        return self.model.fitted_in_one_pass and self.preprocess.settings.tiled

    @property
    def scored_by_peak(self) -> bool:
        """Whether a picture's score is the highest of its map: then one threshold serves both."""
        within = self.model.region is not None and self.model.scored_by_map
        return self.model.score_is_peak or within

    def use_loader(self, loader: Any) -> None:
        if self.cuts and hasattr(loader, "show_whole"):
            loader.show_whole()

    def plan(self, iterations: int) -> None:
        self.model.plan(iterations)

    @property
    def passes(self) -> int | None:
        """A model that is fitted has seen everything after one pass."""
        return 1 if self.model.fitted_in_one_pass else None

    def begin_pass(self, augment: bool) -> None:
        super().begin_pass(augment)
        self.model.begin()

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        if self.cuts and batch.samples is not None:
            for index, sample in zip(batch.indices, batch.samples, strict=True):
                for windows in inputs_of_windows(self, sample.image):
                    self.model.collect(windows, [index] * len(windows))
            return {}
        images = self.blanked(self.preprocess.normalise(batch.images))
        if not self.model.fitted_in_one_pass:
            return self._descend(images, batch)
        if len(images):
            self.model.collect(images, batch.indices)
        return {}

    def _descend(self, images: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The model's own losses of the pictures that it may learn from.

        Where a process ran out of pictures before the others, or none of a batch can be read, there are none. One process
        alone then leaves the batch out. Of several each must take its step: a blank picture passes through, which
        weighs nothing (weight decay and momentum still do) and leaves batch norms' statistics alone, unless those are
        taken over all processes.
        """
        if len(images):
            return self._pass(images)
        if dist.world_size() == 1:
            return {}
        blank = batch.images.new_zeros((1, *batch.images.shape[1:]))
        with fixed_statistics(self.model):
            passed = self._pass(self.blanked(self.preprocess.normalise(blank)))
        return {name: 0.0 * value for name, value in passed.items()}

    def _pass(self, images: Tensor) -> dict[str, Tensor]:
        if self.pictures is None:
            raise RuntimeError("prepare(dataset) comes before the first training step")
        return self.net(images, **self.model.beside(images, self.pictures))  # type: ignore[no-any-return]

    def end_of_pass(self) -> None:
        if self.model.fitted_in_one_pass:
            self.model.fit()

    def set_apart(self, dataset: Any, calibrated: bool = False) -> Any:
        """What the threshold, or the scale of a model that has one, comes from."""
        scaled = type(self.model).settle is not AnomalyModel.settle
        if not calibrated or (scaled and self.any_held_out):
            return kept_for_threshold(dataset)
        if self.any_held_out:
            logger.warning(
                "good pictures are held out of training, and the threshold, which comes from the calibration set, does not "
                "need them: set dataset.kwargs.held_out to 0 to learn from them as well (unless they are to judge)"
            )
        return None

    @torch.inference_mode()
    def calibrate(
        self, calibrator: Any | None, batches: Iterable[Batch] | None, kept: Iterable[Batch] | None = None
    ) -> None:
        rule: Calibrator = calibrator if calibrator is not None else FalseAlarmRate()
        scale_from = kept if kept is not None and (self.any_held_out or batches is None) else batches
        self.model.settle(inputs_of_good(self, scale_from or ()))
        if batches is not None:
            scores = score_set(self, batches)
        else:
            if not self.any_held_out:
                logger.warning(
                    "no picture was held out for the threshold: it comes from training pictures, so expect more false "
                    "alarms; set dataset.kwargs.held_out, or name a calibration set"
                )
            scores = score_kept(self, kept or (), self.kept_are)
        found = thresholds(rule, scores, by_map=self.scored_by_peak)
        if by_hand := self.take_over(found):
            self.facts["calibration"] = _told_by_hand(by_hand, self.facts[SET_BY], found["calibration"])
            if self.model.fitted_in_one_pass:
                self.warn_of_points({**self.facts, **found}, self.facts)
        # of a model that is trained they are found anew after every epoch
        logger.log("INFO" if self.model.fitted_in_one_pass else "DEBUG", "thresholds {:.4g} (pictures) and {:.4g} (pixels): {}",
                   self.facts["picture_threshold"], self.facts["pixel_threshold"], self.facts["calibration"])  # fmt: skip

    @classmethod
    def recalibrated(cls, answers: Any, rule: Calibrator, batches: Iterable[Batch], evaluator: Any) -> dict[str, Any]:
        return thresholds(rule, score_set(answers, batches), by_map=getattr(answers, "scored_by_peak", False))

    # -- answering

    def blanked(self, images: Tensor) -> Tensor:
        """Grey outside the region: a layer looks far beyond the place that it speaks of."""
        return images if self.model.region is None else images * self.model.region

    def infer(self, images: Tensor) -> dict[str, Tensor]:
        raw_map, raw_score = self.model(self.blanked(images))
        if self.model.region is not None and self.model.scored_by_map:
            raw_map = raw_map * self.model.region
            raw_score = raw_map.amax(dim=(1, 2, 3))
        return {"raw_map": raw_map.float(), "raw_score": raw_score.float()}

    def restore(self, outputs: dict[str, Tensor], original_hw: tuple[int, int]) -> dict[str, Tensor]:
        """anomaly_map, raw_map: (B, H, W); anomaly_score, raw_score: (B,); is_bad: (B,) bool."""
        raw_map, raw_score = self.preprocess.restore(outputs["raw_map"], original_hw)[:, 0], outputs["raw_score"]
        return {
            "anomaly_map": self.normalised(raw_map, "pixel"),
            "anomaly_score": self.normalised(raw_score, "picture"),
            "is_bad": raw_score >= self.facts["picture_threshold"],
            "raw_map": raw_map,
            "raw_score": raw_score,
        }

    def normalised(self, raw: Tensor, level: str) -> Tensor:
        """Raw scores -> 0..1, never falling: 0.1 is the middle good one, 0.5 the threshold, 0.9 as far beyond it.

        Some seven such ways beyond the threshold float32 has nothing below 1 left: what is to be ordered is ordered by
        raw scores.
        """
        threshold, typical = self.facts[f"{level}_threshold"], self.facts[f"{level}_typical"]
        return torch.sigmoid((raw - threshold) * (SLOPE / (threshold - typical)))


def _told_by_hand(by_hand: Mapping[str, Any], set_by: Mapping[str, str], calibration: str) -> str:
    said = "; ".join(
        f"{name} {by_hand[name]:g}, {set_by[name]}, not calibrated" for name in by_hand if name.endswith("_threshold")
    )
    return f"{said}. Calibrated, and not used for it: {calibration}"
