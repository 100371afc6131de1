"""Image classification: one label per picture, or several where the data says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dao.answers.classification import ClassificationAnswer
from dao.answers.operating import EVEN
from dao.errors import ConfigError, DataError, Problem
from dao.preprocess.module import Preprocess
from dao.register import Registers
from dao.structures import Batch, Prediction
from dao.tasks.base import Task


@Registers.tasks.register("cls")
class ClassificationTask(ClassificationAnswer, Task):
    """Logits in, softmax scores out (sigmoid scores where pictures carry several labels).

    Facts in the card: see `ClassificationAnswer`.
    """

    models = "cls_models"
    evaluator = "ClsEvaluator"
    training_needs = ("loss", "optimizer")

    def __init__(
        self,
        model: nn.Module,
        preprocess: Preprocess,
        classes: Sequence[str],
        loss: nn.Module | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model, preprocess, classes, loss, facts)
        self.multi_label = bool(self.facts["multi_label"])

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
        return {"multi_label": bool(dataset.multi_label), "threshold": EVEN}

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
