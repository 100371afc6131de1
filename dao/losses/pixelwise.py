"""Losses pixel by pixel, for masks."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from dao.losses.base import UNLABELLED, Weights, balanced_weights, divisor_of, listed_weights, mean_of_all
from dao.losses.region import MaskLoss, refuse_other_targets
from dao.register import Registers


@Registers.losses.register()
class OhemCrossEntropyLoss(MaskLoss):
    """Cross entropy of the hardest pixels (on-line hard-example mining; Shrivastava et al. 2016, for pixels Wu et al.
    2016): most of a good part is easy background, and teaches nothing more.

    threshold: pixels whose true class has a probability below it count; min_share: at least this share of a batch's
    labelled pixels counts, the hardest ones. class_weights: one per class, or "balanced" by the pixels of each class.
    """

    limits = {"threshold": (0.0, 1.0), "min_share": (0.0, 1.0)}

    def __init__(
        self,
        threshold: float = 0.7,
        min_share: float = 0.0625,
        class_weights: Weights = None,
        ignore_index: int = UNLABELLED,
        num_classes: int | None = None,
        class_counts: list[int] | None = None,
    ) -> None:
        super().__init__()
        self.loss_limit = -math.log(max(threshold, 1e-9))
        self.min_share, self.ignore_index = min_share, ignore_index
        where = "loss.kwargs.class_weights"
        if class_weights == "balanced":
            weight = balanced_weights(class_counts, where)
        else:
            weight = None if class_weights is None else listed_weights(class_weights, num_classes, where)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (B, K, H, W) float; target: (B, H, W) integer classes. Returns a scalar."""
        refuse_other_targets(logits, target)
        target = target.long()
        losses = F.cross_entropy(logits.float(), target, reduction="none", ignore_index=self.ignore_index)
        labelled = target != self.ignore_index
        losses, classes = losses[labelled], target[labelled]
        hard = losses >= self._limit(losses.detach())
        weights = torch.ones_like(losses[hard]) if self.weight is None else self.weight[classes[hard]]
        tiny = torch.finfo(torch.float32).tiny  # where nothing is labelled, logits.sum() * 0 keeps a gradient
        return (losses[hard] * weights).sum() / divisor_of(weights.sum(), logits, tiny) + logits.sum() * 0.0

    def _limit(self, losses: Tensor) -> Tensor:
        """Losses from here up count: those of all pixels below the threshold, but at least so many of this process's."""
        limit = losses.new_tensor(self.loss_limit)
        if not losses.numel():
            return limit
        fewest = max(1, int(self.min_share * losses.numel()))
        return torch.minimum(torch.topk(losses, fewest, sorted=False).values.min(), limit)


@Registers.losses.register()
class SoftBCELoss(MaskLoss):
    """Sigmoid cross entropy of every class against the rest, for masks, with smoothing.

    smooth_factor: moves targets from 0 and 1 towards the middle by this share. pos_weight: how much a defect's pixel
    counts against any other, one number a class.
    """

    limits = {"smooth_factor": (0.0, 1.0)}

    def __init__(
        self,
        smooth_factor: float = 0.0,
        pos_weight: list[float] | None = None,
        ignore_index: int = UNLABELLED,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.smooth_factor, self.ignore_index = smooth_factor, ignore_index
        listed = None if pos_weight is None else listed_weights(pos_weight, num_classes, "loss.kwargs.pos_weight")
        self.register_buffer("pos_weight", listed, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (B, K, H, W) float; target: (B, H, W) integer classes. Returns a scalar."""
        refuse_other_targets(logits, target)
        valid = target != self.ignore_index
        hot = F.one_hot(target.long().where(valid, 0), logits.shape[1])[valid].float()
        hot = hot * (1 - self.smooth_factor) + 0.5 * self.smooth_factor
        rows = logits.float().movedim(1, -1)[valid]
        mean = logits.sum() * 0.0
        if rows.numel():
            mean = F.binary_cross_entropy_with_logits(rows, hot, pos_weight=self.pos_weight)
        return mean_of_all(mean, rows.numel())
