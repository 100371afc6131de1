"""What a run says before it starts."""

from types import SimpleNamespace

import pytest

from dao.schedulers.decay import WarmCosLR
from dao.trainers.base import Options
from dao.trainers.describe import rates, tail_of, window_of
from dao.trainers.hooks.batch import in_tail
from dao.trainers.trainval import TrainVal


@pytest.mark.parametrize(
    ("max_epochs", "wanted", "without", "said"),
    [
        (100, 10, 10, "augmentation is off in the last 10 epochs"),
        (
            8,
            10,
            1,
            "augmentation is off in the last 1 epoch (no_aug_epochs is 10; of 8 epochs a fifth at most go without)",
        ),
        (
            4,
            10,
            0,
            "augmentation stays on in every epoch (no_aug_epochs is 10; of 4 epochs a fifth at most go without)",
        ),
        (4, 0, 0, ""),
    ],
)
def test_a_shortened_run_is_augmented_in_four_fifths_of_its_epochs_and_says_so(max_epochs, wanted, without, said):
    trainer = TrainVal({}, Options(), max_epochs=max_epochs, no_aug_epochs=wanted)
    tail = []
    for trainer.epoch in range(max_epochs):
        tail.append(in_tail(trainer))
    assert tail == [False] * (max_epochs - without) + [True] * without
    assert tail_of(trainer) == said


def test_the_rates_of_a_run_are_those_of_its_fastest_layers():
    groups = [{"initial_lr": lr} for lr in (0.001, 0.01, 0.01)]
    trainer = SimpleNamespace(
        scheduler=WarmCosLR(300, 10, no_aug_iters=20, warmup_epochs=1, warmup_lr_ratio=0.05),
        optimizer=SimpleNamespace(param_groups=groups),
    )
    said = "0.0005 -> 0.01 over 1 epoch, cosine to 0.0005 at epoch 28, then held"
    assert rates(trainer) == f"{said} (the slowest of 3 groups: x 0.1)"
    trainer.optimizer.param_groups = groups[1:]
    assert rates(trainer) == said


def test_a_run_says_that_its_windows_may_pass_forward_twice():
    said = [
        window_of(trainer_of(accumulate=4)),
        window_of(trainer_of(accumulate=4, whole_windows=False)),
        window_of(trainer_of()),
    ]
    assert said[0].startswith("4 iterations make an update") and "whole_windows" in said[0] and said[1:] == ["", ""]


def trainer_of(**kwargs):
    trainer = TrainVal({}, Options(), **kwargs)
    trainer.task = SimpleNamespace(loss=object())
    return trainer
