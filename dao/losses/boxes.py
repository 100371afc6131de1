"""How far boxes are from where they should be."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dao.models.detection.boxes import areas, overlap

BoxLoss = Literal["iou", "giou"]
TINY = 1e-16  # keeps a quotient of areas finite; far below the area of any box


def box_loss(predicted: Tensor, target: Tensor, kind: BoxLoss = "iou") -> Tensor:
    """1 - IoU^2 as YOLOX has it, or 1 - GIoU (Rezatofighi et al. 2019, eq. 2), for each pair of boxes.

    predicted, target: (N, 4) float32 x0, y0, x1, y1. Returns (N,): 0 for equal boxes; GIoU goes up to 2 for distant ones.
    """
    intersection, union = overlap(predicted, target)
    iou = intersection / (union + TINY)
    if kind == "iou":
        return 1 - iou**2
    low = torch.minimum(predicted[..., :2], target[..., :2])
    high = torch.maximum(predicted[..., 2:], target[..., 2:])
    hull = areas(torch.cat((low, high), dim=-1)).clamp_min(TINY)
    return 1 - (iou - (hull - union) / hull).clamp(-1, 1)
