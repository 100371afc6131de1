"""An accumulation window learns what one batch of all its pictures would, whatever a loss divides by."""

import pytest
import torch

from dao.losses import parts
from dao.losses.cross_entropy import CrossEntropyLoss
from dao.losses.focal import FocalLoss
from dao.losses.region import DiceLoss, MCCLoss, TverskyLoss

LOSSES = {
    "sums before it divides": DiceLoss(),
    "a power of that": TverskyLoss(gamma=4 / 3),
    "a table": MCCLoss(),
    "labelled pixels": CrossEntropyLoss(),
    "their weight": CrossEntropyLoss(class_weights=[1.0, 2.0, 5.0]),
    "focal weight": FocalLoss(alpha=[1.0, 2.0, 5.0]),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_window_has_the_gradient_of_the_whole_batch(loss):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, 8, 8, generator=generator)
    target = torch.randint(0, 3, (4, 8, 8), generator=generator)
    target[0], target[1, :3] = -100, -100  # the parts have different numbers of labelled pixels, one has none
    whole = logits.clone().requires_grad_()
    loss(whole, target).backward()
    window, learnt = parts.Window(), logits.clone().requires_grad_()
    for i in range(4):
        with window.measuring():
            loss(logits[i : i + 1], target[i : i + 1])
    for i in range(4):
        with window.learning(i):
            (loss(learnt[i : i + 1], target[i : i + 1]) / 4).backward()
    torch.testing.assert_close(learnt.grad, whole.grad, rtol=1e-4, atol=1e-8)
