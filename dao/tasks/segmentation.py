"""Semantic segmentation: a class for every pixel; class 0 is the background."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dao.errors import ConfigError, Problem
from dao.losses.base import UNLABELLED
from dao.mask_resampling import resize_masks
from dao.register import Registers
from dao.structures import Batch, Prediction
from dao.tasks.base import ModelCard, Outputs, Task
from dao.tiling import Window, blend

IGNORE = 255  # of masks as they travel
AGREED_PIXELS = 0.999  # export parity: pixels on the edge between two equal probabilities may fall either way


@Registers.tasks.register("seg")
class SegmentationTask(Task):
    """Logits in, softmax probabilities and the class map of the original picture out."""

    models = "seg_models"
    training_needs = ("loss", "optimizer")
    resizes = ("letterbox", "stretch", "tile")  # "crop" would leave a picture's ends unseen

    @classmethod
    def expected_output(cls, num_classes: int, size_hw: tuple[int, int]) -> tuple[int, ...]:
        return (1, num_classes, *size_hw)

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
        """probabilities: (B, K, H, W) float; class_map: (B, H, W) uint8."""
        probabilities = self.preprocess.restore(outputs["probabilities"], original_hw)
        return {"probabilities": probabilities, "class_map": probabilities.argmax(dim=1).to(torch.uint8)}

    @classmethod
    def decode(cls, outputs: Outputs, card: ModelCard, original_hw: Sequence[tuple[int, int]]) -> list[Prediction]:
        """scores: the highest probability of each class anywhere in the picture."""
        return [
            Prediction(
                original_hw=tuple(hw), scores=probabilities.max((1, 2)), mask=mask, defect_map=1 - probabilities[0]
            )
            for probabilities, mask, hw in zip(outputs["probabilities"], outputs["class_map"], original_hw, strict=True)
        ]

    @classmethod
    def merge_tiles(
        cls, answers: Iterable[tuple[Window, Outputs]], card: ModelCard, original_hw: tuple[int, int]
    ) -> Prediction:
        mask, defects = np.zeros(original_hw, np.uint8), np.zeros(original_hw, np.float32)
        scores = np.zeros(len(card.classes), np.float32)
        maps = ((window, outputs["probabilities"][0]) for window, outputs in answers)
        for band in blend(maps, original_hw[1]):
            rows = slice(band.top, band.top + band.values.shape[1])
            mask[rows] = band.values.argmax(0)
            defects[rows] = 1 - band.values[0]
            scores = np.maximum(scores, band.values.max((1, 2)))
        return Prediction(original_hw=original_hw, scores=scores, mask=mask, defect_map=defects)

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
            "score": round(float(prediction.scores[1:].max()), 6),
            "height": height,
            "width": width,
            "pixels": {card.classes[k]: int(counts[k]) for k in found},
            "share": {card.classes[k]: round(float(counts[k] / counts.sum()), 6) for k in found},
            "regions": describe_regions(prediction.mask, prediction.defect_map, card.classes),
        }

    @classmethod
    def caption(cls, prediction: Prediction, card: ModelCard) -> str:
        from dao.utils.regions import count_pixels

        share = count_pixels(prediction.mask, len(card.classes)) / prediction.mask.size
        found = sorted((k for k in range(1, len(card.classes)) if share[k]), key=lambda k: -share[k])
        return ", ".join(f"{card.classes[k]} {share[k]:.1%}" for k in found) or "no defect found"

    @classmethod
    def thumbnail(cls, image: NDArray[np.uint8], prediction: Prediction, card: ModelCard) -> NDArray[np.uint8]:
        from dao.utils.visualize_masks import small_overlay

        return small_overlay(image, prediction.mask)

    @classmethod
    def files(cls, prediction: Prediction, card: ModelCard) -> dict[str, NDArray[np.uint8]]:
        """The class map, to be saved as a picture of class indices."""
        return {"mask": prediction.mask}

    @classmethod
    def agreement(cls, first: Prediction, second: Prediction) -> bool:
        return bool((first.mask == second.mask).mean() >= AGREED_PIXELS)
