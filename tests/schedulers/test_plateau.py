import random

import pytest
import torch

from dao.schedulers.plateau import PlateauLR, is_better


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("patience", [0, 2])
@pytest.mark.parametrize("min_lr_ratio", [0.0, 0.02])
def test_equals_torch_on_a_random_metric(mode, patience, min_lr_ratio):
    ours, theirs = optimizer(), optimizer()
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        theirs, mode=mode, factor=0.5, patience=patience, threshold=0.05, min_lr=min_lr_ratio
    )
    scheduler = PlateauLR(100, 1, factor=0.5, patience=patience, mode=mode, threshold=0.05, min_lr_ratio=min_lr_ratio)
    scheduler.attach(ours)
    numbers, rates = random.Random(0), []
    for _ in range(40):
        metric = numbers.uniform(0.5, 1.0)
        scheduler.step()
        scheduler.epoch_end(metric)
        reference.step(metric)
        rates.append(theirs.param_groups[0]["lr"])
        assert scheduler.lrs == pytest.approx(rates[-1:], abs=1e-7)
    assert len(set(rates)) > 3


def test_epochs_without_evaluation_do_not_count():
    scheduler = PlateauLR(100, 1, patience=1)
    scheduler.attach(optimizer())
    for metric in (0.9, None, None, None, 0.9, None):
        scheduler.epoch_end(metric)
    assert scheduler.lrs == [1.0]
    scheduler.epoch_end(0.9)
    assert scheduler.lrs == pytest.approx([0.1])


def test_warm_up_and_reduction_multiply():
    scheduler = PlateauLR(100, 4, factor=0.5, patience=0, warmup_epochs=1)
    scheduler.attach(optimizer())
    scheduler.step()
    scheduler.epoch_end(0.5)
    scheduler.epoch_end(0.5)
    assert scheduler.lrs == pytest.approx([0.25 * 0.5])


@pytest.mark.parametrize(
    ("metric", "best", "mode", "expected"),
    [(0.5, None, "max", True), (0.56, 0.5, "max", True), (0.54, 0.5, "max", False), (0.44, 0.5, "min", True),
     (0.46, 0.5, "min", False), (float("nan"), 0.5, "max", False), (float("nan"), None, "min", False)],
)  # fmt: skip
def test_is_better_by_a_tenth(metric, best, mode, expected):
    assert is_better(metric, best, mode, 0.1) is expected
