"""An answer of semantic segmentation: a class for every pixel; class 0 is the background."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.answers.base import Answer
from dao.answers.card import ModelCard
from dao.answers.checked import Outputs, Shape
from dao.answers.operating import EVEN, SET_BY, own_thresholds
from dao.answers.peaks import region_peak
from dao.answers.regions import describe_regions
from dao.answers.verdicts import class_map, defect_probability, large_regions, verdict
from dao.drawing.class_map import count_pixels
from dao.errors import Problem
from dao.preprocess.tiling import Window, blend
from dao.structures import Prediction

AGREED_PIXELS = 0.999  # export parity: pixels on the edge between two equal probabilities may fall either way


class SegmentationAnswer(Answer):
    """Probabilities in; the class map of the original picture and whether a defect is on it out.

    Facts in the card: ``threshold``: from which probability of a defect of any kind on a pixel is one, of the likeliest kind
    (None: of the likeliest class, background or not); ``class_thresholds``: the same for single classes, which are then
    judged by their own probability alone; ``min_area``: pixels, smaller regions are no defects (None: all are). A part is
    bad when a defect is left.
    """

    operating = ("threshold", "class_thresholds", "min_area")
    resizes = ("letterbox", "stretch", "tile")  # "crop" would leave a picture's ends unseen

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
    def badness(cls, prediction: Prediction, card: ModelCard) -> float:
        """At least the threshold exactly where the picture is bad; without one, the highest probability of a kind of defect."""
        if threshold_of(card.facts) is None:
            return float(prediction.scores[1:].max(initial=0))
        return region_peak(prediction.defect_map, card.facts.get("min_area") or 1)

    @classmethod
    def describe(cls, prediction: Prediction, card: ModelCard) -> dict[str, Any]:
        """Regions with their polygons, in pixels of the picture, and the area of each class."""
        height, width = prediction.original_hw
        counts = count_pixels(prediction.mask, len(card.classes))
        found = [k for k in range(1, len(card.classes)) if counts[k]]
        largest = max(found, key=lambda k: counts[k], default=0)
        score = round(cls.badness(prediction, card), 6)
        return {
            "path": prediction.path,
            "label": card.classes[largest],
            "verdict": verdict(bool(prediction.bad)),
            "score": score,
            "badness": score,
            "height": height,
            "width": width,
            "pixels": {card.classes[k]: int(counts[k]) for k in found},
            "share": {card.classes[k]: round(float(counts[k] / counts.sum()), 6) for k in found},
            "regions": describe_regions(prediction.mask, prediction.defect_map, card.classes),
        }

    @classmethod
    def caption(cls, prediction: Prediction, card: ModelCard) -> str:
        counts, whole = count_pixels(prediction.mask, len(card.classes)), prediction.mask.size
        found = sorted((k for k in range(1, len(card.classes)) if counts[k]), key=lambda k: -counts[k])
        shares = [
            f"{counts[k] / whole * 100:.1f} % of the picture" if counts[k] >= 0.0005 * whole else f"{counts[k]} px"
            for k in found
        ]
        words = [f"{card.classes[k]} {share}" for k, share in zip(found, shares, strict=True)]
        return ", ".join(words) or "no defect found"

    @classmethod
    def draw(
        cls,
        image: NDArray[np.uint8],
        prediction: Prediction,
        card: ModelCard,
        truth: str | None = None,
        heatmap: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        from dao.drawing.masks import annotate_segmentation

        return annotate_segmentation(image, prediction.mask, card.classes)

    @classmethod
    def thumbnail(cls, image: NDArray[np.uint8], prediction: Prediction, card: ModelCard) -> NDArray[np.uint8]:
        from dao.drawing.masks import small_overlay

        return small_overlay(image, prediction.mask)

    @classmethod
    def legend(cls, prediction: Prediction, card: ModelCard) -> dict[str, tuple[int, int, int]]:
        from dao.drawing.masks import mask_legend

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
