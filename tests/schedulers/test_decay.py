import math

import pytest
import torch

from dao.schedulers.decay import ConstantLR, MultiStepLR, PolyLR, WarmCosLR


def torch_rates(make, steps):
    """The rates that one of torch's schedulers gives for a base rate of 1."""
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(sgd)
    rates = []
    for _ in range(steps):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        scheduler.step()
    return rates


def ours(scheduler, steps):
    return [scheduler.rate(i) for i in range(steps)]


def yolox_warm_cos(i, total, warmup, no_aug, start, low):
    """The formula of YOLOX's yoloxwarmcos (Ge et al. 2021) for a base rate of 1, written down for one update."""
    if i <= warmup:
        return start + (1 - start) * (i / warmup) ** 2
    if i >= total - no_aug:
        return low
    return low + 0.5 * (1 - low) * (1 + math.cos(math.pi * (i - warmup) / (total - warmup - no_aug)))


def test_warm_cos_is_yolox():
    scheduler = WarmCosLR(100, 10, no_aug_iters=15, warmup_epochs=2, warmup_lr_ratio=0.1, min_lr_ratio=0.05)
    assert ours(scheduler, 100) == pytest.approx([yolox_warm_cos(i, 100, 20, 15, 0.1, 0.05) for i in range(100)])


@pytest.mark.parametrize(
    ("i", "rate"),
    [(0, 0.0), (5, 0.25), (10, 1.0), (45, 0.525), (80, 0.05), (99, 0.05)],
)  # warm-up to 10, cosine of 70 updates with its middle at 45, tail from 80
def test_warm_cos_by_hand(i, rate):
    scheduler = WarmCosLR(100, 10, no_aug_iters=20, warmup_epochs=1)
    assert scheduler.rate(i) == pytest.approx(rate)


def test_warm_cos_without_warm_up_is_cosine_annealing():
    make = lambda sgd: torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=50, eta_min=0.01)  # noqa: E731
    scheduler = WarmCosLR(50, 10, warmup_epochs=0, min_lr_ratio=0.01)
    assert ours(scheduler, 50) == pytest.approx(torch_rates(make, 50))


def test_a_run_that_is_shorter_than_its_tail_is_not_all_tail():
    scheduler = WarmCosLR(10, 5, no_aug_iters=30, warmup_epochs=0)
    assert ours(scheduler, 10)[1:] == pytest.approx([yolox_warm_cos(i, 10, 1e-9, 2, 0, 0.05) for i in range(1, 10)])
    assert ours(scheduler, 10)[8:] == [0.05] * 2 and ours(scheduler, 10)[0] == 1.0


def test_multistep_equals_torch():
    make = lambda sgd: torch.optim.lr_scheduler.MultiStepLR(sgd, [20, 35], gamma=0.3)  # noqa: E731
    assert ours(MultiStepLR(50, 10, milestones=[2, 3.5], gamma=0.3), 50) == pytest.approx(torch_rates(make, 50))


def test_multistep_with_warm_up_equals_torch_chained():
    def make(sgd):
        warm = torch.optim.lr_scheduler.LinearLR(sgd, start_factor=0.25, total_iters=10)
        return torch.optim.lr_scheduler.ChainedScheduler(
            [warm, torch.optim.lr_scheduler.MultiStepLR(sgd, [20, 40])], optimizer=sgd
        )

    scheduler = MultiStepLR(50, 10, milestones=[2, 4], warmup_epochs=1, warmup_lr_ratio=0.25)
    assert ours(scheduler, 50) == pytest.approx(torch_rates(make, 50))


def test_poly_equals_torch():
    make = lambda sgd: torch.optim.lr_scheduler.PolynomialLR(sgd, total_iters=50, power=0.9)  # noqa: E731
    assert ours(PolyLR(50, 10), 50) == pytest.approx(torch_rates(make, 50))


def test_poly_with_warm_up_and_floor_by_hand():
    scheduler = PolyLR(50, 10, power=2.0, min_lr_ratio=0.2, warmup_epochs=1)
    table = {0: 0.0, 5: 0.5, 10: 1.0, 30: 0.2 + 0.8 * 0.25, 50: 0.2}
    assert {i: scheduler.rate(i) for i in table} == pytest.approx(table)


def test_constant_with_warm_up_equals_torch():
    make = lambda sgd: torch.optim.lr_scheduler.LinearLR(sgd, start_factor=0.1, total_iters=15)  # noqa: E731
    scheduler = ConstantLR(80, 10, warmup_epochs=1.5, warmup_lr_ratio=0.1)
    assert ours(scheduler, 80) == pytest.approx(torch_rates(make, 80))
