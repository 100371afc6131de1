"""Hooks on their own, with a small stand-in for the trainer."""

import errno
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dao.errors import ConfigError, RunError
from dao.evaluators.base import Evaluator
from dao.register import Registers, import_all_modules_for_register
from dao.schedulers.plateau import PlateauLR
from dao.structures import Batch
from dao.trainers.hooks.base import Hook
from dao.trainers.hooks.batch import MixupCutmix, MultiScale
from dao.trainers.hooks.checkpoint import BestCheckpoint, mode_of
from dao.trainers.hooks.console import Meter, clock
from dao.trainers.hooks.early_stop import EarlyStop
from dao.trainers.hooks.ema import Ema, ema_decay
from dao.trainers.hooks.evaluate import Evaluate
from dao.trainers.hooks.guard import NonFiniteGuard
from dao.trainers.hooks.record import Record


def test_a_misspelt_stage_fails_when_the_class_is_made():
    with pytest.raises(TypeError, match="after_iteration would never run; the stages are before_train"):

        class Wrong(Hook):
            def after_iteration(self, trainer):
                """Never called."""


def test_ema_equals_the_recursion_written_out():
    model, average = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    trainer = SimpleNamespace(updated=True, ema_model=average, task=SimpleNamespace(model=model))
    hook, wanted = Ema(decay=0.9, warmup=3), 1.0
    for i, value in enumerate((2.0, 5.0, -1.0)):
        with torch.no_grad():
            model.weight.fill_(value)
        model.num_batches_tracked.fill_(i)
        hook.after_iter(trainer)
        decay = ema_decay(i, 0.9, 3)
        wanted = decay * wanted + (1 - decay) * value
        assert average.weight[0].item() == pytest.approx(wanted, rel=1e-5)
        assert average.num_batches_tracked.item() == i
    trainer.updated = False
    hook.after_iter(trainer)
    assert hook.state_dict() == {"updates": 3}


class Frozen(nn.BatchNorm1d):
    not_averaged, set_by_calibration = ("running_mean",), ("bias",)


def test_an_average_takes_over_and_leaves_alone_what_a_model_says():
    model, average = Frozen(2), Frozen(2)
    trainer = SimpleNamespace(updated=True, ema_model=average, task=SimpleNamespace(model=model))
    with torch.no_grad():
        for value in (model.running_mean, model.running_var, model.bias):
            value.fill_(5.0)
    Ema(decay=0.9, warmup=0).after_iter(trainer)
    found = (average.running_mean[0].item(), average.running_var[0].item(), average.bias[0].item())
    assert found == pytest.approx((5.0, 0.9 * 1 + 0.1 * 5, 0.0))


def test_an_average_without_a_part_of_the_model_does_without_it():
    model, average = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)}), nn.ModuleDict({"a": nn.Linear(1, 1)})
    Ema(decay=0.0, warmup=0).after_iter(
        SimpleNamespace(updated=True, ema_model=average, task=SimpleNamespace(model=model))
    )
    assert torch.equal(average["a"].weight, model["a"].weight)


def test_losses_of_another_name_have_means_of_their_own():
    meter = Meter()
    for losses in ({"loss": 4.0}, {"loss": 2.0, "student": 2.0}, {"loss": 3.0, "student": 1.0}):
        given = {name: torch.tensor(value) for name, value in losses.items()}
        meter.add(SimpleNamespace(losses=given, iter_seconds=0.1, data_seconds=0.0, batch=[0]))
    assert meter.means() == pytest.approx({"loss": 3.0, "student": 1.5})


