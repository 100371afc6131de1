"""Which validation the best checkpoint is of: declared orders of metrics, ties, what cannot be told, resumes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from loguru import logger

from dao.errors import ConfigError
from dao.evaluators.classification import ClsEvaluator
from dao.register import Registers, import_all_modules_for_register
from dao.structures import Batch, Prediction
from dao.trainers.hooks.checkpoint import BestCheckpoint

import_all_modules_for_register()
NAN = float("nan")


def keep(evaluator, validations, best_metric=None, stop_after=None):
    """The epochs (from 1) that best.ckpt was written in; with ``stop_after`` the run is stopped there and resumed."""
    saved = []

    def trainer_with(best):
        trainer = SimpleNamespace(evaluator=evaluator, best_metric=best_metric, metrics_epoch=-1, epoch=0, best=best)
        trainer.save_checkpoint = lambda name: saved.append((name, trainer.epoch + 1))
        hook = BestCheckpoint()
        hook.before_train(trainer)
        return trainer, hook

    trainer, hook = trainer_with({})
    for epoch, metrics in enumerate(validations):
        if epoch == stop_after:
            content = {"best": dict(trainer.best)}  # as a checkpoint holds it and a new process finds it
            trainer, hook = trainer_with(dict(content["best"]))
        trainer.epoch = trainer.metrics_epoch = epoch
        trainer.metrics = metrics
        hook.after_epoch(trainer)
    return [epoch for _, epoch in saved], trainer.best


def validations_of(evaluator, answers, truth):
    """What the evaluator computes of each epoch's scores (N, 2)."""
    found = []
    for scores in answers:
        evaluator.reset()
        rows = [
            Prediction(path=f"{i}.png", original_hw=(8, 8), scores=row, label=int(row.argmax()))
            for i, row in enumerate(scores)
        ]
        paths, count = [row.path for row in rows], len(rows)
        batch = Batch(torch.zeros(count, 3, 8, 8), torch.tensor(truth), paths, list(range(count)), [(8, 8)] * count)
        evaluator.update(rows, batch)
        found.append(evaluator.compute())
    return found


def pairs(bad):
    """(N, 2) scores of the classes "dark" and "bright" from those of the second."""
    return np.stack([1 - np.array(bad), np.array(bad)], axis=1).astype(np.float32)


def test_equal_top1_goes_to_the_higher_auroc_and_then_to_the_lower_loss():
    truth = [0, 0, 1, 1]
    answers = [
        pairs([0.1, 0.9, 0.4, 0.6]),  # top-1 of one half in all; AUROC 0.5
        pairs([0.3, 0.6, 0.45, 0.7]),  # 0.75: a worse answer, but three of four pairs in order
        pairs([0.3, 0.6, 0.45, 0.9]),  # the same order, surer where it is right
        pairs([0.2, 0.9, 0.45, 0.9]),  # AUROC 0.625 again
    ]
    evaluator = ClsEvaluator(classes=["dark", "bright"])
    found = validations_of(evaluator, answers, truth)
    assert [m["top1"] for m in found] == [0.5] * 4
    assert [m["macro/auroc"] for m in found] == pytest.approx([0.5, 0.75, 0.75, 0.625])
    by_hand = -np.log([0.7, 0.4, 0.45, 0.9]).mean()
    assert found[2]["log_loss"] == pytest.approx(by_hand, rel=1e-6) and by_hand < found[1]["log_loss"]
    assert keep(evaluator, found)[0] == [1, 2, 3]


def test_of_good_and_bad_parts_the_epoch_is_kept_that_lets_fewer_escape_even_at_a_lower_top1():
    """100 good and 12 bad parts: 7 escapes and no false alarm against 3 escapes and 8 false alarms."""
    truth = [0] * 100 + [1] * 12
    sleepy = pairs([0.1] * 100 + [0.1] * 7 + [0.9] * 5)
    watchful = pairs([0.9] * 8 + [0.1] * 92 + [0.1] * 3 + [0.9] * 9)
    paranoid = pairs([0.9] * 112)
    evaluator = ClsEvaluator(classes=["good", "crack"])
    found = validations_of(evaluator, [sleepy, watchful, paranoid], truth)
    assert [round(m["top1"] * 112) for m in found] == [105, 101, 12]
    expected = [(7 / 12 + 0) / 2, (3 / 12 + 8 / 100) / 2, 0.5]
    assert [m["factory/balanced_error"] for m in found] == pytest.approx(expected)
    epochs, best = keep(evaluator, found)
    assert (
        epochs == [1, 2] and best["metric"] == "factory/balanced_error" and best["value"] == pytest.approx(expected[1])
    )
    assert keep(evaluator, found, best_metric="top1")[0] == [1]


def test_what_a_set_cannot_tell_leaves_the_choice_to_the_next_metric():
    warned = []
    handle = logger.add(lambda message: warned.append(message.record["message"]), level="WARNING")
    evaluator = ClsEvaluator(classes=["good", "crack"])  # of bad parts alone: no false-alarm rate, no AUROC
    found = [{"factory/balanced_error": NAN, "top1": x, "factory/auroc": NAN, "log_loss": 1.0} for x in (0.4, 0.6, 0.5)]
    epochs, best = keep(evaluator, found)
    logger.remove(handle)
    assert epochs == [1, 2] and (best["metric"], best["value"]) == ("top1", 0.6)
    assert len(warned) == 1 and "best.ckpt goes by top1 until one does" in warned[0]
    assert keep(evaluator, [*found, {**found[0], "factory/balanced_error": 0.4}])[0] == [1, 2, 4]


@pytest.mark.parametrize("kind", ["ClsEvaluator", "SegEvaluator", "DetEvaluator", "AnomalyEvaluator"])
def test_every_task_declares_an_order_of_metrics_that_it_reports_and_the_second_breaks_a_tie_also_after_a_resume(kind):
    evaluator = Registers.evaluators.get(kind)(["good", "crack"])
    order = evaluator.best_order
    assert len(order) > 1 and set(order) <= set(evaluator.metric_names())
    better = {name: 0.8 if evaluator.mode_of(name) == "max" else 0.2 for name in order}
    tied = [{**better, order[1]: better[order[1]] + x * (1 if evaluator.mode_of(order[1]) == "max" else -1)}
            for x in (0.0, -0.1, 0.1, 0.1, 0.05)]  # fmt: skip
    whole = keep(evaluator, tied)
    assert whole[0] == [1, 3] and whole[1]["epoch"] == 3
    for stop in range(1, len(tied)):
        assert keep(evaluator, tied, stop_after=stop) == whole


def test_a_list_of_metrics_is_an_order_of_ones_own():
    evaluator = ClsEvaluator(classes=["dark", "bright"])
    found = [{"top1": 0.9, "macro/f1": 0.5, "macro/auroc": 0.5}, {"top1": 0.8, "macro/f1": 0.5, "macro/auroc": 0.9},
             {"top1": 0.9, "macro/f1": 0.5, "macro/auroc": 0.8}]  # fmt: skip
    assert keep(evaluator, found, best_metric=["macro/f1", "top1"])[0] == [1, 3]
    assert keep(evaluator, found, best_metric="macro/f1")[0] == [1, 3]
    assert keep(evaluator, found, best_metric=["macro/f1", "macro/auroc"])[0] == [1, 2]
    with pytest.raises(ConfigError, match="no 'macro/f2'"):
        keep(evaluator, found, best_metric=["top1", "macro/f2"])
