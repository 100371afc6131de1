import pytest
import torch
from torch.nn import functional

from dao.losses.kl_div import KLDivLoss

GENERATOR = torch.Generator().manual_seed(3)
STUDENT, TEACHER = torch.randn(4, 5, generator=GENERATOR), torch.randn(4, 5, generator=GENERATOR) * 2


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_as_hinton_writes_it(temperature):
    soft = (TEACHER / temperature).softmax(1)
    log_q = (STUDENT / temperature).log_softmax(1)
    expected = functional.kl_div(log_q, soft, reduction="batchmean") * temperature**2
    assert torch.allclose(KLDivLoss(temperature)(STUDENT, TEACHER.softmax(1)), expected, rtol=1e-4)


def test_nothing_to_learn_from_oneself():
    assert KLDivLoss(3.0)(STUDENT, STUDENT.softmax(1)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_certain_target_stays_certain(temperature):
    target = torch.tensor([0, 1, 4, 2])
    expected = functional.cross_entropy(STUDENT / temperature, target) * temperature**2
    assert torch.allclose(KLDivLoss(temperature)(STUDENT, target), expected, rtol=1e-4)


def test_gradient_is_finite_with_empty_classes():
    logits = STUDENT.clone().requires_grad_()
    KLDivLoss(2.0)(logits, torch.tensor([[1.0, 0, 0, 0, 0]] * 4)).backward()
    assert torch.isfinite(logits.grad).all() and logits.grad.abs().sum() > 0
