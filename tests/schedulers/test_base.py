import inspect

import pytest
import torch

from dao.register import Registers
from dao.schedulers import cycles, decay, plateau  # noqa: F401  (they register)
from dao.schedulers.base import Scheduler, part_of_run, warm_up
from dao.schedulers.decay import ConstantLR, PolyLR, WarmCosLR

NAMES = [
    "constant_lr",
    "cosine_restarts_lr",
    "multistep_lr",
    "one_cycle_lr",
    "plateau_lr",
    "poly_lr",
    "warm_cos_lr",
]


def build(name, total_iters=40, iters_per_epoch=4, **kwargs):
    if name == "multistep_lr":
        kwargs.setdefault("milestones", [5, 8])
    section = {"type": name, "kwargs": kwargs}
    return Registers.schedulers.build(
        section, "lr_scheduler", total_iters=total_iters, iters_per_epoch=iters_per_epoch, no_aug_iters=8
    )


def optimizer():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 1.0)]
    return torch.optim.SGD(groups, lr=0.5)


@pytest.mark.parametrize(
    ("i", "shape", "expected"),
    [(0, "linear", 0.2), (1, "linear", 0.4), (3, "linear", 0.8), (4, "linear", 1.0), (9, "linear", 1.0),
     (0, "quadratic", 0.2), (2, "quadratic", 0.4), (3, "quadratic", 0.65), (4, "quadratic", 1.0)],
)  # fmt: skip
def test_warm_up(i, shape, expected):
    assert warm_up(i, 4, 0.2, shape) == pytest.approx(expected)


def test_no_warm_up():
    assert warm_up(0, 0, 0.0, "linear") == 1.0


def test_registered_names():
    assert set(NAMES) <= set(Registers.schedulers)


def test_the_first_update_uses_the_first_rate_and_groups_keep_their_ratio():
    scheduler, sgd = ConstantLR(25, 5, warmup_epochs=1, warmup_lr_ratio=0.5), optimizer()
    assert scheduler.lrs == []
    scheduler.attach(sgd)
    assert [g["lr"] for g in sgd.param_groups] == scheduler.lrs == pytest.approx([0.05, 0.5])
    scheduler.step()
    assert scheduler.lrs == pytest.approx([0.06, 0.6])


@pytest.mark.parametrize("name", NAMES)
def test_rates_stay_between_0_and_1_past_the_end_as_well(name):
    scheduler = build(name)
    rates = [scheduler.rate(i) for i in range(45)]
    assert all(0 <= rate <= 1 for rate in rates) and max(rates) > 0.9
    assert rates[40] == rates[44]


