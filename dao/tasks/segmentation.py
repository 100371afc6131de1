"""Semantic segmentation: a class for every pixel; class 0 is the background."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dao.answers.operating import EVEN, MIN_AREA, SET_BY, own_thresholds
from dao.answers.peaks import region_peak
from dao.answers.verdicts import (
    class_map,
    defect_probability,
    large_regions,
    least_float32,
    verdict,
)
from dao.errors import ConfigError, Problem
from dao.losses.base import UNLABELLED
from dao.mask_resampling import resize_masks
from dao.register import Registers
from dao.structures import Batch, Prediction
from dao.tasks.answered import Shape
from dao.tasks.base import ModelCard, Outputs, Task
from dao.tiling import Window, blend

IGNORE = 255  # of masks as they travel
AGREED_PIXELS = 0.999  # export parity: pixels on the edge between two equal probabilities may fall either way


@Registers.tasks.register("seg")
class SegmentationTask(Task):
    """Logits in, softmax probabilities and the class map of the original picture out.

    Facts in the card: ``threshold``: from which probability of a defect of any kind on a pixel is one, of the likeliest kind
    (None: of the likeliest class, background or not); ``class_thresholds``: the same for single classes, which are then
    judged by their own probability alone; ``min_area``: pixels, smaller regions are no defects (None: all are). A part is
    bad when a defect is left.
    """

    models = "seg_models"
    evaluator = "SegEvaluator"
    operating = ("threshold", "class_thresholds", "min_area")
    training_needs = ("loss", "optimizer")
    resizes = ("letterbox", "stretch", "tile")  # "crop" would leave a picture's ends unseen

    @classmethod
    def expected_output(cls, num_classes: int, size_hw: tuple[int, int]) -> tuple[int, ...]:
        return (1, num_classes, *size_hw)

    @classmethod
    def facts_of(cls, dataset: Any) -> dict[str, Any]:
        """The operating point that a new model starts with."""
        return {"threshold": EVEN, "min_area": MIN_AREA}

    @classmethod
    def completed(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        return {"threshold": None, "class_thresholds": {}, "min_area": None, SET_BY: {}, **facts}

    @classmethod
    def fact_problems(
        cls, given: Mapping[str, Any], known: Mapping[str, Any], classes: Sequence[str], places: Mapping[str, str]
    ) -> list[Problem]:
        problems = super().fact_problems(given, known, classes, places)
        if not problems and classes[0] in given.get("class_thresholds", {}):
            message = "is the background, which is what no defect leaves: give thresholds of defects"
            problems = [Problem(f"{places['class_thresholds']}.{classes[0]}", message)]
        return problems

    def loss_needs(self) -> tuple[str, ...]:
        """Masks may leave pixels open, and the border that a picture is filled up with always is."""
        return ("masks", "unlabelled")

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        if not isinstance(batch.targets, Tensor) or batch.targets.ndim != 3:
            raise ConfigError(
                Problem("dataloader.type", "gives no masks, and segmentation needs them: SegDataloader does")
            )
        outputs = self.net(self.preprocess.normalise(batch.images))
        if self.loss is None:
            raise RuntimeError("training_step needs a loss; this task was built without one")
        target = batch.targets.long()
        target = target.masked_fill(target == IGNORE, UNLABELLED)
        if isinstance(outputs, Tensor):
            return self.loss(outputs.float(), target)
        return self._deep(outputs, target)

    def _deep(self, outputs: Sequence[Tensor], target: Tensor) -> dict[str, Tensor]:
        """The network's own loss and the mean of those of its inner heads, by the model's ``aux_weight``."""
        own = self.loss(outputs[0].float(), target)
        inner = torch.stack([self.loss(x.float(), target)["loss"] for x in outputs[1:]]).mean()
        total = own["loss"] + self.model.aux_weight * inner
        return {**own, "main": own["loss"].detach(), "inner": inner.detach(), "loss": total}

    def resize_batch(self, batch: Batch, size_hw: tuple[int, int]) -> None:
        super().resize_batch(batch, size_hw)
        batch.targets = resize_masks(batch.targets, size_hw, self.preprocess.settings.mask_resize)

    def infer(self, images: Tensor) -> dict[str, Tensor]:
        return {"probabilities": self.model(images).float().softmax(dim=1)}

    def restore(self, outputs: dict[str, Tensor], original_hw: tuple[int, int]) -> dict[str, Tensor]:
        """probabilities: (B, K, H, W) float; class_map: (B, H, W) uint8, by the thresholds; small regions are still in it."""
        probabilities = self.preprocess.restore(outputs["probabilities"], original_hw)
        return {"probabilities": probabilities, "class_map": self._class_map(probabilities).to(torch.uint8)}

    def _class_map(self, probabilities: Tensor) -> Tensor:
        """`dao.answers.verdicts.class_map` for a batch, safe to trace."""
        own, threshold = own_thresholds(self.facts, self.classes), threshold_of(self.facts)
        if threshold is None or probabilities.shape[1] == 1:
            return probabilities.argmax(dim=1)
        least = {k: float(least_float32(value)) for k, value in own.items()}
        shared = 1 - probabilities[:, 0]
        for k in own:
            shared = shared - probabilities[:, k]
        called = shared.clamp(0, 1) >= float(least_float32(threshold))
        kinds = [
            torch.where(probabilities[:, k] >= least[k] if k in own else called, probabilities[:, k], -1.0)
            for k in range(1, probabilities.shape[1])
        ]
        best, kind = torch.stack(kinds, dim=1).max(dim=1)
        return torch.where(best >= 0, kind + 1, 0)

    @classmethod
    def expected(cls, card: ModelCard, hw: tuple[int, int]) -> dict[str, Shape]:
        """The map of classes is whole numbers, behind which a NaN is a class; the probabilities are its witness."""
        return {"probabilities": (len(card.classes), *hw), "class_map": hw}

    @classmethod
    def decode(cls, outputs: Outputs, card: ModelCard, original_hw: Sequence[tuple[int, int]]) -> list[Prediction]:
        """scores: the highest probability of each class anywhere in the picture. By the card's thresholds, whatever the file
        holds: its class map was made by those of its export."""
        found = []
        for probabilities, hw in zip(outputs["probabilities"], original_hw, strict=True):
            mask, defects = _called(probabilities, card)
            found.append(_prediction(mask, defects, probabilities.max((1, 2)), card, hw))
        return found

    @classmethod
    def merge_tiles(
        cls, answers: Iterable[tuple[Window, Outputs]], card: ModelCard, original_hw: tuple[int, int]
    ) -> Prediction:
        mask, defects = np.zeros(original_hw, np.uint8), np.zeros(original_hw, np.float32)
        scores = np.zeros(len(card.classes), np.float32)
        maps = ((window, outputs["probabilities"][0]) for window, outputs in answers)
        for band in blend(maps, original_hw[1]):
            rows = slice(band.top, band.top + band.values.shape[1])
            mask[rows], defects[rows] = _called(band.values, card)
            scores = np.maximum(scores, band.values.max((1, 2)))
        return _prediction(mask, defects, scores, card, original_hw)

    @classmethod
    def draw(
        cls,
        image: NDArray[np.uint8],
        prediction: Prediction,
        card: ModelCard,
        truth: str | None = None,
        heatmap: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        from dao.utils.visualize_masks import annotate_segmentation

        return annotate_segmentation(image, prediction.mask, card.classes)

    @classmethod
    def describe(cls, prediction: Prediction, card: ModelCard) -> dict[str, Any]:
        """Regions with their polygons, in pixels of the picture, and the area of each class."""
        from dao.utils.regions import count_pixels, describe_regions

        height, width = prediction.original_hw
        counts = count_pixels(prediction.mask, len(card.classes))
        found = [k for k in range(1, len(card.classes)) if counts[k]]
        largest = max(found, key=lambda k: counts[k], default=0)
        return {
            "path": prediction.path,
            "label": card.classes[largest],
            "verdict": verdict(bool(prediction.bad)),
            "score": round(_score(prediction, card), 6),
            "height": height,
            "width": width,
            "pixels": {card.classes[k]: int(counts[k]) for k in found},
            "share": {card.classes[k]: round(float(counts[k] / counts.sum()), 6) for k in found},
            "regions": describe_regions(prediction.mask, prediction.defect_map, card.classes),
        }

    @classmethod
    def caption(cls, prediction: Prediction, card: ModelCard) -> str:
        from dao.utils.regions import count_pixels

        counts, whole = count_pixels(prediction.mask, len(card.classes)), prediction.mask.size
        found = sorted((k for k in range(1, len(card.classes)) if counts[k]), key=lambda k: -counts[k])
        shares = [f"{counts[k] / whole:.1%}" if counts[k] >= 0.0005 * whole else f"{counts[k]} px" for k in found]
        words = [f"{card.classes[k]} {share}" for k, share in zip(found, shares, strict=True)]
        return ", ".join(words) or "no defect found"

    @classmethod
    def thumbnail(cls, image: NDArray[np.uint8], prediction: Prediction, card: ModelCard) -> NDArray[np.uint8]:
        from dao.utils.visualize_masks import small_overlay

        return small_overlay(image, prediction.mask)

    @classmethod
    def legend(cls, prediction: Prediction, card: ModelCard) -> dict[str, tuple[int, int, int]]:
        from dao.utils.visualize_masks import mask_legend

        return mask_legend([prediction.mask], card.classes)

    @classmethod
    def files(cls, prediction: Prediction, card: ModelCard) -> dict[str, NDArray[np.uint8]]:
        """The class map, to be saved as a picture of class indices."""
        return {"mask": prediction.mask}

    @classmethod
    def compare(cls, mine: Outputs, theirs: Outputs, card: ModelCard, original_hw: tuple[int, int]) -> dict[str, Any]:
        """As every task's; the class map, which `decode` makes anew and others take from the file, must agree as well."""
        found = super().compare(mine, theirs, card, original_hw)
        return {**found, "agree": found["agree"] and found["equal"] >= AGREED_PIXELS}

    @classmethod
    def agreement(cls, first: Prediction, second: Prediction) -> bool:
        return first.bad == second.bad and bool((first.mask == second.mask).mean() >= AGREED_PIXELS)


