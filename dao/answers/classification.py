"""An answer of image classification: one label per picture, or several where the data says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.answers import verdicts
from dao.answers.base import Answer
from dao.answers.card import ModelCard, require
from dao.answers.checked import Outputs, Shape
from dao.answers.operating import EVEN, SET_BY, bad_indices, own_thresholds
from dao.answers.verdicts import badness_words, labels_given, part_label, verdict
from dao.errors import Problem
from dao.structures import Prediction


class ClassificationAnswer(Answer):
    """Scores by class in; the label, and whether it means a bad part, out.

    Facts in the card: ``multi_label``; ``bad_classes``, those that mean a bad part, where that is known; ``threshold``: with
    one label a picture, from which badness on (`dao.answers.verdicts.badness`) it is bad and carries the
    likeliest bad class, else the likeliest good one (None: the likeliest of all); with several, from which score on a
    label is given; ``class_thresholds``: the same for single classes, which are then judged by their own score alone.
    """

    operating = ("bad_classes", "threshold", "class_thresholds")
    aliases = MappingProxyType({"positive": "bad_classes"})

    @classmethod
    def completed(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        several = bool(facts.get("multi_label", False))
        before = {"multi_label": several, "threshold": EVEN if several else None, "bad_classes": []}
        return {**before, "class_thresholds": {}, SET_BY: {}, **facts}

    @classmethod
    def fewest_classes(cls, facts: Mapping[str, Any]) -> int:
        """Something to tell apart, unless each class is a question of its own."""
        return 1 if facts["multi_label"] else 2

    @classmethod
    def check_facts(cls, facts: Mapping[str, Any]) -> None:
        require(facts, "multi_label", isinstance(facts["multi_label"], bool))
        require(facts, "threshold", facts["threshold"] is not None or not facts["multi_label"])

    @classmethod
    def fact_problems(
        cls, given: Mapping[str, Any], known: Mapping[str, Any], classes: Sequence[str], places: Mapping[str, str]
    ) -> list[Problem]:
        several = known["multi_label"]
        if given.get("multi_label", several) != several:
            return [Problem(places["multi_label"], "is what the model was trained for; leave it out")]
        problems = super().fact_problems(given, known, classes, places)
        if problems:
            return problems
        if several:
            alone = "threshold" in given and given["threshold"] is None
            return [Problem(places["threshold"], "expected above 0, at most 1, got None")] if alone else []
        return _one_label_problems(given, {**known, **given}["bad_classes"], classes, places)

    @classmethod
    def expected(cls, card: ModelCard, hw: tuple[int, int]) -> dict[str, Shape]:
        return {"scores": (len(card.classes),)}

    @classmethod
    def decode(cls, outputs: Outputs, card: ModelCard, original_hw: Sequence[tuple[int, int]]) -> list[Prediction]:
        facts = cls.completed(card.facts)
        bad, own = bad_indices(facts, card.classes), own_thresholds(facts, card.classes)
        found = []
        for scores, hw in zip(outputs["scores"], original_hw, strict=True):
            prediction = Prediction(original_hw=tuple(hw), scores=scores)
            if facts["multi_label"]:
                prediction.label = int(scores.argmax())
                prediction.labels = labels_given(scores, facts["threshold"], own)
                prediction.bad = bool(set(bad) & set(prediction.labels)) if bad else None
            else:
                prediction.label, prediction.bad = part_label(scores, bad, facts["threshold"], own)
            found.append(prediction)
        return found

    @classmethod
    def badness(cls, prediction: Prediction, card: ModelCard) -> float:
        if prediction.bad is None:
            return float(prediction.scores[prediction.label])
        bad, own = bad_indices(card.facts, card.classes), own_thresholds(card.facts, card.classes)
        return float(verdicts.badness(prediction.scores[None], bad, own, prediction.labels is not None)[0])

    @classmethod
    def describe(cls, prediction: Prediction, card: ModelCard) -> dict[str, Any]:
        scores = {name: round(float(s), 6) for name, s in zip(card.classes, prediction.scores, strict=True)}
        label = card.classes[prediction.label]
        found = {"path": prediction.path, "label": label, "score": scores[label]}
        if prediction.labels is not None:
            found["labels"] = [card.classes[i] for i in prediction.labels]
        if prediction.bad is not None:
            found |= {"verdict": verdict(prediction.bad), "badness": round(cls.badness(prediction, card), 6)}
        return {**found, "scores": scores, "height": prediction.original_hw[0], "width": prediction.original_hw[1]}

    @classmethod
    def caption(cls, prediction: Prediction, card: ModelCard) -> str:
        if prediction.labels is None:
            known = cls.completed(card.facts)["threshold"]
            by_threshold = known not in (None, EVEN) or prediction.label != int(prediction.scores.argmax())
            words = badness_words(cls.badness(prediction, card), known)
            said = super().caption(prediction, card)
            return f"{said}, {words}" if by_threshold and prediction.bad is not None else said
        return ", ".join(f"{card.classes[i]} {prediction.scores[i]:.2f}" for i in prediction.labels) or "no label"

    @classmethod
    def draw(
        cls,
        image: NDArray[np.uint8],
        prediction: Prediction,
        card: ModelCard,
        truth: str | None = None,
        heatmap: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        from dao.drawing.pictures import annotate_classification

        return annotate_classification(
            image, card.classes, prediction.scores, prediction.label, truth=truth, heatmap=heatmap,
            labels=prediction.labels,
        )  # fmt: skip

    @classmethod
    def agreement(cls, first: Prediction, second: Prediction) -> bool:
        same = first.label == second.label and first.labels == second.labels
        return same and first.bad == second.bad


def _one_label_problems(
    given: Mapping[str, Any], bad: Sequence[str], classes: Sequence[str], places: Mapping[str, str]
) -> list[Problem]:
    """Where a picture has one label, thresholds need to know which classes are good, and some must be."""
    if "bad_classes" in given and set(bad) >= set(classes):
        message = "names every class; where a picture has one label, one class must be left to mean a good part"
        return [Problem(places["bad_classes"], message)]
    set_here = [name for name in ("threshold", "class_thresholds") if given.get(name)]
    if not bad and set_here:
        message = (
            "no class is known to mean a good part, so the likeliest class is the answer: name the good ones in "
            "evaluator.kwargs.good (or bad_classes among the facts), or leave it out"
        )
        return [Problem(places[name], message) for name in set_here]
    good = [name for name in given.get("class_thresholds", {}) if name not in bad]
    message = "means a good part, which is what no bad class leaves: give thresholds of bad ones"
    return [Problem(f"{places['class_thresholds']}.{name}", message) for name in good]
