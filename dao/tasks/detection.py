"""Object detection: boxes with a class and a score, in the picture's own pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dao.answers import operating as points
from dao.answers.operating import SET_BY, is_number, own_thresholds
from dao.answers.verdicts import box_badness, shown_boxes, verdict
from dao.errors import ConfigError, DataError, Problem
from dao.models.detection.answers import AnswerSettings, choose
from dao.preprocess import Preprocess, PreprocessSettings
from dao.register import Registers
from dao.structures import Batch, BoxTargets, Prediction
from dao.tasks.answered import Shape
from dao.tasks.base import ModelCard, Outputs, Task
from dao.tasks.card import require
from dao.tiling import Window
from dao.utils.boxes import cxcywh_to_xyxy
from dao.utils.counted import counted
from dao.utils.matching import SAME_PLACE, Boxes, iou, match, same_boxes
from dao.utils.tiled_boxes import merge_windows

SAME_SCORE = 1e-3  # two answers of one model differ by less, whatever runs it
MOST_DETECTIONS = 10**6  # that a file may ask for
SAME_PIXEL = 0.1  # a corner before suppression may lie so far off, in pixels of the input
RAW = "dense"  # the output of a file without suppression: see `DetectionTask`


@Registers.tasks.register("det")
class DetectionTask(Task):
    """A detector and its boxes.

    Facts in the card: those of `AnswerSettings`, of which ``shown_threshold`` is the operating point: boxes from it on are
    shown, and make a part bad; ``class_thresholds``: the same for single classes; and ``raw``: answer with what is said at
    all A positions of the input, "dense" (B, A, 5 + K) = centre, size, probability of an object and of each class, in pixels
    of the input, for deployments with a suppression of their own.
    """

    models = "det_models"
    evaluator = "DetEvaluator"
    operating = ("shown_threshold", "class_thresholds")
    aliases = MappingProxyType({"score": "shown_threshold", "threshold": "shown_threshold"})
    training_needs = ("loss", "optimizer")
    resizes = ("letterbox", "stretch", "crop", "tile")

    def __init__(
        self,
        model: nn.Module,
        preprocess: Preprocess,
        classes: Sequence[str],
        loss: nn.Module | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model, preprocess, classes, loss, {**asdict(model.answers), "raw": False, **(facts or {})})
        settings_of(self.facts)

    def loss_needs(self) -> tuple[str, ...]:
        return ("boxes",)

    @classmethod
    def facts_of(cls, dataset: Any) -> dict[str, Any]:
        """Nothing beyond the classes. Raises DataError where there is none."""
        if not dataset.classes:
            raise DataError("a detector needs at least one class; the training data names none")
        return {}

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

    def with_facts(self, facts: Mapping[str, Any], where: str = "facts") -> DetectionTask:
        other = super().with_facts(facts, where)
        settings_of(other.facts, where)
        if other.facts["raw"] and not hasattr(self.model, "dense"):
            raise ConfigError(Problem(f"{where}.raw", f"{type(self.model).__name__} has no output before suppression"))
        return other

    # -- learning

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        if not isinstance(batch.targets, BoxTargets):
            raise ConfigError(
                Problem("dataloader.type", "gives no boxes, and detection needs them: DetDataloader does")
            )
        images = self.preprocess.normalise(batch.images)
        if self.loss is None:  # the model brings its own
            return self.net(images, batch.targets)
        return self.loss(self.net(images), batch.targets)

    def resize_batch(self, batch: Batch, size_hw: tuple[int, int]) -> None:
        height, width = batch.images.shape[-2:]
        super().resize_batch(batch, size_hw)
        scale = batch.targets.boxes_xyxy.new_tensor([size_hw[1] / width, size_hw[0] / height] * 2)
        batch.targets = BoxTargets(batch.targets.boxes_xyxy * scale, batch.targets.labels)

    # -- answering

    def infer(self, images: Tensor) -> dict[str, Tensor]:
        """ "boxes" (B, D, 4), "scores" (B, D) and "labels" (B, D), the best first; score 0 and label -1 where none is."""
        if self.facts["raw"]:
            return {RAW: self.model.dense(images)}
        return self.model.detect(images, settings_of(self.facts))._asdict()

    def restore(self, outputs: dict[str, Tensor], original_hw: tuple[int, int]) -> dict[str, Tensor]:
        if RAW in outputs:
            return outputs
        return {**outputs, "boxes": restored(outputs["boxes"], self.preprocess.settings, original_hw)}

    @classmethod
    def expected(cls, card: ModelCard, hw: tuple[int, int]) -> dict[str, Shape]:
        """What a suppression drops is not among the answers: `choose` carries a NaN of it into the scores."""
        if card.facts.get("raw"):
            return {RAW: (None, 5 + len(card.classes))}
        return {"boxes": (None, 4), "scores": (None,), "labels": (None,)}

    @classmethod
    def decode(cls, outputs: Outputs, card: ModelCard, original_hw: Sequence[tuple[int, int]]) -> list[Prediction]:
        if RAW in outputs:
            outputs = _suppressed(outputs[RAW], card, original_hw)
        least = card.facts["score_threshold"]
        found: list[Prediction] = []
        rows = zip(outputs["boxes"], outputs["scores"], outputs["labels"], original_hw, strict=True)
        for boxes, scores, labels, hw in rows:
            kept = (scores >= least) & (labels >= 0)
            found.append(_prediction(Boxes(boxes[kept], labels[kept], scores[kept]), card, hw))
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

    # -- leaving

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
        from dao.utils.visualize_boxes import annotate_boxes

        shown = _shown(prediction, card)
        return annotate_boxes(image, card.classes, shown.xyxy, shown.labels, shown.scores, truth=truth)

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
        own = own_thresholds(card.facts, card.classes)
        summary = {
            "label": best["label"], "score": best["score"], "shown": len(_shown(prediction, card).scores),
            "verdict": verdict(bool(prediction.bad)),
            "badness": round(box_badness(prediction.box_labels, prediction.box_scores, own), 6),
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
    def thumbnail(cls, image: NDArray[np.uint8], prediction: Prediction, card: ModelCard) -> NDArray[np.uint8]:
        from dao.utils.visualize_boxes import small_boxes

        shown = _shown(prediction, card)
        return small_boxes(image, shown.xyxy, shown.labels)

    @classmethod
    def legend(cls, prediction: Prediction, card: ModelCard) -> dict[str, tuple[int, int, int]]:
        from dao.utils.visualize import color_of

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
            one, other = cxcywh_corners(mine[RAW]), cxcywh_corners(theirs[RAW])
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

    def nothing_shown(self, pictures: int) -> str:
        least = self.facts["score_threshold"]
        return (
            f"the model finds no box from score {least:g} on in any of {counted(pictures, 'picture')}, "
            'and a file that never finds one would pass. Name pictures with objects in the section "images", set a '
            "lower export.kwargs.facts.score_threshold, or train the model further"
        )

    def for_proof(self) -> DetectionTask | None:
        """What is said before suppression, of a model that can say it."""
        if self.facts["raw"] or not hasattr(self.model, "dense"):
            return None
        return self.with_facts({"raw": True})


def settings_of(facts: Mapping[str, Any], where: str = "model.kwargs") -> AnswerSettings:
    """The part of a card's facts that says which boxes are answered. Raises ConfigError for values out of range."""
    return AnswerSettings(**{field.name: facts[field.name] for field in fields(AnswerSettings)}).checked(where)


