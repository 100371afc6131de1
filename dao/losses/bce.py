"""Binary cross entropy: every class is its own yes-or-no question, so a picture may carry several."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from dao.errors import ConfigError, Problem
from dao.losses.base import (
    Loss,
    Weights,
    as_distribution,
    is_class_index,
    listed_weights,
    mean_of_all,
    per_class,
    positive_counts,
)
from dao.register import Registers

WHERE = "loss.kwargs.pos_weight"


@Registers.losses.register()
class BCEWithLogitsLoss(Loss):
    """Sigmoid cross entropy, averaged over pictures and classes.

    pos_weight: how much more presence counts than absence, one per class; "balanced": absences / presences, where the
        total is the sum of the class counts (exact with one label a picture).
    label_smoothing: towards 1/K for class indices, as timm's BinaryCrossEntropy (Wightman et al. 2021), towards 1/2
        for multi-hot targets.
    """

    limits = {"label_smoothing": (0.0, 1.0)}

    def __init__(
        self,
        pos_weight: Weights = None,
        label_smoothing: float = 0.0,
        num_classes: int | None = None,
        class_counts: list[int] | None = None,
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        if pos_weight == "balanced":
            weight = absences_per_presence(class_counts)
        else:
            weight = None if pos_weight is None else listed_weights(pos_weight, num_classes, WHERE)
        self.register_buffer("pos_weight", weight, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (B, K, ...) float; target: (B, K, ...) multi-hot or (B, ...) integer classes. Returns a scalar."""
        one_of_many = is_class_index(target, logits) and logits.shape[1] > 1
        middle = 1 / logits.shape[1] if one_of_many else 0.5
        hot = as_distribution(target, logits)
        if self.label_smoothing:
            hot = hot * (1 - self.label_smoothing) + self.label_smoothing * middle
        weight = None if self.pos_weight is None else per_class(self.pos_weight, logits)
        return mean_of_all(functional.binary_cross_entropy_with_logits(logits, hot, pos_weight=weight), hot.numel())


def absences_per_presence(class_counts: list[int] | None) -> Tensor:
    """(n - count_k) / count_k with n the sum of the counts, (K,). Raises ConfigError with fewer than two classes."""
    counts = positive_counts(class_counts, WHERE)
    if len(counts) < 2:
        message = "one class's count does not tell its absences; list the weight instead of 'balanced'"
        raise ConfigError(Problem(WHERE, message))
    return (counts.sum() - counts) / counts
