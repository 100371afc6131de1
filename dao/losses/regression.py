"""L1 and squared error, of raw outputs or of probabilities."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

from dao.losses.base import Loss, as_distribution, mean_of_all
from dao.register import Registers

Activation = Literal["none", "softmax", "sigmoid"]


@Registers.losses.register()
class L1Loss(Loss):
    """Mean absolute difference.

    activation: what is applied to the model's output first; class indices are compared as one-hot.
    """

    def __init__(self, activation: Activation = "none") -> None:
        super().__init__()
        self.activation = activation

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (B, K, ...) float; target: the same shape, or (B, ...) integer classes. Returns a scalar."""
        wanted = as_distribution(target, logits)
        return mean_of_all(functional.l1_loss(activate(logits, self.activation), wanted), wanted.numel())


@Registers.losses.register()
class MSELoss(Loss):
    """Mean squared difference; with activation "softmax" the Brier score divided by the number of classes.

    activation: what is applied to the model's output first; class indices are compared as one-hot.
    """

    def __init__(self, activation: Activation = "none") -> None:
        super().__init__()
        self.activation = activation

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (B, K, ...) float; target: the same shape, or (B, ...) integer classes. Returns a scalar."""
        wanted = as_distribution(target, logits)
        return mean_of_all(functional.mse_loss(activate(logits, self.activation), wanted), wanted.numel())


def activate(logits: Tensor, activation: Activation) -> Tensor:
    """The logits as numbers, as probabilities over dimension 1, or as one probability each."""
    if activation == "softmax":
        return logits.softmax(dim=1)
    return logits.sigmoid() if activation == "sigmoid" else logits
