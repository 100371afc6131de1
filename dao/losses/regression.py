"""L1 and squared error, of raw outputs or of probabilities."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional

from dao.losses.base import UNLABELLED, Loss, as_distribution, labelled_places, mean_of_labelled, of_pictures
from dao.register import Registers

Activation = Literal["none", "softmax", "sigmoid"]


class Difference(Loss):
    """Mean over the labelled places of what `distance` says.

    activation: what is applied to the model's output first, see `activate`; ignore_index: the class index that does not
    count (unlabelled pixels).
    """

    takes_unlabelled = True

    def __init__(self, activation: Activation = "none", ignore_index: int = UNLABELLED) -> None:
        super().__init__()
        self.activation, self.ignore_index = activation, ignore_index

    @property
    def takes_multi_label(self) -> bool:
        """Several labels a picture are answered with sigmoid scores: only what learns those may learn from them."""
        return self.activation == "sigmoid"

    def alike(self, target: Any) -> bool:
        return of_pictures(target)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (B, K, ...) float; target: the same shape, or (B, ...) integer classes. Returns a scalar."""
        labelled = labelled_places(target, logits, self.ignore_index)
        wanted = as_distribution(target, logits, labelled)
        return mean_of_labelled(self.distance(activate(logits, self.activation), wanted).mean(dim=1), labelled)

    @abstractmethod
    def distance(self, said: Tensor, wanted: Tensor) -> Tensor:
        """What each number costs, (B, K, ...)."""


@Registers.losses.register()
class L1Loss(Difference):
    """Mean absolute difference.

    activation: what is applied to the model's output first; class indices are compared as one-hot.
    ignore_index: the class index that does not count (unlabelled pixels).
    """

    def distance(self, said: Tensor, wanted: Tensor) -> Tensor:
        return functional.l1_loss(said, wanted, reduction="none")


@Registers.losses.register()
class MSELoss(Difference):
    """Mean squared difference; with activation "softmax" the Brier score divided by the number of classes.

    activation: what is applied to the model's output first; class indices are compared as one-hot.
    ignore_index: the class index that does not count (unlabelled pixels).
    """

    def distance(self, said: Tensor, wanted: Tensor) -> Tensor:
        return functional.mse_loss(said, wanted, reduction="none")


def activate(logits: Tensor, activation: Activation) -> Tensor:
    """The logits as numbers, as probabilities over dimension 1, or as one probability each."""
    if activation == "softmax":
        return logits.softmax(dim=1)
    return logits.sigmoid() if activation == "sigmoid" else logits
