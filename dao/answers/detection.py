"""An answer of object detection: boxes with a class and a score, in the picture's own pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.answers import operating as points
from dao.answers.base import Answer
from dao.answers.card import ModelCard, require
from dao.answers.checked import Outputs, Shape
from dao.answers.matching import SAME_PLACE, Boxes, iou, match, same_boxes
from dao.answers.operating import SET_BY, is_number, own_thresholds
from dao.answers.suppression import AnswerSettings, chosen, corners
from dao.answers.tiled_boxes import merge_windows
from dao.answers.verdicts import box_badness, shown_boxes, verdict
from dao.errors import Problem
from dao.preprocess.geometry import boxes_to_picture
from dao.preprocess.settings import PreprocessSettings
from dao.preprocess.tiling import Window
from dao.structures import Prediction

SAME_SCORE = 1e-3  # two answers of one model differ by less, whatever runs it
MOST_DETECTIONS = 10**6  # that a file may ask for
SAME_PIXEL = 0.1  # a corner before suppression may lie so far off, in pixels of the input
RAW = "dense"  # the output of a file without suppression: see `DetectionAnswer`


class DetectionAnswer(Answer):
    """Boxes in, or what is said before suppression; those of the original picture and whether one is shown out.

    Facts in the card: those of `AnswerSettings`, of which ``shown_threshold`` is the operating point: boxes from it on are
    shown, and make a part bad; ``class_thresholds``: the same for single classes; and ``raw``: answer with what is said at
    all A positions of the input, "dense" (B, A, 5 + K) = centre, size, probability of an object and of each class, in pixels
    of the input, for deployments with a suppression of their own.
    """

    operating = ("shown_threshold", "class_thresholds")
    aliases = MappingProxyType({"score": "shown_threshold", "threshold": "shown_threshold"})
    resizes = ("letterbox", "stretch", "crop", "tile")

    @classmethod
    def check_facts(cls, facts: Mapping[str, Any]) -> None:
        for field in fields(AnswerSettings):
            require(facts, field.name, is_number(facts[field.name]) and 0 <= facts[field.name] <= MOST_DETECTIONS)
        require(facts, "max_detections", isinstance(facts["max_detections"], int))
        require(facts, "raw", isinstance(facts["raw"], bool))
        settings_of(facts, "facts")

    @classmethod
    def completed(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        return {**asdict(AnswerSettings()), "raw": False, "class_thresholds": {}, SET_BY: {}, **facts}

    @classmethod
    def fact_problems(
        cls, given: Mapping[str, Any], known: Mapping[str, Any], classes: Sequence[str], places: Mapping[str, str]
    ) -> list[Problem]:
        problems = super().fact_problems(given, known, classes, places)
        if "shown_threshold" in given:
            problems += points.share(given["shown_threshold"], places["shown_threshold"])
        least = {**known, **given}["score_threshold"]
        shown = {places[name]: value for name, value in given.items() if name == "shown_threshold"}
        own = places.get("class_thresholds", "")
        shown |= {
            f"{own}.{name}": value
            for name, value in (given.get("class_thresholds", {}) if not problems else {}).items()
        }
        message = f"is below score_threshold, {least}: the model answers with no such box; lower that one too"
        low = [where for where, value in shown.items() if is_number(value) and is_number(least) and value < least]
        return problems + [Problem(where, message) for where in low]

    @classmethod
    def expected(cls, card: ModelCard, hw: tuple[int, int]) -> dict[str, Shape]:
        """What a suppression drops is not among the answers: `choose` carries a NaN of it into the scores."""
        if card.facts.get("raw"):
            return {RAW: (None, 5 + len(card.classes))}
        return {"boxes": (None, 4), "scores": (None,), "labels": (None,)}

    @classmethod
    def decode(cls, outputs: Outputs, card: ModelCard, original_hw: Sequence[tuple[int, int]]) -> list[Prediction]:
        if RAW in outputs:
            answered = _suppressed(outputs[RAW], card, original_hw)
        else:
            answered = map(Boxes, outputs["boxes"], outputs["labels"], outputs["scores"])
        least, found = card.facts["score_threshold"], []
        for boxes, hw in zip(answered, original_hw, strict=True):
            found.append(_prediction(boxes.take((boxes.scores >= least) & (boxes.labels >= 0)), card, hw))
        return found

    @classmethod
    def merge_tiles(
        cls, answers: Iterable[tuple[Window, Outputs]], card: ModelCard, original_hw: tuple[int, int]
    ) -> Prediction:
        settings = settings_of(card.facts)
        found = []
        for window, outputs in answers:
            one = cls.decode(outputs, card, [(window.height, window.width)])[0]
            found.append((window, Boxes(one.boxes_xyxy, one.box_labels, one.box_scores)))
        merged = merge_windows(found, original_hw, settings.nms_threshold).first(settings.max_detections)
        return _prediction(merged, card, original_hw)

    @classmethod
    def badness(cls, prediction: Prediction, card: ModelCard) -> float:
        return box_badness(prediction.box_labels, prediction.box_scores, own_thresholds(card.facts, card.classes))

    @classmethod
    def describe(cls, prediction: Prediction, card: ModelCard) -> dict[str, Any]:
        """Boxes as COCO has them: [left, top, width, height]; "label" and "score" are those of the best."""
        boxes = [
            {
                "label": card.classes[label],
                "score": round(float(score), 6),
                "bbox": [round(float(v), 3) for v in (x0, y0, x1 - x0, y1 - y0)],
            }
            for (x0, y0, x1, y1), label, score in zip(
                prediction.boxes_xyxy, prediction.box_labels, prediction.box_scores, strict=True
            )
        ]
        best = boxes[0] if boxes else {"label": None, "score": 0.0}
        height, width = prediction.original_hw
        summary = {
            "label": best["label"], "score": best["score"], "shown": len(_shown(prediction, card).scores),
            "verdict": verdict(bool(prediction.bad)),
            "badness": round(cls.badness(prediction, card), 6),
        }  # fmt: skip
        return {"path": prediction.path, **summary, "boxes": boxes, "height": height, "width": width}

    @classmethod
    def caption(cls, prediction: Prediction, card: ModelCard) -> str:
        shown = _shown(prediction, card)
        counts = np.bincount(shown.labels, minlength=len(card.classes))
        found = []
        for k in (k for k in np.argsort(-counts, kind="stable") if counts[k]):
            best = "best score" if counts[k] > 1 else "score"
            found.append(f"{counts[k]} {card.classes[k]}: {best} {shown.scores[shown.labels == k].max():.2f}")
        return ", ".join(found) or "nothing found"

    @classmethod
    def draw(
        cls,
        image: NDArray[np.uint8],
        prediction: Prediction,
        card: ModelCard,
        truth: Any = None,
        heatmap: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        """The picture with its boxes; those of a `GroundTruth` in ``truth`` are dashed."""
        from dao.drawing.boxes import annotate_boxes

        shown = _shown(prediction, card)
        return annotate_boxes(image, card.classes, shown.xyxy, shown.labels, shown.scores, truth=truth)

    @classmethod
    def thumbnail(cls, image: NDArray[np.uint8], prediction: Prediction, card: ModelCard) -> NDArray[np.uint8]:
        from dao.drawing.boxes import small_boxes

        shown = _shown(prediction, card)
        return small_boxes(image, shown.xyxy, shown.labels)

    @classmethod
    def legend(cls, prediction: Prediction, card: ModelCard) -> dict[str, tuple[int, int, int]]:
        from dao.drawing.pictures import color_of

        return {card.classes[k]: color_of(k) for k in np.unique(_shown(prediction, card).labels).tolist()}

    @classmethod
    def tables(cls, described: Sequence[Mapping[str, Any]], card: ModelCard) -> dict[str, Any]:
        """COCO's result format: ids of pictures count from 1 in their order, those of categories from 1 in class order."""
        rows = [
            {
                "image_id": number,
                "file_name": one["path"],
                "category_id": card.classes.index(box["label"]) + 1,
                "bbox": box["bbox"],
                "score": box["score"],
            }
            for number, one in enumerate(described, start=1)
            for box in one["boxes"]
        ]
        return {"coco_results.json": rows}

    @classmethod
    def agreement(cls, first: Prediction, second: Prediction) -> bool:
        """The same verdict, and every box of one has its like in the other."""
        return first.bad == second.bad and same_boxes(_boxes_of(first), _boxes_of(second), SAME_SCORE)

    @classmethod
    def compare(cls, mine: Outputs, theirs: Outputs, card: ModelCard, original_hw: tuple[int, int]) -> dict[str, Any]:
        """Boxes are compared with their like, as their order is free where scores are equal; what is said before
        suppression position by position.

        "max_abs": of the scores, "max_rel": share of a box's union with its like that only one covers. A box whose
        score is within the tolerance of the least one answered may be missing in one.
        """
        hw = [original_hw] * len(next(iter(mine.values())))
        agree, overlaps, scores = True, [1.0], [0.0]
        if RAW in mine:
            scores.append(float(np.abs(mine[RAW][..., 4:] - theirs[RAW][..., 4:]).max()))
            one, other = (corners(said[RAW][..., :4].astype(np.float64)) for said in (mine, theirs))
            moved = ~(np.abs(one - other).max(axis=-1) <= SAME_PIXEL)  # a NaN has moved
            overlaps.append(float(iou(one[moved], other[moved]).min(initial=1.0)))
            agree = overlaps[-1] >= SAME_PLACE
        for a, b in zip(cls.decode(mine, card, hw), cls.decode(theirs, card, hw), strict=True):
            first, second = _boxes_of(a), _boxes_of(b)
            agree &= same_boxes(first, second, SAME_SCORE, least_answered(first, second, card))
            pairs = match(first, second)
            scores += [abs(float(first.scores[i] - second.scores[j])) for i, j, _ in pairs]
            overlaps += [overlap for _, _, overlap in pairs]
        return {"max_abs": max(scores), "max_rel": 1 - min(overlaps), "equal": float(agree), "agree": bool(agree)}

    @classmethod
    def extent(cls, mine: Outputs, card: ModelCard, original_hw: tuple[int, int]) -> NDArray[np.float64]:
        """From no box to as many as a picture has: without one, a file that never finds any would pass."""
        hw = [original_hw] * len(next(iter(mine.values())))
        return np.array([[0], [max(len(found.box_scores) for found in cls.decode(mine, card, hw))]], np.float64)


