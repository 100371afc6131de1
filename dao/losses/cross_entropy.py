"""Cross entropy: one class a picture (or pixel), given as an index or as a mixture of classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dao.losses.base import (
    UNLABELLED,
    Loss,
    Weights,
    as_distribution,
    balanced_weights,
    divisor_of,
    is_class_index,
    labelled_places,
    listed_weights,
    mean_of_labelled,
    of_pictures,
    per_class,
)
from dao.register import Registers

TINY = torch.finfo(torch.float32).tiny


@Registers.losses.register()
class CrossEntropyLoss(Loss):
    """Softmax cross entropy, averaged over pictures (or pixels) by their class weights.

    label_smoothing: share of the target spread over all classes (Szegedy et al. 2016).
    class_weights: one per class, or "balanced": n / (K * count_k) from the training pictures.
    ignore_index: the class index that does not count (unlabelled pixels).

    A one-hot target gives the same value as its index, with class weights too, so a run may switch mixup on and off.
    (torch divides a weighted soft target by the batch size, a weighted index by the sum of weights.)
    """

    limits = {"label_smoothing": (0.0, 1.0)}
    takes_unlabelled = True

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weights: Weights = None,
        ignore_index: int = UNLABELLED,
        num_classes: int | None = None,
        class_counts: list[int] | None = None,
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index
        where = "loss.kwargs.class_weights"
        if class_weights == "balanced":
            weight = balanced_weights(class_counts, where)
        else:
            weight = None if class_weights is None else listed_weights(class_weights, num_classes, where)
        self.register_buffer("weight", weight, persistent=False)

    def alike(self, target: Any) -> bool:
        return of_pictures(target) and self.weight is None

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (B, K, ...) float; target: (B, ...) integer classes or (B, K, ...) float shares. Returns a scalar.

        A batch in which everything is ignored costs 0.
        """
        target = target.long() if is_class_index(target, logits) else as_distribution(target, logits)
        total = functional.cross_entropy(
            logits,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        return total / target_mass(target, logits, self.weight, self.ignore_index)


def target_mass(target: Tensor, logits: Tensor, weight: Tensor | None, ignore_index: int) -> Tensor:
    """What the targets of a batch weigh together: the divisor of a weighted mean, never 0, by `divisor_of`.

    target: (B, ...) int64 or (B, K, ...) float; logits: (B, K, ...); weight: (K,) or None.
    """
    if not is_class_index(target, logits):
        mass = target.numel() / target.shape[1] if weight is None else (target * per_class(weight, logits)).sum()
        return divisor_of(mass, logits, TINY)
    counts = target != ignore_index
    if weight is None:
        return divisor_of(counts.sum(), logits)
    return divisor_of((weight[target.where(counts, 0)] * counts).sum(), logits, TINY)


@Registers.losses.register()
class SoftTargetCrossEntropy(Loss):
    """Cross entropy against shares of classes, as mixup and cutmix make them; class indices are taken as one-hot.

    ignore_index: the class index that does not count (unlabelled pixels).
    """

    takes_unlabelled = True

    def __init__(self, ignore_index: int = UNLABELLED) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def alike(self, target: Any) -> bool:
        return of_pictures(target)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (B, K, ...) float; target: (B, K, ...) float shares or (B, ...) integer classes. Returns a scalar."""
        labelled = labelled_places(target, logits, self.ignore_index)
        shares = as_distribution(target, logits, labelled)
        each = -(shares * functional.log_softmax(logits, dim=1)).sum(dim=1)
        return mean_of_labelled(each, labelled)
