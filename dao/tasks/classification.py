"""Image classification: one label per picture, or several where the data says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dao.errors import ConfigError, DataError, Problem
from dao.preprocess import Preprocess
from dao.register import Registers
from dao.structures import Batch, Prediction
from dao.tasks.base import ModelCard, Outputs, Task

MULTI_LABEL_THRESHOLD = 0.5


@Registers.tasks.register("cls")
class ClassificationTask(Task):
    """Logits in, softmax scores out (sigmoid scores where pictures carry several labels).

    Facts in the card: ``multi_label``; where that holds ``threshold``, from which score on a label is given.
    """

    models = "cls_models"
    training_needs = ("loss", "optimizer")

    def __init__(
        self,
        model: nn.Module,
        preprocess: Preprocess,
        classes: Sequence[str],
        loss: nn.Module | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(model, preprocess, classes, loss, {"multi_label": False, **(facts or {})})
        self.multi_label = bool(self.facts["multi_label"])
        if self.multi_label:
            self.facts.setdefault("threshold", MULTI_LABEL_THRESHOLD)

    @classmethod
    def expected_output(cls, num_classes: int, size_hw: tuple[int, int]) -> tuple[int, ...]:
        return (1, num_classes)

    def loss_needs(self) -> tuple[str, ...]:
        """Softmax losses on multi-hot targets would train without complaint and learn the wrong thing."""
        return ("pictures", "multi_label") if self.facts["multi_label"] else ("pictures",)

    @classmethod
    def facts_of(cls, dataset: Any) -> dict[str, Any]:
        """Whether pictures carry several labels. Raises DataError where there is nothing to tell apart."""
        least = 1 if dataset.multi_label else 2
        if len(dataset.classes) < least:
            found = ", ".join(dataset.classes) or "none"
            raise DataError(
                f"a classifier needs at least {least} classes to tell apart; the training data has: {found}"
            )
        return {"multi_label": bool(dataset.multi_label)}

    def with_facts(self, facts: Mapping[str, Any], where: str = "facts") -> Self:
        threshold = facts.get("threshold", MULTI_LABEL_THRESHOLD)
        if "threshold" in facts and not self.multi_label:
            message = "the pictures have one label each, and the highest score wins: leave it out"
            raise ConfigError(Problem(f"{where}.threshold", message))
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold < 1:
            raise ConfigError(Problem(f"{where}.threshold", f"expected between 0 and 1, got {threshold!r}"))
        if facts.get("multi_label", self.multi_label) != self.multi_label:
            raise ConfigError(Problem(f"{where}.multi_label", "is what the model was trained for; leave it out"))
        return super().with_facts(facts, where)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        if not isinstance(batch.targets, Tensor):
            message = "gives no labels, and classification needs them: ClsDataloader over a dataset of classes does"
            raise ConfigError(Problem("dataloader.type", message))
        logits = self.net(self.preprocess.normalise(batch.images))
        if self.loss is None:
            raise RuntimeError("training_step needs a loss; this task was built without one")
        return self.loss(logits, batch.targets)

    def infer(self, images: Tensor) -> dict[str, Tensor]:
        logits = self.model(images).float()
        return {"scores": logits.sigmoid() if self.multi_label else logits.softmax(dim=1)}

    @classmethod
    def decode(cls, outputs: Outputs, card: ModelCard, original_hw: Sequence[tuple[int, int]]) -> list[Prediction]:
        several = card.facts.get("multi_label", False)
        threshold = card.facts.get("threshold", MULTI_LABEL_THRESHOLD)
        return [
            Prediction(
                original_hw=tuple(hw),
                scores=scores,
                label=int(scores.argmax()),
                labels=np.flatnonzero(scores >= threshold).tolist() if several else None,
            )
            for scores, hw in zip(outputs["scores"], original_hw, strict=True)
        ]

    @classmethod
    def draw(
        cls,
        image: NDArray[np.uint8],
        prediction: Prediction,
        card: ModelCard,
        truth: str | None = None,
        heatmap: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        from dao.utils.visualize import annotate_classification

        return annotate_classification(
            image, card.classes, prediction.scores, prediction.label, truth=truth, heatmap=heatmap,
            labels=prediction.labels,
        )  # fmt: skip

    @classmethod
    def describe(cls, prediction: Prediction, card: ModelCard) -> dict[str, Any]:
        scores = {name: round(float(s), 6) for name, s in zip(card.classes, prediction.scores, strict=True)}
        found = {"path": prediction.path, "label": card.classes[prediction.label], "score": max(scores.values())}
        if prediction.labels is not None:
            found["labels"] = [card.classes[i] for i in prediction.labels]
        return {**found, "scores": scores, "height": prediction.original_hw[0], "width": prediction.original_hw[1]}

    @classmethod
    def caption(cls, prediction: Prediction, card: ModelCard) -> str:
        if prediction.labels is None:
            return super().caption(prediction, card)
        return ", ".join(f"{card.classes[i]} {prediction.scores[i]:.2f}" for i in prediction.labels) or "no label"

    @classmethod
    def agreement(cls, first: Prediction, second: Prediction) -> bool:
        return first.label == second.label and first.labels == second.labels

    def heatmap(self, image: Tensor, prediction: Prediction) -> NDArray[np.float32] | None:
        """Grad-CAM (Selvaraju et al. 2017) of the winning class on the last feature map, by pytorch-grad-cam."""
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        layer = last_spatial_layer(self.model, image)
        if layer is None:
            return None
        with torch.enable_grad(), GradCAM(model=self.model, target_layers=[layer]) as cam:
            return cam(input_tensor=image.clone(), targets=[ClassifierOutputTarget(prediction.label)])[0]


@torch.no_grad()
def last_spatial_layer(model: nn.Module, image: Tensor) -> nn.Module | None:
    """The last module whose output is a (B, C, h, w) map with more than one position, found by one forward pass.

    None for networks that keep no such map to their end (transformers on tokens).
    """
    seen: list[nn.Module] = []

    def remember(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[-2:]) > 1:
            seen.append(module)

    handles = [module.register_forward_hook(remember) for module in model.modules() if module is not model]
    try:
        model(image)
    finally:
        for handle in handles:
            handle.remove()
    return seen[-1] if seen else None
