"""What a run says: lines that fit a terminal, the two numbers last, and refusals by the place that the user wrote."""

import json
from types import SimpleNamespace

import pytest
import torch
from loguru import logger

from dao.errors import ConfigError, DataError
from dao.evaluators.classification import ClsEvaluator
from dao.evaluators.headline import judged_at, line_of, two_numbers
from dao.register import import_all_modules_for_register
from dao.structures import Unreadable
from dao.trainers.base import BadPictures
from dao.trainers.hooks import console, defaults
from dao.trainers.hooks.batch import MixupCutmix, SwitchLoss
from dao.trainers.hooks.evaluate import Evaluate, FinalReport, say_best

FACTORY = {
    "escape_rate": {"value": 0.02, "low": 0.0035, "high": 0.105, "count": 1, "total": 50},
    "false_alarm_rate": {"value": 0.01, "low": 0.0034, "high": 0.029, "count": 3, "total": 300},
}


def training(**more):
    settings = {"save_interval": 0, "keep": 3, "save_minutes": 10, "save_iters": 0, "eval_interval": 1, "ema": False,
                "test_after_train": True, "best_metric": None, "evaluator": ClsEvaluator(["ok", "dent"]), "scheduler": None}  # fmt: skip
    return SimpleNamespace(**settings | more)


@pytest.mark.parametrize(
    ("hooks", "best_metric", "place"),
    [
        (
            [{"type": "EarlyStop"}, {"type": "BestCheckpoint", "kwargs": {"metric": "f2"}}],
            None,
            "hooks.1.kwargs.metric",
        ),
        ([], "f2", "trainer.kwargs.best_metric"),
        ([{"type": "BestCheckpoint"}], "f2", "trainer.kwargs.best_metric"),
        ([{"type": "BestCheckpoint", "kwargs": {"metric": "pictures"}}], None, "hooks.0.kwargs.metric"),
    ],
)
def test_a_wrong_metric_is_refused_by_the_place_that_names_it_before_there_is_a_run_folder(hooks, best_metric, place):
    import_all_modules_for_register()
    trainer = training(best_metric=best_metric)
    with pytest.raises(ConfigError) as refused:
        for hook in defaults.for_training(trainer, hooks):
            hook.check_built(trainer)  # which `setup` calls before it opens a folder
    assert refused.value.problems[0].where == place


def test_a_hook_that_does_nothing_is_refused_with_the_file():
    problems = MixupCutmix.check_config({"mixup_alpha": 0.0}, "hooks.3.kwargs")
    assert [p.where for p in problems] == ["hooks.3.kwargs.mixup_alpha"]


def test_a_hooks_loss_that_does_not_fit_is_refused_by_the_hooks_place():
    import_all_modules_for_register()
    hook = SwitchLoss(2, {"type": "FocalLoss"})
    hook.where = "hooks.4"

    def refuse(loss):
        raise ConfigError([SimpleNamespace(where="loss.type", what="no")])

    trainer = SimpleNamespace(task=SimpleNamespace(check_loss=refuse), device="cpu")
    trainer.dataset = SimpleNamespace(classes=["a", "b"], multi_label=False, class_counts=lambda: [1, 1])
    with pytest.raises(ConfigError, match=r"hooks\.4\.kwargs\.loss"):
        hook.check_built(trainer)


LOSSES = [
    {},
    {"loss": 1.0},
    {"loss": 12.34, "iou": 3.1, "obj": 4.2, "cls": 5.0},
    {"loss": 1.0} | {f"part{i}": 1.0 for i in range(9)},
]


@pytest.mark.parametrize("losses", LOSSES)
def test_an_iterations_line_fits_120_columns(losses):
    """17 of them are the time and the level; numbers as wide as they come."""
    hook = console.Console(1)
    hook.meter.seconds, hook.meter.data_seconds, hook.meter.count = 34.567, 12.3, 10
    trainer = SimpleNamespace(
        epoch=299, max_epochs=300, iter=12344, iters_per_epoch=12345, global_iter=300 * 12345 - 9000, scheduler=object(),
        scalars={"lr": 1.23456e-05}, device=torch.device("cpu"),
    )  # fmt: skip
    hook.started, hook.start_iter = 0.0, 0
    hook.seconds_left = lambda trainer: 12 * 3600 + 62
    line = hook.render(trainer, losses)
    assert len(line) + 17 <= 120 and "12:01:02" in line and ("loss" in line or "collecting" in line)
    trainer.epoch, trainer.max_epochs, trainer.iter, trainer.iters_per_epoch = 2, 30, 19, 100
    hook.meter.seconds, hook.meter.data_seconds = 3.4, 0.1
    line = hook.render(trainer, losses)
    assert len(line) + 17 <= 120 and ("(iou 3.1 obj 4.2 cls 5)" in line) == ("iou" in losses)


