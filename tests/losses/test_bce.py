import pytest
import torch
from timm.loss import BinaryCrossEntropy
from torch.nn import functional

from dao.errors import ConfigError
from dao.losses.base import absences_per_presence
from dao.losses.bce import BCEWithLogitsLoss

LOGITS = torch.randn(5, 3, generator=torch.Generator().manual_seed(2)) * 2
TARGET = torch.tensor([0, 2, 1, 2, 0])
HOT = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]]).float()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_indices_equal_timm(smoothing):
    theirs = BinaryCrossEntropy(smoothing=smoothing)(LOGITS, TARGET)
    assert torch.allclose(BCEWithLogitsLoss(label_smoothing=smoothing)(LOGITS, TARGET), theirs)


def test_multi_hot_with_weights_by_hand():
    p, weight = LOGITS.sigmoid(), torch.tensor([2.0, 1.0, 0.5])
    expected = -(weight * HOT * p.log() + (1 - HOT) * (1 - p).log()).mean()
    assert torch.allclose(BCEWithLogitsLoss(pos_weight=[2.0, 1.0, 0.5])(LOGITS, HOT), expected)


def test_multi_hot_smoothing_goes_towards_a_half():
    expected = functional.binary_cross_entropy_with_logits(LOGITS, HOT * 0.8 + 0.1)
    assert torch.allclose(BCEWithLogitsLoss(label_smoothing=0.2)(LOGITS, HOT), expected)


def test_pixels_weigh_by_class():
    logits, hot = torch.randn(2, 3, 4, 5), torch.randint(0, 2, (2, 3, 4, 5)).float()
    loss = BCEWithLogitsLoss(pos_weight=[2.0, 1.0, 0.5])
    flat = loss(logits.permute(0, 2, 3, 1).reshape(-1, 3), hot.permute(0, 2, 3, 1).reshape(-1, 3))
    assert torch.allclose(loss(logits, hot), flat)


def test_balanced_is_absences_over_presences():
    assert absences_per_presence([10, 30, 60], None, "w").tolist() == pytest.approx([9.0, 70 / 30, 40 / 60])
    loss = BCEWithLogitsLoss(pos_weight="balanced", class_counts=[10, 30, 60])
    assert loss.pos_weight.tolist() == pytest.approx([9.0, 70 / 30, 40 / 60])


def test_balanced_of_one_class_is_refused():
    with pytest.raises(ConfigError, match="list the weight"):
        BCEWithLogitsLoss(pos_weight="balanced", class_counts=[5])


def test_single_output_smooths_towards_a_half():
    logits = torch.tensor([[0.7], [-0.2]])
    expected = functional.binary_cross_entropy_with_logits(logits, torch.tensor([[0.9], [0.1]]))
    assert torch.allclose(BCEWithLogitsLoss(label_smoothing=0.2)(logits, torch.tensor([1, 0])), expected)
