"""Focal loss (Lin et al. 2017, "Focal Loss for Dense Object Detection"): easy examples count less."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from dao.errors import ConfigError, Problem
from dao.losses import parts
from dao.losses.base import (
    UNLABELLED,
    Loss,
    as_distribution,
    balanced_weights,
    is_class_index,
    labelled_places,
    listed_weights,
    mean_of_labelled,
    of_pictures,
    per_class,
    shares_of_presence,
)
from dao.losses.cross_entropy import target_mass
from dao.register import Registers

WHERE = "loss.kwargs.alpha"


@Registers.losses.register()
class FocalLoss(Loss):
    """(1 - p_t)^gamma times the cross entropy.

    gamma: 0 is plain cross entropy; 2 is the paper's choice.
    alpha: balances the classes. Softmax: a weight per class, "balanced" = n / (K * count_k), or for two classes one
        number, the weight of class 1 (class 0 gets 1 - alpha). Sigmoid: share from 0 to 1 that presence weighs against
        absence, for all classes or one per class, "balanced" = 1 - count_k / n, n the number of
        training pictures.
    activation: "softmax" for one class a picture, "sigmoid" for several; "auto" goes by what the data is (and takes
        sigmoid for a single output), so that the shares which mixup makes of one-class targets do not change the loss.
    reduction: "mean" divides softmax by the targets' weight, sigmoid by the number of elements.
    ignore_index: the class index that does not count (unlabelled pixels).
    multi_label: whether a picture may carry several labels, handed over by the core; None, where nobody says, goes by
        the target: one label for class indices, several for a number per class.
    """

    limits = {"gamma": (0.0, float("inf")), "alpha": (0.0, 1.0)}
    takes_unlabelled = True

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | list[float] | Literal["balanced"] | None = None,
        activation: Literal["auto", "softmax", "sigmoid"] = "auto",
        reduction: Literal["mean", "sum"] = "mean",
        ignore_index: int = UNLABELLED,
        num_classes: int | None = None,
        class_counts: list[int] | None = None,
        class_total: int | None = None,
        multi_label: bool | None = None,
    ) -> None:
        super().__init__()
        self.multi_label = multi_label
        self.gamma, self.activation, self.reduction, self.ignore_index = gamma, activation, reduction, ignore_index
        several = activation == "sigmoid" or (activation == "auto" and bool(multi_label))
        class_weights, presence = _resolve_alpha(alpha, num_classes, class_counts, class_total, several)
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.register_buffer("presence", presence, persistent=False)

    @property
    def takes_multi_label(self) -> bool:
        """With softmax the classes would exclude each other."""
        return self.activation != "softmax"

    def alike(self, target: Any) -> bool:
        return of_pictures(target) and self.class_weights is None and self.reduction == "mean"

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (B, K, ...); target: (B, ...) integer classes or (B, K, ...) float. Returns a scalar."""
        softmax = self._takes_softmax(logits, target)
        return self._softmax(logits.float(), target) if softmax else self._sigmoid(logits.float(), target)

    def _takes_softmax(self, logits: Tensor, target: Tensor) -> bool:
        if self.activation != "auto":
            return self.activation == "softmax"
        one_label = is_class_index(target, logits) if self.multi_label is None else not self.multi_label
        return one_label and logits.shape[1] > 1

    def _softmax(self, logits: Tensor, target: Tensor) -> Tensor:
        weights = self.class_weights
        if weights is None and self.presence is not None:
            raise ConfigError(Problem(WHERE, "one number balances two classes; give one per class, or 'balanced'"))
        log_p = functional.log_softmax(logits, dim=1)
        if is_class_index(target, logits):
            target = target.long()
            known = target != self.ignore_index
            classes = target.where(known, 0)
            each = focal_term(log_p.gather(1, classes.unsqueeze(1)).squeeze(1), self.gamma) * known
            total = (each if weights is None else each * weights[classes]).sum()
        else:
            target = as_distribution(target, logits)
            each = target * focal_term(log_p, self.gamma)
            total = (each if weights is None else each * per_class(weights, logits)).sum()
        if self.reduction == "sum":
            return total * parts.count()  # gradients are averaged over processes
        return total / target_mass(target, logits, weights, self.ignore_index)

    def _sigmoid(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.presence is None and self.class_weights is not None:
            raise ConfigError(Problem(WHERE, "for several labels a picture, every alpha lies between 0 and 1"))
        labelled = labelled_places(target, logits, self.ignore_index)
        target = as_distribution(target, logits, labelled)
        p = logits.sigmoid()
        miss = p + target - 2 * p * target  # 1 - p_t
        entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        each = entropy * _power(miss, self.gamma)
        if self.presence is not None:
            alpha = self.presence if self.presence.ndim == 0 else per_class(self.presence, logits)
            each = each * (alpha * target + (1 - alpha) * (1 - target))
        if self.reduction == "mean":
            return mean_of_labelled(each.mean(dim=1), labelled)
        each = each.sum(dim=1)
        return (each if labelled is None else each.where(labelled, 0)).sum() * parts.count()


def focal_term(log_p: Tensor, gamma: float) -> Tensor:
    """-(1 - p)^gamma log p, elementwise, eq. (4) of the paper."""
    return -_power(-torch.expm1(log_p), gamma) * log_p


def _power(miss: Tensor, gamma: float) -> Tensor:
    """miss ** gamma; the floor keeps the gradient finite at 0 for gamma below 1."""
    return miss.clamp_min(1e-12) ** gamma if gamma else torch.ones_like(miss)


def _resolve_alpha(
    alpha: float | list[float] | str | None,
    num_classes: int | None,
    class_counts: list[int] | None,
    class_total: int | None,
    several: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """What alpha means to the softmax form (a weight per class) and to the sigmoid form (weight of presence).

    Returns (K,) or None, and () or (K,) or None. One may be None where the other is not: then alpha does not fit that
    form, which forward refuses once it has seen the targets. several: whether it will be the sigmoid form.
    """
    if alpha is None:
        return None, None
    if alpha == "balanced":
        if several:
            return None, (1 - shares_of_presence(class_counts, class_total, WHERE)).float()
        weights = balanced_weights(class_counts, WHERE)
        presence = (1 - shares_of_presence(class_counts, class_total, WHERE)).float() if len(weights) > 1 else None
        return weights, presence
    if isinstance(alpha, list):
        weights = listed_weights(alpha, num_classes, WHERE)
        return weights, weights if max(alpha) <= 1 else None
    return torch.tensor([1 - alpha, alpha]) if num_classes == 2 else None, torch.tensor(float(alpha))