def _score(prediction: Prediction, card: ModelCard) -> float:
    """At least the threshold exactly where the picture is bad; without one, the highest probability of a kind of defect."""
    if threshold_of(card.facts) is None:
        return float(prediction.scores[1:].max(initial=0))
    return region_peak(prediction.defect_map, card.facts.get("min_area") or 1)


def threshold_of(facts: Mapping[str, Any]) -> float | None:
    """From which probability on a pixel is a defect; None: where the background is not the likeliest."""
    if facts.get("threshold") is None and facts.get("class_thresholds"):
        return EVEN
    return facts.get("threshold")


def _called(probabilities: NDArray[np.float32], card: ModelCard) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(H, W) the class map by the card's thresholds, and (H, W) how probable a defect is, of (K, H, W) probabilities."""
    threshold, own = threshold_of(card.facts), own_thresholds(card.facts, card.classes)
    defects = defect_probability(probabilities, own)
    if threshold is not None:
        return class_map(probabilities, threshold, own), defects
    return probabilities.argmax(0).astype(np.uint8), defects


def _prediction(
    mask: NDArray[np.uint8],
    defects: NDArray[np.float32],
    scores: NDArray[np.float32],
    card: ModelCard,
    original_hw: tuple[int, int],
) -> Prediction:
    """What is left of a class map when regions that are too small are taken out is the answer and the verdict."""
    kept = large_regions(mask, card.facts.get("min_area") or 1)
    return Prediction(
        original_hw=tuple(original_hw), scores=scores, bad=bool(kept.any()), mask=kept, defect_map=defects
    )