def restored(boxes: Tensor, settings: PreprocessSettings, original_hw: tuple[int, int]) -> Tensor:
    """(..., 4) boxes in input pixels -> in the pixels of a picture of ``original_hw``, clipped to it; safe to trace."""
    height, width = original_hw
    place = settings.place(original_hw)
    x0, y0, x1, y1 = boxes.unbind(-1)
    scale_x, scale_y = width / place.width, height / place.height
    columns = [((x - place.left) * scale_x).clamp(0, width) for x in (x0, x1)]
    rows = [((y - place.top) * scale_y).clamp(0, height) for y in (y0, y1)]
    return torch.stack((columns[0], rows[0], columns[1], rows[1]), dim=-1)


def _suppressed(dense: NDArray[np.float32], card: ModelCard, original_hw: Sequence[tuple[int, int]]) -> Outputs:
    """What a raw file's output (B, A, 5 + K) comes to with the card's thresholds."""
    said, preprocess = torch.from_numpy(np.asarray(dense, np.float32)), PreprocessSettings(**card.preprocess)
    scores, labels = (said[..., 5:] * said[..., 4:5]).max(dim=-1)
    size = (preprocess.size[0], preprocess.size[1])
    answers = choose(cxcywh_to_xyxy(said[..., :4]), scores, labels, said.shape[-1] - 5, size, settings_of(card.facts))
    boxes = [restored(one, preprocess, hw) for one, hw in zip(answers.boxes, original_hw, strict=True)]
    return {"boxes": torch.stack(boxes).numpy(), "scores": answers.scores.numpy(), "labels": answers.labels.numpy()}


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


def cxcywh_corners(dense: NDArray[np.float32]) -> NDArray[np.float64]:
    """(..., 5 + K) as a raw file has it -> (..., 4) corners of its boxes."""
    centre, half = dense[..., :2].astype(np.float64), dense[..., 2:4].astype(np.float64) / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def least_answered(first: Boxes, second: Boxes, card: ModelCard) -> float:
    """The score that decides what is answered: the threshold, or of a full answer its last box's."""
    full = [boxes.scores.min() for boxes in (first, second) if len(boxes) >= card.facts["max_detections"]]
    return float(max([card.facts["score_threshold"], *full]))


def _boxes_of(prediction: Prediction) -> Boxes:
    return Boxes(prediction.boxes_xyxy, prediction.box_labels, prediction.box_scores)
