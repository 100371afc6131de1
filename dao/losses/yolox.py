"""The loss of YOLOX (Ge et al. 2021): SimOTA says who answers for what, then boxes, objectness and classes are judged."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from dao.losses.base import Loss, divisor_of
from dao.losses.boxes import BoxLoss, box_loss
from dao.losses.simota import Assignment, assign
from dao.models.detection.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from dao.models.detection.head import DenseOutput
from dao.register import Registers
from dao.structures import BoxTargets


@Registers.losses.register()
class YOLOXLoss(Loss):
    """Box, objectness, class and (at the end of training) L1 loss, each a sum over the batch by its number of positives.

    iou: "iou" for 1 - IoU^2, "giou" for 1 - GIoU. box_weight: of it in the sum.
    l1: absolute differences of raw box outputs are added in the last epochs, when augmentation is off, as published;
    or always, or never. center_radius: of SimOTA, in strides.
    """

    takes_pictures = takes_masks = False
    takes_boxes = True
    limits = {"box_weight": (0.0, float("inf")), "center_radius": (0.0, float("inf"))}

    def __init__(
        self,
        iou: BoxLoss = "iou",
        box_weight: float = 5.0,
        l1: Literal["without_augmentation", "always", "never"] = "without_augmentation",
        center_radius: float = 2.5,
    ) -> None:
        super().__init__()
        self.iou, self.box_weight, self.l1, self.center_radius = iou, box_weight, l1, center_radius
        self.augmented = True

    def begin_pass(self, augment: bool) -> None:
        """A pass over the training data begins, with or without augmentation."""
        self.augmented = augment

    @property
    def with_l1(self) -> bool:
        """Whether L1 counts in this pass."""
        return self.l1 == "always" or (self.l1 == "without_augmentation" and not self.augmented)

    def forward(self, outputs: DenseOutput, targets: BoxTargets) -> dict[str, Tensor]:
        """Scalars "box", "objectness", "class" (and "l1"), detached, and "loss", their weighted sum.

        outputs: of a dense head over B pictures; targets: their objects in input pixels.
        """
        predicted = outputs.boxes_cxcywh()
        found = assign(
            targets.boxes_xyxy, targets.labels, predicted, outputs.classes, outputs.objectness,
            outputs.grid, outputs.strides, self.center_radius,
        )  # fmt: skip
        terms = self._terms(outputs, targets, predicted, found)
        total = sum(terms.values())
        shown = {name: value.detach() for name, value in terms.items()}
        return {**shown, "loss": total}

    def _terms(
        self, outputs: DenseOutput, targets: BoxTargets, predicted: Tensor, found: Assignment
    ) -> dict[str, Tensor]:
        picture, position = torch.nonzero(found.objects >= 0, as_tuple=True)
        chosen = found.objects[picture, position]
        boxes, labels = targets.boxes_xyxy[picture, chosen], targets.labels[picture, chosen]
        positives = divisor_of(len(picture), outputs.objectness)
        wanted = found.ious[picture, position, None] * functional.one_hot(labels, outputs.classes.shape[-1])
        bce = functional.binary_cross_entropy_with_logits
        near = cxcywh_to_xyxy(predicted[picture, position])
        said = outputs.classes[picture, position].float()
        present = (found.objects >= 0).float()
        terms = {
            "box": self.box_weight * box_loss(near, boxes, self.iou).sum(),
            "objectness": bce(outputs.objectness.float(), present, reduction="sum"),
            "class": bce(said, wanted, reduction="sum"),
        }
        if self.with_l1:
            goal = raw_boxes(boxes, outputs.grid[position], outputs.strides[position])
            terms["l1"] = (outputs.offsets[picture, position].float() - goal).abs().sum()
        return {name: value / positives for name, value in terms.items()}


def raw_boxes(boxes: Tensor, grid: Tensor, strides: Tensor) -> Tensor:
    """What a head has to put out for its box to be this one: the inverse of `DenseOutput.boxes_cxcywh`.

    boxes: (N, 4) x0, y0, x1, y1; grid: (N, 2); strides: (N,). Returns (N, 4).
    """
    scaled = xyxy_to_cxcywh(boxes) / strides[:, None]
    return torch.cat((scaled[:, :2] - grid, (scaled[:, 2:] + 1e-8).log()), dim=1)
