import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from dao.errors import ConfigError
from dao.losses.focal import FocalLoss
from dao.tasks import build

GENERATOR = torch.Generator().manual_seed(1)
LOGITS = torch.randn(5, 3, generator=GENERATOR) * 2
TARGET = torch.tensor([0, 2, 1, 2, 0])
HOT = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]]).float()


def test_gamma_0_is_cross_entropy():
    assert torch.allclose(FocalLoss(gamma=0)(LOGITS, TARGET), functional.cross_entropy(LOGITS, TARGET))


def test_gamma_0_balanced_is_weighted_cross_entropy():
    weight = torch.tensor([12 / 6, 12 / 12, 12 / 18])
    ours = FocalLoss(gamma=0, alpha="balanced", class_counts=[2, 4, 6])(LOGITS, TARGET)
    assert torch.allclose(ours, nn.CrossEntropyLoss(weight=weight)(LOGITS, TARGET))


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_softmax_form_by_hand(gamma):
    alpha, total, mass = [0.5, 1.0, 2.0], 0.0, 0.0
    for row, t in zip(LOGITS.tolist(), TARGET.tolist()):
        p = math.exp(row[t]) / sum(math.exp(z) for z in row)
        total += alpha[t] * (1 - p) ** gamma * -math.log(p)
        mass += alpha[t]
    assert FocalLoss(gamma, alpha)(LOGITS, TARGET).item() == pytest.approx(total / mass, rel=1e-4)
    assert FocalLoss(gamma, alpha, reduction="sum")(LOGITS, TARGET).item() == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (2.0, None), (0.5, 0.7), (0.0, 0.5)])
def test_sigmoid_form_equals_torchvision(gamma, alpha, reduction):
    torchvision_ops = pytest.importorskip("torchvision.ops")
    theirs = torchvision_ops.sigmoid_focal_loss(LOGITS, HOT, -1 if alpha is None else alpha, gamma, reduction)
    assert torch.allclose(FocalLoss(gamma, alpha, reduction=reduction)(LOGITS, HOT), theirs)


def test_sigmoid_balanced_weighs_presence_by_its_rarity():
    listed = FocalLoss(alpha=[0.9, 0.6, 0.5])(LOGITS, HOT)
    assert torch.allclose(FocalLoss(alpha="balanced", class_counts=[1, 4, 5])(LOGITS, HOT), listed)


def test_one_number_for_two_classes_is_the_binary_form():
    logits, target = torch.randn(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
    margin = logits[:, 1] - logits[:, 0]
    torchvision_ops = pytest.importorskip("torchvision.ops")
    binary = torchvision_ops.sigmoid_focal_loss(margin, target.float(), 0.25, 2.0, "sum")
    ours = FocalLoss(2.0, 0.25, reduction="sum", num_classes=2)(logits, target)
    assert torch.allclose(ours, binary, rtol=1e-4)


def test_mixup_shares_with_softmax():
    loss = FocalLoss(activation="softmax", alpha=[0.5, 1.0, 2.0])
    assert torch.allclose(loss(LOGITS, functional.one_hot(TARGET, 3).float()), loss(LOGITS, TARGET))
    assert not torch.allclose(FocalLoss()(LOGITS, functional.one_hot(TARGET, 3).float()), FocalLoss()(LOGITS, TARGET))


def test_mixups_shares_of_one_label_data_are_softmax_too():
    """By hand, with the balanced weights n / (K * count): half of a batch mixed 0.3 to 0.7 with the other half."""
    dataset = SimpleNamespace(
        classes=list("abc"), multi_label=False, loss_counts=lambda: [2, 4, 6], loss_total=lambda: 12
    )
    loss = build.loss_of({"type": "FocalLoss", "kwargs": {"alpha": "balanced"}}, "loss", dataset, torch.device("cpu"))
    weights, total, mass = [12 / 6, 12 / 12, 12 / 18], 0.0, 0.0
    hot = functional.one_hot(TARGET, 3).float()
    shares = 0.3 * hot + 0.7 * hot.flip(0)
    for row, wanted in zip(LOGITS.tolist(), shares.tolist()):
        for k in range(3):
            p = math.exp(row[k]) / sum(math.exp(z) for z in row)
            total += weights[k] * wanted[k] * (1 - p) ** 2 * -math.log(p)
            mass += weights[k] * wanted[k]
    assert loss(LOGITS, shares)["loss"].item() == pytest.approx(total / mass, rel=1e-4)
    assert torch.allclose(loss(LOGITS, hot)["loss"], loss(LOGITS, TARGET)["loss"])


def test_several_labels_a_picture_stay_sigmoid():
    dataset = SimpleNamespace(
        classes=list("abc"), multi_label=True, loss_counts=lambda: [1, 4, 5], loss_total=lambda: 10
    )
    loss = build.loss_of({"type": "FocalLoss", "kwargs": {"alpha": "balanced"}}, "loss", dataset, torch.device("cpu"))
    assert torch.allclose(
        loss(LOGITS, HOT)["loss"], FocalLoss(alpha=[0.9, 0.6, 0.5], activation="sigmoid")(LOGITS, HOT)
    )


def test_a_single_output_is_sigmoid():
    logits, target = torch.randn(4, 1), torch.tensor([0, 1, 1, 0])
    expected = functional.binary_cross_entropy_with_logits(logits[:, 0], target.float())
    assert torch.allclose(FocalLoss(gamma=0)(logits, target), expected)


def test_ignored_pixels_do_not_count():
    logits, target = torch.randn(1, 3, 2, 2), torch.tensor([[[0, -100], [2, 1]]])
    seen = target[0] != -100
    pixels = logits[0].permute(1, 2, 0)[seen]
    assert torch.allclose(FocalLoss()(logits, target), FocalLoss()(pixels, target[0][seen]))


def test_gradient_is_finite_where_the_answer_is_certain():
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    FocalLoss(gamma=0.5)(logits, torch.tensor([0])).backward()
    assert torch.isfinite(logits.grad).all()


def test_alpha_that_does_not_fit_the_targets():
    with pytest.raises(ConfigError, match="one per class"):
        FocalLoss(alpha=0.25, num_classes=3)(LOGITS, TARGET)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        FocalLoss(alpha=[1.0, 2.0, 3.0])(LOGITS, HOT)
