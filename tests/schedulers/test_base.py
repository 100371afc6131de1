import pytest
import torch
from loguru import logger

from dao.register import Registers
from dao.schedulers import cycles, decay, plateau  # noqa: F401  (they register)
from dao.schedulers.base import warm_up
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


@pytest.fixture
def warnings():
    seen = []
    handle = logger.add(lambda message: seen.append(message.record["message"]), level="WARNING")
    yield seen
    logger.remove(handle)


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
    scheduler, sgd = ConstantLR(10, 5, warmup_epochs=1, warmup_lr_ratio=0.5), optimizer()
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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("total", [1, 2, 3])
def test_the_shortest_runs(name, total):
    scheduler = build(name, total_iters=total, iters_per_epoch=1)
    assert all(0 <= scheduler.rate(i) <= 1 for i in range(total + 1))


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


def test_a_warm_up_longer_than_the_run_is_cut_and_said_once(warnings):
    scheduler = WarmCosLR(total_iters=20, iters_per_epoch=5, no_aug_iters=5, warmup_epochs=10)
    assert scheduler.warmup_iters == 15 and scheduler.rate(14) == pytest.approx((14 / 15) ** 2)
    assert scheduler.rate(15) == 0.05
    assert len(warnings) == 1 and "50 updates" in warnings[0] and "15" in warnings[0]


def test_a_warm_up_that_fits_is_not_mentioned(warnings):
    WarmCosLR(total_iters=20, iters_per_epoch=5, no_aug_iters=5, warmup_epochs=3)
    assert warnings == []


def test_settings_outside_their_limits_are_all_named():
    component = Registers.schedulers.get("one_cycle_lr")
    problems = component.check_config({"pct_start": 1.2, "div_factor": 0.5, "final_div_factor": 10}, "k")
    assert {p.where for p in problems} == {"k.pct_start", "k.div_factor"}
    problems = PolyLR.check_config({"warmup_lr_ratio": 2, "power": 1}, "k")
    assert [p.where for p in problems] == ["k.warmup_lr_ratio"] and "from 0 to 1, got 2" in problems[0].what
