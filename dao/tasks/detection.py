"""Object detection: boxes with a class and a score, in the picture's own pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from dao.answers.detection import RAW, DetectionAnswer, settings_of
from dao.errors import ConfigError, DataError, Problem
from dao.preprocess.geometry import Placement
from dao.preprocess.module import Preprocess
from dao.register import Registers
from dao.structures import Batch, BoxTargets
from dao.tasks.base import Task
from dao.words.counted import counted


@Registers.tasks.register("det")
class DetectionTask(DetectionAnswer, Task):
    """A detector and its boxes.

    Facts in the card: see `DetectionAnswer`.
    """

    models = "det_models"
    evaluator = "DetEvaluator"
    training_needs = ("loss", "optimizer")

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
        return {**outputs, "boxes": restored(outputs["boxes"], self.preprocess.place(original_hw), original_hw)}

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


def restored(boxes: Tensor, place: Placement, original_hw: tuple[int, int]) -> Tensor:
    """(..., 4) boxes in input pixels -> in the pixels of a picture of ``original_hw``, clipped to it; safe to trace."""
    height, width = original_hw
    x0, y0, x1, y1 = boxes.unbind(-1)
    scale_x, scale_y = width / place.width, height / place.height
    columns = [((x - place.left) * scale_x).clamp(0, width) for x in (x0, x1)]
    rows = [((y - place.top) * scale_y).clamp(0, height) for y in (y0, y1)]
    return torch.stack((columns[0], rows[0], columns[1], rows[1]), dim=-1)
