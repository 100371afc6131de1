"""Anomaly detection: how far a picture, and every pixel of it, is from good parts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from loguru import logger
from numpy.typing import NDArray
from torch import Tensor, nn

from dao.answers.operating import SET_BY, is_number
from dao.answers.verdicts import least_float32, strange_regions, verdict
from dao.calibrators.base import Calibrator
from dao.calibrators.rules import FalseAlarmRate
from dao.dataloaders.datasets.anomaly import kept_for_threshold
from dao.dataloaders.pictures import TrainingPictures
from dao.errors import ConfigError, Problem
from dao.models.anomaly.base import AnomalyModel
from dao.models.sync_bn import fixed_statistics
from dao.preprocess import Preprocess
from dao.register import Registers
from dao.structures import Batch, Prediction
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
from dao.tasks.answered import Shape
from dao.tasks.base import ModelCard, Outputs, Task
from dao.tasks.card import require
from dao.tiling import Window, blend
from dao.utils import dist
from dao.utils.roi import raster

TYPICAL = 0.1  # what the middle good picture's score becomes; the threshold becomes 0.5
SLOPE = math.log((1 - TYPICAL) / TYPICAL)
SAID_FROM = 0.001  # of a picture, above the pixel threshold in one called good: said beside the verdict
SAME_SCORE = 1e-3  # normalised scores of one picture differ by less, whatever runs the model


@Registers.tasks.register("anomaly")
class AnomalyTask(Task):
    """Raw maps and scores of a model, and the same normalised so that 0.5 is the threshold.

    Facts in the card: ``picture_threshold``, ``pixel_threshold`` in the method's units; ``picture_typical``,
    ``pixel_typical``: the middle scores of good ones, which become 0.1; ``region_threshold``: what a region above the
    pixel threshold must reach somewhere to be outlined, as high as makes a picture bad (None: every region is);
    ``min_area``: its least size in pixels; ``calibration``: how they were found, in words;
    ``region``: where the model looks (dao/utils/roi.py), empty for everywhere. Outside it the raw map is 0.
    """

    models = "anomaly_models"
    evaluator = "AnomalyEvaluator"
    training_needs = ("optimizer",)
    learned_facts = (
        "picture_threshold", "picture_typical", "pixel_threshold", "pixel_typical", "region_threshold", "calibration",
    )  # fmt: skip
    operating = ("picture_threshold", "pixel_threshold", "region_threshold", "min_area")
    aliases = MappingProxyType({"threshold": "picture_threshold"})
    resizes = ("letterbox", "stretch", "tile")

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
    def fewest_classes(cls, facts: Mapping[str, Any]) -> int:
        """A good part and a bad one."""
        return 2

    @classmethod
    def check_facts(cls, facts: Mapping[str, Any]) -> None:
        """A threshold of NaN would call every part good."""
        for level in ("picture", "pixel"):
            for name in (f"{level}_threshold", f"{level}_typical"):
                require(facts, name, is_number(facts[name]))
            require(facts, f"{level}_threshold", facts[f"{level}_threshold"] > facts[f"{level}_typical"])
        require(facts, "region_threshold", facts["region_threshold"] is None or is_number(facts["region_threshold"]))
        require(facts, "calibration", isinstance(facts["calibration"], str))
        if facts["region"]:
            raster(facts["region"], (8, 8))

    @classmethod
    def completed(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        unset = {
            "picture_threshold": 1.0, "picture_typical": 0.0, "pixel_threshold": 1.0, "pixel_typical": 0.0,
            "region_threshold": None, "min_area": 1, "calibration": "none yet", "region": [], SET_BY: {},
        }  # fmt: skip
        return {**unset, **facts}

    @classmethod
    def fact_problems(
        cls, given: Mapping[str, Any], known: Mapping[str, Any], classes: Sequence[str], places: Mapping[str, str]
    ) -> list[Problem]:
        if "region" in given:
            return [Problem(places["region"], "was learnt with: train anew to look somewhere else")]
        numbers = {name: value for name, value in given.items() if name.endswith(("_threshold", "_typical"))}
        if numbers.get("region_threshold", 0.0) is None:
            del numbers["region_threshold"]
        wrong = [name for name, value in numbers.items() if not is_number(value)]
        if wrong:
            return [Problem(places[name], f"must be a number, got {given[name]!r}") for name in wrong]
        return super().fact_problems(given, known, classes, places)

    @classmethod
    def facts_with(cls, card: ModelCard, facts: Mapping[str, Any], where: str = "facts") -> dict[str, Any]:
        """As every task's; what was calibrated is said to be no more so, and normalised scores keep their scale."""
        before, after = cls.completed(card.facts), super().facts_with(card, facts, where)
        for level in ("picture", "pixel"):
            _keep_scale(level, before, after)
        moved = [name for name in ("picture_threshold", "pixel_threshold") if after[name] != before[name]]
        if "picture_threshold" in moved and after["region_threshold"] == before["region_threshold"] is not None:
            beyond = before["region_threshold"] - before["picture_threshold"]
            after["region_threshold"] = after["picture_threshold"] + beyond  # as far from it as it was
        if moved and "calibration" not in facts:
            said = "; ".join(f"{name} {after[name]:g}, {after[SET_BY][name]}, not calibrated" for name in moved)
            after["calibration"] = f"{said}. Before: {before['calibration']}"
        return after

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

    @classmethod
    def expected(cls, card: ModelCard, hw: tuple[int, int]) -> dict[str, Shape]:
        return {"anomaly_map": hw, "raw_map": hw, "anomaly_score": (), "raw_score": (), "is_bad": ()}

    @classmethod
    def decode(cls, outputs: Outputs, card: ModelCard, original_hw: Sequence[tuple[int, int]]) -> list[Prediction]:
        """label: 1 when the picture is bad; scores: of good and bad. By the card's thresholds, whatever the file holds."""
        facts = cls.completed(card.facts)
        found = []
        for raw_map, raw_score, hw in zip(outputs["raw_map"], outputs["raw_score"], original_hw, strict=True):
            bad = float(raw_score) >= facts["picture_threshold"]
            score = float(_normalised(np.float64(raw_score), facts, "picture"))
            prediction = Prediction(
                original_hw=tuple(hw),
                scores=np.array([1 - score, score], np.float32),
                label=int(bad),
                bad=bad,
                mask=strange_regions(
                    raw_map, bad, facts["pixel_threshold"], facts["region_threshold"], facts["min_area"] or 1
                ),
                anomaly_map=_normalised(raw_map, facts, "pixel"),
                anomaly_score=score,
                raw_map=raw_map,
                raw_score=float(raw_score),
                region=raster(facts["region"], tuple(hw)) if facts["region"] else None,
            )
            found.append(prediction)
        return found

    @classmethod
    def merge_tiles(
        cls, answers: Iterable[tuple[Window, Outputs]], card: ModelCard, original_hw: tuple[int, int]
    ) -> Prediction:
        """The maps blended; a picture is as strange as its strangest window."""
        raw = np.zeros(original_hw, np.float32)
        worst: list[float] = []

        def maps() -> Iterable[tuple[Window, NDArray[np.float32]]]:
            for window, outputs in answers:
                worst.append(float(outputs["raw_score"][0]))
                yield window, outputs["raw_map"][:1]

        for band in blend(maps(), original_hw[1]):
            raw[band.top : band.top + band.values.shape[1]] = band.values[0]
        outputs = {"raw_map": raw[None], "raw_score": np.array([max(worst)], np.float32)}
        return cls.decode(outputs, card, [original_hw])[0]

    # -- showing

    @classmethod
    def draw(
        cls,
        image: NDArray[np.uint8],
        prediction: Prediction,
        card: ModelCard,
        truth: str | None = None,
        heatmap: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        from dao.utils.visualize_anomaly import annotate_anomaly

        return annotate_anomaly(image, prediction)

    @classmethod
    def describe(cls, prediction: Prediction, card: ModelCard) -> dict[str, Any]:
        """The verdict, the scores, and the regions above the pixel threshold."""
        from dao.utils.regions import describe_regions

        height, width = prediction.original_hw
        return {
            "path": prediction.path,
            "label": card.classes[prediction.label],
            "verdict": verdict(bool(prediction.bad)),
            "score": round(prediction.anomaly_score, 6),
            "raw_score": round(prediction.raw_score, 6),
            "height": height,
            "width": width,
            "anomalous_share": round(float(prediction.mask.mean()), 6),
            "suspect_share": round(cls._suspect(prediction, card), 6),
            "verdict_and_region": differing(prediction),
            "regions": describe_regions(prediction.mask, prediction.anomaly_map, ["good", "anomaly"]),
        }

    @classmethod
    def caption(cls, prediction: Prediction, card: ModelCard) -> str:
        said = f"{card.classes[prediction.label]}: score {prediction.anomaly_score:.2f}"
        suspect = cls._suspect(prediction, card)
        if difference := differing(prediction):
            return f"{said}, {difference}"
        return f"{said}, {suspect:.1%} suspect" if suspect >= SAID_FROM and not prediction.bad else said

    @classmethod
    def _suspect(cls, prediction: Prediction, card: ModelCard) -> float:
        """Share of the picture above the pixel threshold, in regions that are not outlined."""
        above = prediction.raw_map >= least_float32(cls.completed(card.facts)["pixel_threshold"])
        return float((above & (prediction.mask == 0)).mean())

    @classmethod
    def thumbnail(cls, image: NDArray[np.uint8], prediction: Prediction, card: ModelCard) -> NDArray[np.uint8]:
        from dao.utils.visualize_anomaly import small_anomaly

        return small_anomaly(image, prediction)

    @classmethod
    def files(cls, prediction: Prediction, card: ModelCard) -> dict[str, NDArray[np.uint8]]:
        """The map as grey levels, 128 the threshold, and the mask of what lies above it."""
        return {
            "map": np.round(prediction.anomaly_map * 255).astype(np.uint8),
            "mask": prediction.mask * np.uint8(255),
        }

    @classmethod
    def compare(cls, mine: Outputs, theirs: Outputs, card: ModelCard, original_hw: tuple[int, int]) -> dict[str, Any]:
        found = super().compare(in_shares(mine, card), in_shares(theirs, card), card, original_hw)
        hw = [original_hw] * len(mine["raw_score"])
        pairs = zip(cls.decode(mine, card, hw), cls.decode(theirs, card, hw), strict=True)
        agree = all(cls.agreement(first, second) for first, second in pairs)
        apart = (
            np.abs(mine["anomaly_score"] - 0.5) >= SAME_SCORE
        )  # from the threshold, on which a file may call it either
        return {**found, "agree": agree and bool((mine["is_bad"] == theirs["is_bad"])[apart].all())}

    @classmethod
    def extent(cls, mine: Outputs, card: ModelCard, original_hw: tuple[int, int]) -> NDArray[np.float64]:
        return super().extent(in_shares(mine, card), card, original_hw)

    @classmethod
    def agreement(cls, first: Prediction, second: Prediction) -> bool:
        """The same verdict; either one where the score lies on the threshold itself."""
        on_it = abs(first.anomaly_score - 0.5) < SAME_SCORE
        return first.label == second.label or on_it


def differing(prediction: Prediction) -> str:
    """What is to be said where the verdict and what is outlined tell different things; "" where they agree."""
    if prediction.bad and not prediction.mask.any():
        return "bad with nothing outlined"
    if not prediction.bad and prediction.mask.any():
        return f"good with {prediction.mask.mean():.1%} outlined"
    return ""


def _normalised(raw: Any, facts: Mapping[str, Any], level: str) -> Any:
    """`AnomalyTask.normalised` of numpy values: the same numbers."""
    threshold, typical = facts[f"{level}_threshold"], facts[f"{level}_typical"]
    exponent = (raw - threshold) * (-SLOPE / (threshold - typical))
    return 1 / (1 + np.exp(np.minimum(exponent, 80)))


def _keep_scale(level: str, before: Mapping[str, Any], after: dict[str, Any]) -> None:
    """A threshold at or below the usual good score leaves no room for a scale: then it keeps the one that it had."""
    threshold, typical = f"{level}_threshold", f"{level}_typical"
    if after[threshold] <= after[typical]:
        after[typical] = after[threshold] - (before[threshold] - before[typical])


def _told_by_hand(by_hand: Mapping[str, Any], set_by: Mapping[str, str], calibration: str) -> str:
    said = "; ".join(
        f"{name} {by_hand[name]:g}, {set_by[name]}, not calibrated" for name in by_hand if name.endswith("_threshold")
    )
    return f"{said}. Calibrated, and not used for it: {calibration}"


def in_shares(outputs: Outputs, card: ModelCard) -> Outputs:
    """Raw outputs as shares of their threshold, so that a method's units do not decide what is close."""
    units = {"raw_map": card.facts["pixel_threshold"], "raw_score": card.facts["picture_threshold"]}
    return {name: value / units[name] if name in units else value for name, value in outputs.items()}