@pytest.mark.parametrize(("stale", "begins"), [(2, 0), (0, 1)])
def test_the_time_left_is_by_the_iterations_that_this_process_made(monkeypatch, stale, begins):
    """stale: what the trainer's counter says before the loop sets it: a resume that owed the end of the epoch before left
    it at that epoch's last iteration, and the second iteration divided by 0."""
    hook, seconds = console.Console(1), iter([100.0, 106.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(seconds))
    hook.start_iter = None
    trainer = SimpleNamespace(
        epoch=1, iters_per_epoch=3, max_epochs=3, start_iter=begins, iter=stale, global_iter=3 + stale
    )
    hook.before_epoch(trainer)
    trainer.global_iter = 3 + begins + 1  # two are made, in 6 seconds
    assert hook.seconds_left(trainer) == pytest.approx(3.0 * (9 - 3 - begins - 2))


def test_an_epochs_line_has_both_counts_and_the_last_lines_their_intervals():
    line = line_of(
        {"foreground/miou": 0.7654, "gone": float("nan")},
        ("foreground/miou", "gone"),
        {"factory": FACTORY},
        "found 20 of 25 defects",
    )
    assert line == "foreground/miou 0.7654  found 20 of 25 defects  escapes 1 of 50  false alarms 3 of 300"
    assert len("epoch 300  " + line) + 17 <= 120
    assert two_numbers({"factory": FACTORY}) == [
        "escapes:      2.0 % (1 of 50; 95 %: 0.4 to 10.5 %)",
        "false alarms: 1.0 % (3 of 300; 95 %: 0.3 to 2.9 %)",
    ]


def test_where_a_number_cannot_be_counted_its_line_says_why():
    no_good = {**FACTORY, "false_alarm_rate": {**FACTORY["false_alarm_rate"], "count": 0, "total": 0}}
    assert two_numbers({"factory": no_good})[1] == "false alarms: none counted; these pictures hold no good part"
    assert "evaluator.kwargs.good" in two_numbers({})[0]
    assert line_of({"ap": 0.5, "pictures": 7.0}, ("ap",), {}) == "ap 0.5000  (7 pictures)"


@pytest.fixture
def said():
    lines = []
    handler = logger.add(lambda message: lines.append(message.record["message"]), level="INFO")
    yield lines
    logger.remove(handler)


def finished(tmp_path, best_epoch, evaluator_epoch):
    evaluator = SimpleNamespace(details={"factory": FACTORY}, report=lambda folder: None)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").touch()
    best = {"metric": "top1", "value": 0.9, "epoch": best_epoch}
    return SimpleNamespace(finished=True, judged_otherwise=False, saver=SimpleNamespace(wait=lambda: None), run_dir=tmp_path, best=best,
                           evaluator=evaluator, evaluator_epoch=evaluator_epoch)  # fmt: skip


@pytest.mark.parametrize("stop_reason", ["", "no better for 3 validations"])
def test_a_finished_run_that_is_resumed_says_so_with_its_numbers_and_leaves_no_second_report(
    tmp_path, said, stop_reason
):
    trainer = finished(tmp_path, 2, -1)
    trainer.stop_reason = stop_reason
    (tmp_path / "eval" / "final").mkdir(parents=True)
    (tmp_path / "eval" / "final" / "metrics.json").write_text(json.dumps({"factory": FACTORY}))
    FinalReport().after_train(trainer)
    assert "this run was finished already" in said[0] and str(tmp_path / "eval" / "final") in said[0]
    assert ("patience" in said[0]) == bool(stop_reason)
    assert said[1:] == two_numbers({"factory": FACTORY})
    assert [folder.name for folder in (tmp_path / "eval").iterdir()] == ["final"]


def test_a_finished_run_whose_report_was_never_written_gets_it_and_one_that_trained_on_gets_another(tmp_path, said):
    trainer, hook = finished(tmp_path, 2, 1), FinalReport()
    trainer.evaluator.report = lambda folder: (folder / "metrics.json").write_text("{}")
    hook.after_train(trainer)
    hook.after_epoch(trainer)
    hook.after_train(trainer)
    assert sorted(folder.name for folder in (tmp_path / "eval").iterdir()) == ["final", "final-2"]
    assert not any("finished already" in line for line in said)


def test_a_finished_run_that_is_judged_otherwise_when_it_is_resumed_gets_a_report_of_that(tmp_path, said):
    """Its old numbers are those of another threshold, or of other pictures."""
    trainer = finished(tmp_path, 2, 1)
    trainer.evaluator.report = lambda folder: (folder / "metrics.json").write_text("{}")
    FinalReport().after_train(trainer)
    trainer.judged_otherwise = True
    FinalReport().after_train(trainer)
    assert sorted(folder.name for folder in (tmp_path / "eval").iterdir()) == ["final", "final-2"]
    assert not any("finished already" in line for line in said)


def test_a_run_ends_with_the_two_numbers_of_the_best(tmp_path, said, monkeypatch):
    def not_again(self, trainer, content):
        raise AssertionError("the last validation was of the best weights")

    monkeypatch.setattr(FinalReport, "evaluate", not_again)
    FinalReport().after_train(finished(tmp_path, best_epoch=7, evaluator_epoch=6))
    assert [line.split(":")[0] for line in said[-2:]] == ["escapes", "false alarms"] and "1 of 50" in said[-2]
    assert "best top1 0.9000 in epoch 7" in said


def test_an_earlier_best_is_evaluated_anew(tmp_path, monkeypatch):
    again = []
    monkeypatch.setattr(FinalReport, "evaluate", lambda self, trainer, content: again.append(content))
    monkeypatch.setattr("dao.checkpoints.checkpoint.load_everywhere", lambda path: path.name)
    FinalReport().after_train(finished(tmp_path, best_epoch=3, evaluator_epoch=6))
    assert again == ["best.ckpt"]


def test_the_metric_that_the_user_keeps_the_best_by_is_on_the_epochs_line():
    evaluator = SimpleNamespace(headline=lambda metrics: "top1 0.9000")
    trainer = SimpleNamespace(best_metric="factory/auroc", metrics={"factory/auroc": 0.98765}, evaluator=evaluator)
    assert Evaluate()._chosen(trainer) == "factory/auroc 0.9877  "
    trainer.best_metric = "top1"
    assert Evaluate()._chosen(trainer) == ""


@pytest.fixture
def log():
    lines = []
    sink = logger.add(lambda m: lines.append((m.record["level"].name, m.record["message"])), level="DEBUG")
    yield lines
    logger.remove(sink)


def test_an_operating_point_is_told_with_who_set_it_and_without_what_is_not_set():
    point = {"bad_classes": ["dent"], "threshold": 0.2, "class_thresholds": {"dent": 0.4, "hole": 0.25}, "min_area": 30,
             "pixel_threshold": None, "set_by": {"threshold": "evaluator.kwargs.threshold"}}  # fmt: skip
    assert judged_at(point) == (
        "judged at threshold 0.2 (evaluator.kwargs.threshold), class_thresholds dent 0.4 and hole 0.25, min_area 30"
    )
    assert (
        judged_at({"bad_classes": ["dent"], "class_thresholds": {}}) == "judged at the defaults: no threshold was set"
    )


@pytest.mark.parametrize(
    ("metric", "value", "level"), [("top1", 0.0, "WARNING"), ("top1", 0.3, "SUCCESS"), ("escape_rate", 0.0, "SUCCESS")]
)
def test_a_best_of_nothing_is_no_success(log, metric, value, level):
    say_best({"metric": metric, "value": value, "epoch": 3.0}, ClsEvaluator(["ok", "dent"]))
    assert [line[0] for line in log] == [level] and f"best {metric} {value:.4f} in epoch 3" in log[0][1]


def test_a_picture_too_many_that_cannot_be_read_is_named_once_with_what_to_do(log):
    bad = BadPictures(total=13, max_fraction=0.01)
    with pytest.raises(DataError) as refused:
        bad.add_one(Unreadable("a.png", 0, "it is damaged"))
    bad.summary()
    assert log == [] and str(refused.value).count("a.png") == 1
    assert "--check looks at all and lists them" in str(refused.value) and "trainer.kwargs.max_bad_fraction" in str(
        refused.value
    )
    some = BadPictures(total=13, max_fraction=0.1)
    some.add_one(Unreadable("a.png", 0, "it is damaged"))
    some.summary()
    assert [line[0] for line in log] == ["WARNING", "WARNING"]