def guard_trainer(loss, device="cpu"):
    batch = Batch(torch.zeros(2, 3, 4, 4), None, ["a.png", "b.png"], [0, 1], [(4, 4)] * 2)
    return SimpleNamespace(
        losses={"loss": torch.tensor(loss)}, batch=batch, epoch=1, iter=2, device=torch.device(device)
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_guard_names_the_files(value):
    with pytest.raises(RunError, match=r"epoch 2, iteration 3(.|\n)*a\.png\n  b\.png"):
        NonFiniteGuard().after_iter(guard_trainer(value))


def test_guard_off_the_cpu_looks_before_anything_is_saved():
    hook = NonFiniteGuard(interval=100)
    trainer = guard_trainer(float("nan"), "meta")
    trainer.losses = {"loss": torch.tensor(float("nan"))}
    hook.after_iter(trainer)
    with pytest.raises(RunError):
        hook.after_epoch(trainer)


def test_early_stop_counts_validations_without_gain():
    hook = EarlyStop(patience=2)
    values, stopped = [0.5, 0.7, 0.6, 0.7, 0.1], []
    best = {}
    for epoch, value in enumerate(values):
        if not best or value > best["value"]:
            best = {"value": value, "epoch": epoch + 1}
        trainer = SimpleNamespace(metrics_epoch=epoch, epoch=epoch, best=best, stop_reason="")
        hook.after_epoch(trainer)
        stopped.append(bool(trainer.stop_reason))
    assert stopped == [False, False, False, True, True]


def batch_trainer(size, epoch=0, no_aug=0):
    images = torch.randint(0, 256, (size, 3, 32, 32), dtype=torch.uint8)
    batch = Batch(images, torch.arange(size) % 3, [""] * size, list(range(size)), [(32, 32)] * size)

    def resize(batch, hw):
        batch.images = batch.images.float()[..., : hw[0], : hw[1]]

    task = SimpleNamespace(classes=["a", "b", "c"], resize_batch=resize)
    return SimpleNamespace(
        batch=batch, epoch=epoch, max_epochs=4, no_aug_epochs=no_aug, task=task, seed=1, global_iter=0,
        preprocess=SimpleNamespace(size=(32, 32)),
    )  # fmt: skip


@pytest.mark.parametrize("size", [2, 5, 8])
def test_mixup_makes_soft_targets_that_sum_to_one(size):
    trainer, hook = batch_trainer(size), MixupCutmix(mixup_alpha=1.0)
    before = trainer.batch.images.float().clone()
    hook.before_train(trainer)
    hook.before_iter(trainer)
    assert trainer.batch.targets.shape == (size, 3)
    torch.testing.assert_close(trainer.batch.targets.sum(1), torch.ones(size))
    assert not torch.equal(trainer.batch.images, before)
    if size % 2:
        torch.testing.assert_close(trainer.batch.images[-1], before[-1])


def test_mixup_rests_in_the_last_epochs():
    trainer, hook = batch_trainer(4, epoch=3, no_aug=1), MixupCutmix()
    hook.before_train(trainer)
    hook.before_iter(trainer)
    assert trainer.batch.targets.ndim == 1


@pytest.mark.parametrize(("side", "configured"), [(320, 320), (128, 512)])
def test_multi_scale_scales_what_is_in_the_batch_by_seed_and_iteration(side, configured):
    """Windows of 128 cut from pictures of 512 become 64 to 192, not 256 to 768."""
    sizes = []
    for i in range(40):
        trainer = batch_trainer(1)
        trainer.global_iter, trainer.preprocess.size = i, (configured, configured)
        trainer.batch.images = trainer.batch.images.new_zeros((1, 3, side, side))
        seen = []
        trainer.task.resize_batch = lambda batch, hw, seen=seen: seen.append(hw)
        MultiScale(0.5, 1.5).before_iter(trainer)
        sizes.append(seen[0] if seen else (side, side))
    assert all(len(set(sizes[k : k + 10])) == 1 for k in (0, 10, 20, 30)) and len(set(sizes)) > 1
    assert all(side / 2 <= h <= side * 1.5 and h % 32 == 0 and h == w for h, w in sizes)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.4, "1:01"), (3723, "1:02:03")])
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_a_metric_that_is_neither_better_high_nor_low_is_refused_with_the_ways_out():
    evaluator = Registers.evaluators.get("ClsEvaluator")(["ok", "dent"])
    hook = BestCheckpoint("per_class/dent/support")
    with pytest.raises(ConfigError, match="'per_class/dent/support' is better high or low.*'mode'"):
        hook.before_train(SimpleNamespace(evaluator=evaluator, best_metric=None))
    BestCheckpoint("per_class/dent/support", "max").before_train(SimpleNamespace(evaluator=evaluator, best_metric=None))
    plateau = PlateauLR(10, 1)
    watched = SimpleNamespace(evaluator=evaluator, best_metric="pictures", scheduler=plateau)
    with pytest.raises(ConfigError, match="'pictures'"):
        Evaluate().check_built(watched)
    plateau.mode = "max"
    Evaluate().check_built(watched)


