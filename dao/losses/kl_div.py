"""Kullback-Leibler divergence to a given distribution, as in distillation (Hinton et al. 2015)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dao.losses.base import UNLABELLED, Loss, as_distribution, labelled_places, mean_of_labelled, of_pictures
from dao.register import Registers

SMALLEST_LOG = -1e4  # log of probability 0: finite, so that it can be divided by a temperature


@Registers.losses.register()
class KLDivLoss(Loss):
    """T^2 KL(target at T || softmax(logits / T)), averaged over pictures.

    temperature: T; above 1 both distributions are flattened, so that the small probabilities count. The factor T^2
        keeps the size of the gradients (Hinton et al. 2015, section 2).
    ignore_index: the class index that does not count (unlabelled pixels).
    """

    limits = {"temperature": (1e-3, float("inf"))}
    takes_unlabelled = True

    def __init__(self, temperature: float = 1.0, ignore_index: int = UNLABELLED) -> None:
        super().__init__()
        self.temperature, self.ignore_index = temperature, ignore_index

    def alike(self, target: Any) -> bool:
        return of_pictures(target)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (B, K, ...); target: (B, K, ...) probabilities or (B, ...) integer classes. Returns a scalar."""
        log_q = functional.log_softmax(logits.float() / self.temperature, dim=1)
        labelled = labelled_places(target, logits, self.ignore_index)
        log_p = flatten(as_distribution(target, logits, labelled).float(), self.temperature)
        each = (log_p.exp() * (log_p - log_q)).sum(dim=1)
        return mean_of_labelled(each, labelled) * self.temperature**2


def flatten(probabilities: Tensor, temperature: float) -> Tensor:
    """Log of p^(1/T), normalised over dimension 1: equal to log_softmax(z / T) when p = softmax(z)."""
    log_p = torch.log(probabilities).clamp_min(SMALLEST_LOG)
    return functional.log_softmax(log_p / temperature, dim=1)
