import pytest
import torch

from dao.losses.regression import L1Loss, MSELoss

LOGITS = torch.tensor([[1.0, -1.0], [0.0, 3.0]])


def test_raw_outputs_by_hand():
    target = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert L1Loss()(LOGITS, target).item() == pytest.approx((1 + 2 + 0 + 2) / 4)
    assert MSELoss()(LOGITS, target).item() == pytest.approx((1 + 4 + 0 + 4) / 4)


def test_brier_score_by_hand():
    # two classes, even odds: p = (0.5, 0.5) against (0, 1): 0.25 + 0.25, over 2 classes
    assert MSELoss("softmax")(torch.zeros(1, 2), torch.tensor([1])).item() == pytest.approx(0.25)


def test_sigmoid_of_each_output():
    assert L1Loss("sigmoid")(torch.zeros(1, 3), torch.tensor([[1.0, 1.0, 0.5]])).item() == pytest.approx(1 / 3)