@pytest.mark.parametrize("name", sorted(Registers.schedulers))
@pytest.mark.parametrize(
    ("total", "per_epoch"), [(1, 1), (2, 1), (2, 2), (3, 3), (4, 4), (5, 5)], ids=lambda number: str(number)
)
@pytest.mark.parametrize("warmup_epochs", [0, 0.5, 1000])
def test_a_run_of_one_update_or_one_epoch_trains_whatever_the_warm_up(name, total, per_epoch, warmup_epochs):
    """The only update, and the first of two or three, has the whole rate; every longer run comes near it."""
    takes = inspect.signature(Registers.schedulers.get(name)).parameters
    settings = {"warmup_epochs": warmup_epochs} if "warmup_epochs" in takes else {}
    settings |= {"milestones": [0.5, 0.9]} if name == "multistep_lr" else {}
    scheduler, sgd = build(name, total, per_epoch, **settings), optimizer()
    scheduler.attach(sgd)
    rates = []
    for _ in range(total):
        rates.append(scheduler.lrs[1])
        scheduler.step()
    assert all(0 <= rate <= 1 for rate in rates) and max(rates) > 0.8
    assert rates[0] == 1 or total > 3
    assert scheduler.rate(total) == scheduler.rate(total + 9) and "nan" not in scheduler.describe(0.1)


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(name):
    metrics = [0.5, 0.6, 0.6, 0.6, 0.6, 0.7, 0.7, 0.7, 0.7, 0.7]
    kwargs = {"patience": 1} if name == "plateau_lr" else {}

    def run(scheduler, start, stop):
        seen = []
        for i in range(start, stop):
            seen.append(scheduler.lrs)
            scheduler.step()
            if i % 4 == 3:
                scheduler.epoch_end(metrics[i // 4])
        return seen

    whole, first, second = (build(name, **kwargs) for _ in range(3))
    sgd = optimizer()
    whole.attach(optimizer())
    first.attach(sgd)
    expected = run(whole, 0, 40)
    begun = run(first, 0, 22)
    resumed_sgd = optimizer()
    second.attach(resumed_sgd)  # as the trainer does: attach, then load
    resumed_sgd.load_state_dict(sgd.state_dict())
    second.load_state_dict(first.state_dict())
    assert begun + run(second, 22, 40) == expected
    assert any(lrs != expected[0] for lrs in expected) or name == "constant_lr"


def test_loading_sets_the_rates_at_once():
    scheduler = PolyLR(10, 1, power=1.0)
    scheduler.attach(optimizer())
    scheduler.load_state_dict({"updates": 5})
    assert scheduler.lrs == pytest.approx([0.05, 0.5])


def test_attach_after_a_loaded_optimizer_keeps_the_base_rate():
    sgd = optimizer()
    scheduler = PolyLR(10, 1, power=1.0)
    scheduler.attach(sgd)
    for _ in range(5):
        scheduler.step()
    again = PolyLR(10, 1, power=1.0)
    again.attach(sgd)
    assert again.lrs == pytest.approx([0.1, 1.0])


# what the shipped detector sets (100 epochs: 5 of warm-up, 10 of tail), of runs of 100, 20, 8 and 3 epochs of 10 updates:
# updates of warm-up, of tail, and updates at more than half of the base rate
SHORTENED = [(100, 50, 100, 454), (20, 40, 40, 74), (8, 16, 16, 30), (3, 6, 6, 12)]


@pytest.mark.parametrize(("epochs", "warm", "tail", "fast"), SHORTENED)
def test_a_shortened_run_still_trains_at_the_full_rate_as_its_table_of_rates_shows(epochs, warm, tail, fast):
    total = 10 * epochs
    scheduler = WarmCosLR(total, 10, no_aug_iters=100, warmup_epochs=5)
    rates = [scheduler.rate(i) for i in range(total)]
    assert rates[warm] == 1.0 == max(rates) and rates[warm - 1] < 1.0
    assert rates[total - tail :] == [0.05] * tail and rates[total - tail - 1] > 0.05
    assert sum(rate > 0.5 for rate in rates) == pytest.approx(fast, abs=2)


def test_a_warm_up_or_a_tail_takes_a_fifth_of_the_run_at_most_and_what_fits_is_left_alone():
    wanted_of_whole = {(5, 100): 5, (20, 100): 20, (21, 100): 20, (10, 8): 1, (10, 4): 0, (0, 50): 0, (3, 0): 0}
    assert {pair: part_of_run(*pair) for pair in wanted_of_whole} == wanted_of_whole


COURSES = [
    ("warm_cos_lr", {"warmup_epochs": 1, "warmup_lr_ratio": 0.05},
     "0.0005 -> 0.01 over 1 epoch, cosine to 0.0005 at epoch 8, then held"),
    ("warm_cos_lr", {"warmup_epochs": 5}, "0 -> 0.01 over 2 epochs (a fifth of the run; 5 were set), cosine to 0.0005 at epoch 8, then held"),
    ("warm_cos_lr", {"warmup_epochs": 0}, "0.01, cosine to 0.0005 at epoch 8, then held"),
    ("constant_lr", {}, "0.01, held"),
    ("multistep_lr", {"milestones": [5, 8, 20]}, "0.01, 0.001 from epoch 5, 0.0001 from epoch 8 (1 milestone lies after the run's end)"),
    ("poly_lr", {"warmup_epochs": 1.5}, "0 -> 0.01 over 1.5 epochs, down to 0 at epoch 10 by the power 0.9"),
    ("one_cycle_lr", {}, "0.0004 -> 0.01 over 3 epochs, cosine to 4e-08 at epoch 10"),
    ("cosine_restarts_lr", {"cycle_epochs": 2, "cycle_mult": 2}, "0.01, cosine to 0 again and again, at first in 2 epochs, each 2 times as long"),
    ("plateau_lr", {"patience": 4, "factor": 0.3}, "0.01, x 0.3 after 5 validations without a better metric"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kwargs", "said"), COURSES)
def test_every_schedule_says_its_rates_in_a_line(name, kwargs, said):
    assert build(name, **kwargs).describe(0.01) == said


def test_a_schedule_of_ones_own_says_where_it_ends_without_writing_a_word():
    class Halves(Scheduler):
        def body(self, i):
            return 0.5

    assert Halves(10, 1).describe(0.01) == "0.01, 0.005 at the end"


def test_settings_outside_their_limits_are_all_named():
    component = Registers.schedulers.get("one_cycle_lr")
    problems = component.check_config({"pct_start": 1.2, "div_factor": 0.5, "final_div_factor": 10}, "k")
    assert {p.where for p in problems} == {"k.pct_start", "k.div_factor"}
    problems = PolyLR.check_config({"warmup_lr_ratio": 2, "power": 1}, "k")
    assert [p.where for p in problems] == ["k.warmup_lr_ratio"] and "from 0 to 1, got 2" in problems[0].what