def test_a_mode_given_to_the_hook_outlives_the_evaluators_choice_of_metric():
    hook = BestCheckpoint(mode="min")
    trainer = SimpleNamespace(
        evaluator=Registers.evaluators.get("ClsEvaluator")(["ok", "dent"]), best_metric=None, metrics={"top1": 0.4},
        best={"value": 0.5}, metrics_epoch=0, epoch=0, save_checkpoint=lambda name: None,
    )  # fmt: skip
    hook.before_train(trainer)
    hook.after_epoch(trainer)
    assert trainer.best["value"] == 0.4


def test_a_logger_that_the_disk_refuses_does_not_end_the_run(tmp_path, monkeypatch):
    def refused(self, run_dir):
        raise OSError(errno.ENOSPC, "No space left on device")

    import_all_modules_for_register()
    monkeypatch.setattr(Registers.loggers.get("TensorBoard"), "__init__", refused)
    hook = Record()
    trainer = SimpleNamespace(config={}, run_dir=tmp_path, scalars={"train/loss": 0.5}, global_iter=0, epoch=0)
    hook.before_train(trainer)
    hook.after_iter(trainer)
    hook.after_train(trainer)
    assert '"train/loss": 0.5' in (tmp_path / "metrics.jsonl").read_text()


class Costs(Evaluator):
    """An evaluator whose own metric is better when smaller, which its name does not tell."""

    best_metric, best_mode, maximised = "cost", "min", ("top1",)

    def __init__(self, costs):
        self.costs = iter(costs)

    def reset(self):
        """Nothing is kept."""

    def update(self, predictions, batch):
        """Nothing is counted."""

    def report(self, folder):
        return []

    def compute(self):
        return {"cost": next(self.costs), "top1": 0.5}

    def headline(self, metrics):
        return ""

    def metric_names(self):
        return ["cost", "top1"]


def test_a_direction_is_the_evaluators_word_where_the_metric_is_its_own():
    evaluator = Costs([])
    assert (mode_of("cost", evaluator), mode_of("top1", evaluator)) == ("min", "max")
    hook = BestCheckpoint()
    trainer = SimpleNamespace(evaluator=evaluator, best_metric="cost", metrics_epoch=-1)
    hook.before_train(trainer)
    assert hook.order(trainer) == {"cost": "min"}


def test_the_last_is_kept_until_a_validation_can_tell(tmp_path):
    """NaN of a metric that a set cannot tell: never better than a number, and better than nothing."""
    saved = []
    nan = float("nan")
    trainer = SimpleNamespace(evaluator=Costs([]), best_metric="cost", metrics_epoch=-1, best={}, run_dir=tmp_path)
    trainer.save_checkpoint = lambda name: saved.append(trainer.metrics_epoch)
    hook = BestCheckpoint()
    hook.before_train(trainer)
    for epoch, cost in enumerate([nan, nan, 5.0, nan, 7.0, 3.0]):
        trainer.epoch = trainer.metrics_epoch = epoch
        trainer.metrics = {"cost": cost}
        hook.after_epoch(trainer)
    assert saved == [0, 1, 2, 5] and trainer.best["value"] == 3.0 and trainer.best["epoch"] == 6


@pytest.mark.parametrize("best_metric", [None, "cost"])
@pytest.mark.parametrize(("costs", "factor"), [([9.0, 5.0, 3.0, 1.0], 1.0), ([1.0, 3.0, 5.0, 9.0], 0.1**3)])
def test_plateau_follows_the_direction_of_the_watched_metric(costs, factor, best_metric):
    scheduler = PlateauLR(100, 1, patience=0)
    scheduler.attach(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0))
    trainer = SimpleNamespace(
        task=SimpleNamespace(using=lambda model: nullcontext(), facts={}), answering_model=None, eval_loader=[],
        best_metric=best_metric, evaluator=Costs(costs), device="cpu", eval_bad=SimpleNamespace(add=None), scheduler=scheduler, epoch=0,
    )  # fmt: skip
    for _ in costs:
        Evaluate().run(trainer)
    assert scheduler.lrs == pytest.approx([factor])
