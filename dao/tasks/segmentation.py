"""Semantic segmentation: a class for every pixel; class 0 is the background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dao.answers.operating import EVEN, MIN_AREA, own_thresholds
from dao.answers.segmentation import SegmentationAnswer, threshold_of
from dao.answers.verdicts import least_float32
from dao.errors import ConfigError, Problem
from dao.losses.base import UNLABELLED
from dao.preprocess.mask_resampling import resize_masks
from dao.register import Registers
from dao.structures import Batch
from dao.tasks.base import Task

IGNORE = 255  # of masks as they travel


@Registers.tasks.register("seg")
class SegmentationTask(SegmentationAnswer, Task):
    """Logits in, softmax probabilities and the class map of the original picture out.

    Facts in the card: see `SegmentationAnswer`.
    """

    models = "seg_models"
    evaluator = "SegEvaluator"
    training_needs = ("loss", "optimizer")

    @classmethod
    def expected_output(cls, num_classes: int, size_hw: tuple[int, int]) -> tuple[int, ...]:
        return (1, num_classes, *size_hw)

    @classmethod
    def facts_of(cls, dataset: Any) -> dict[str, Any]:
        """The operating point that a new model starts with."""
        return {"threshold": EVEN, "min_area": MIN_AREA}

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