def settings_of(facts: Mapping[str, Any], where: str = "model.kwargs") -> AnswerSettings:
    """The part of a card's facts that says which boxes are answered. Raises ConfigError for values out of range."""
    return AnswerSettings(**{field.name: facts[field.name] for field in fields(AnswerSettings)}).checked(where)


def _suppressed(dense: NDArray[np.float32], card: ModelCard, original_hw: Sequence[tuple[int, int]]) -> list[Boxes]:
    """What a raw file's output (B, A, 5 + K) comes to with the card's thresholds, picture by picture."""
    preprocess, settings = PreprocessSettings(**card.preprocess), settings_of(card.facts)
    size, found = (preprocess.size[0], preprocess.size[1]), []
    for one, hw in zip(dense, original_hw, strict=True):
        boxes, scores, labels = chosen(np.asarray(one, np.float32), size, settings)
        found.append(Boxes(boxes_to_picture(boxes, preprocess.place(hw), hw), labels, scores))
    return found


def _prediction(boxes: Boxes, card: ModelCard, original_hw: tuple[int, int]) -> Prediction:
    """A part is bad when a box is shown."""
    prediction = Prediction(
        original_hw=tuple(original_hw),
        boxes_xyxy=boxes.xyxy.astype(np.float32),
        box_labels=boxes.labels.astype(np.int64),
        box_scores=boxes.scores.astype(np.float32),
    )
    prediction.bad = len(_shown(prediction, card).scores) > 0
    return prediction


def _shown(prediction: Prediction, card: ModelCard) -> Boxes:
    """The boxes from the thresholds of their classes on."""
    own = own_thresholds(card.facts, card.classes)
    chosen = shown_boxes(prediction.box_labels, prediction.box_scores, card.facts["shown_threshold"], own)
    return Boxes(prediction.boxes_xyxy[chosen], prediction.box_labels[chosen], prediction.box_scores[chosen])


def least_answered(first: Boxes, second: Boxes, card: ModelCard) -> float:
    """The score that decides what is answered: the threshold, or of a full answer its last box's."""
    full = [boxes.scores.min() for boxes in (first, second) if len(boxes) >= card.facts["max_detections"]]
    return float(max([card.facts["score_threshold"], *full]))


def _boxes_of(prediction: Prediction) -> Boxes:
    return Boxes(prediction.boxes_xyxy, prediction.box_labels, prediction.box_scores)
