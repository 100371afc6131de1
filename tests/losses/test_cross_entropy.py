import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from dao.losses.cross_entropy import CrossEntropyLoss, SoftTargetCrossEntropy

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) * 3
TARGET = torch.tensor([0, 3, 1, 1, 2, 0])
COUNTS = [7, 20, 3, 10]
BALANCED = [40 / 28, 40 / 80, 40 / 12, 40 / 40]


def by_hand(logits, target):
    """-log softmax, one picture at a time."""
    rows = [math.log(sum(math.exp(z) for z in row)) - row[t] for row, t in zip(logits.tolist(), target.tolist())]
    return sum(rows) / len(rows)


def test_plain_is_the_definition():
    assert CrossEntropyLoss()(LOGITS, TARGET).item() == pytest.approx(by_hand(LOGITS, TARGET), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_balanced_weights_equal_torch(smoothing):
    ours = CrossEntropyLoss(label_smoothing=smoothing, class_weights="balanced", class_counts=COUNTS)
    theirs = nn.CrossEntropyLoss(weight=torch.tensor(BALANCED), label_smoothing=smoothing)
    assert ours(LOGITS, TARGET).item() == pytest.approx(theirs(LOGITS, TARGET).item(), rel=1e-5)
    assert ours(LOGITS, TARGET).item() != pytest.approx(nn.CrossEntropyLoss()(LOGITS, TARGET).item(), rel=1e-2)


def test_soft_targets_equal_torch_without_weights():
    shares = torch.rand(6, 4).softmax(1)
    assert torch.allclose(CrossEntropyLoss()(LOGITS, shares), functional.cross_entropy(LOGITS, shares))
    assert torch.allclose(SoftTargetCrossEntropy()(LOGITS, shares), functional.cross_entropy(LOGITS, shares))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, BALANCED])
def test_one_hot_equals_index(smoothing, weights):
    loss = CrossEntropyLoss(label_smoothing=smoothing, class_weights=weights)
    assert torch.allclose(loss(LOGITS, functional.one_hot(TARGET, 4).float()), loss(LOGITS, TARGET))


def test_pixels_and_ignored_pixels():
    logits, target = torch.randn(2, 4, 3, 5), torch.randint(0, 4, (2, 3, 5))
    target[0, 0] = 255
    ours = CrossEntropyLoss(class_weights=[1.0, 2.0, 3.0, 0.5], ignore_index=255)
    theirs = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0, 0.5]), ignore_index=255)
    assert torch.allclose(ours(logits, target), theirs(logits, target))
    assert torch.allclose(ours(logits, target.to(torch.uint8)), theirs(logits, target))


@pytest.mark.parametrize("weights", [None, [1.0, 2.0]])
def test_a_batch_of_ignored_pixels_costs_nothing(weights):
    logits = torch.randn(1, 2, 3, 3, requires_grad=True)
    loss = CrossEntropyLoss(class_weights=weights, ignore_index=255)(logits, torch.full((1, 3, 3), 255))
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().sum().item() == 0


def test_soft_target_takes_indices():
    expected = by_hand(LOGITS, TARGET)
    assert SoftTargetCrossEntropy()(LOGITS, TARGET).item() == pytest.approx(expected, rel=1e-5)


def test_weights_stay_out_of_checkpoints_and_move_with_the_module():
    loss = CrossEntropyLoss(class_weights=[1.0, 2.0])
    assert not loss.state_dict() and loss.double().weight.dtype is torch.float64
