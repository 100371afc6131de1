"""Binary cross entropy: every class is its own yes-or-no question, so a picture may carry several."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from dao.losses.base import (
    UNLABELLED,
    Loss,
    Weights,
    absences_per_presence,
    as_distribution,
    is_class_index,
    labelled_places,
    listed_weights,
    mean_of_labelled,
    of_pictures,
    per_class,
)
from dao.register import Registers

WHERE = "loss.kwargs.pos_weight"


@Registers.losses.register()
class BCEWithLogitsLoss(Loss):
    """Sigmoid cross entropy, averaged over pictures and classes.

    pos_weight: how much more presence counts than absence, one per class; "balanced": absences / presences among the
        training pictures, (n - count_k) / count_k.
    label_smoothing: towards 1/K for class indices, as timm's BinaryCrossEntropy (Wightman et al. 2021), towards 1/2
        for multi-hot targets.
    ignore_index: the class index that does not count (unlabelled pixels).
    """

    takes_multi_label = True
    takes_unlabelled = True

    limits = {"label_smoothing": (0.0, 1.0)}

    def __init__(
        self,
        pos_weight: Weights = None,
        label_smoothing: float = 0.0,
        ignore_index: int = UNLABELLED,
        num_classes: int | None = None,
        class_counts: list[int] | None = None,
        class_total: int | None = None,
    ) -> None:
        super().__init__()
        self.label_smoothing, self.ignore_index = label_smoothing, ignore_index
        if pos_weight == "balanced":
            weight = absences_per_presence(class_counts, class_total, WHERE).float()
        else:
            weight = None if pos_weight is None else listed_weights(pos_weight, num_classes, WHERE)
        self.register_buffer("pos_weight", weight, persistent=False)

    def alike(self, target: Any) -> bool:
        return of_pictures(target)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (B, K, ...) float; target: (B, K, ...) multi-hot or (B, ...) integer classes. Returns a scalar."""
        one_of_many = is_class_index(target, logits) and logits.shape[1] > 1
        middle = 1 / logits.shape[1] if one_of_many else 0.5
        labelled = labelled_places(target, logits, self.ignore_index)
        hot = as_distribution(target, logits, labelled)
        if self.label_smoothing:
            hot = hot * (1 - self.label_smoothing) + self.label_smoothing * middle
        weight = None if self.pos_weight is None else per_class(self.pos_weight, logits)
        each = functional.binary_cross_entropy_with_logits(logits, hot, pos_weight=weight, reduction="none")
        return mean_of_labelled(each.mean(dim=1), labelled)
