import math

import pytest
import torch

from dao.schedulers.cycles import CosineRestartsLR, OneCycleLR, place_in_cycles


def torch_rates(make, steps):
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = make(sgd)
    rates = []
    for i in range(steps):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        if i + 1 < steps:  # OneCycleLR refuses a step past its end
            scheduler.step()
    return rates


def ours(scheduler, steps):
    return [scheduler.rate(i) for i in range(steps)]


@pytest.mark.parametrize("mult", [1, 2, 3])
def test_restarts_equal_torch(mult):
    make = lambda sgd: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(sgd, 8, mult, eta_min=0.02)  # noqa: E731
    scheduler = CosineRestartsLR(70, 4, cycle_epochs=2, cycle_mult=mult, min_lr_ratio=0.02)
    assert ours(scheduler, 70) == pytest.approx(torch_rates(make, 70))


def test_peaks_decay_and_follow_the_warm_up():
    scheduler = CosineRestartsLR(60, 10, cycle_epochs=1, cycle_mult=2, decay=0.5, warmup_epochs=1)
    # warm-up 0..10, cycles 10..20, 20..40, 40..80
    table = {0: 0.0, 5: 0.5, 10: 1.0, 15: 0.5, 20: 0.5, 30: 0.25, 40: 0.25, 60: 0.125}
    assert {i: scheduler.rate(i) for i in table} == pytest.approx(table)


def test_a_peak_never_falls_below_the_floor():
    scheduler = CosineRestartsLR(100, 1, cycle_epochs=5, decay=0.1, min_lr_ratio=0.2)
    assert min(ours(scheduler, 100)) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("t", "expected"), [(0, (0, 0.0)), (4, (0, 0.8)), (5, (1, 0.0)), (12.5, (1, 0.75)), (15, (2, 0.0))]
)
def test_place_in_cycles(t, expected):
    assert place_in_cycles(t, 5, 2) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("pct", "div", "final"), [(0.3, 25.0, 1e4), (0.5, 10.0, 100.0), (0.0, 25.0, 1e4), (1.0, 5.0, 10.0)]
)
def test_one_cycle_equals_torch(pct, div, final):
    def make(sgd):
        return torch.optim.lr_scheduler.OneCycleLR(
            sgd, 1.0, total_steps=60, pct_start=pct, div_factor=div, final_div_factor=final
        )

    scheduler = OneCycleLR(60, 6, pct_start=pct, div_factor=div, final_div_factor=final)
    assert ours(scheduler, 60) == pytest.approx(torch_rates(make, 60))


@pytest.mark.parametrize("pct", [0.0, 0.01, 0.3, 1.0])
def test_one_cycle_of_one_update_has_the_peak_and_a_short_one_begins_there(pct):
    """Its one update had 1/250,000 of the rate: the model stayed as it was."""
    assert ours(OneCycleLR(1, 1, pct_start=pct), 1) == [1.0]
    if 0 < pct < 1:
        assert ours(OneCycleLR(3, 3, pct_start=pct), 3) == pytest.approx([1.0, (1 + 1 / 25 / 1e4) / 2, 1 / 25 / 1e4])


def test_one_cycle_where_the_peak_is_the_first_update():
    rates = ours(OneCycleLR(10, 1, pct_start=0.1), 10)
    assert rates[0] == 1.0 and rates[9] == pytest.approx(1 / 25 / 1e4)
    assert all(not math.isnan(rate) for rate in rates)
