"""A run that goes on keeps what it had found out, and does what its config sets by hand now."""

import json
from types import SimpleNamespace

import pytest
from loguru import logger

from dao.evaluators.anomaly import AnomalyEvaluator
from dao.models.anomaly.base import AnomalyModel
from dao.preprocess import Preprocess
from dao.tasks.anomaly import AnomalyTask
from dao.trainers import resume
from dao.trainers.evaluation import answering_as_counted

FOUND = {"picture_threshold": 200.0, "picture_typical": 70.0, "pixel_threshold": 100.0, "pixel_typical": 60.0,
         "region_threshold": 190.0, "calibration": "an extreme-value fit"}  # fmt: skip


class Nothing(AnomalyModel):
    def forward(self, images):
        return images, images.amax((1, 2, 3))


def configured(**kwargs):
    """A trainer that was built with these settings of its evaluator, before anything is restored."""
    preprocess = Preprocess(size=(8, 8), mean=[0.0] * 3, std=[1.0] * 3, resize="stretch")
    task = AnomalyTask(Nothing(), preprocess, ["good", "bad"])
    evaluator = AnomalyEvaluator(["good", "bad"], **kwargs)
    return SimpleNamespace(task=answering_as_counted(task, evaluator), evaluator=evaluator)


def resumed(known, **kwargs):
    trainer = configured(**kwargs)
    resume.take_over_facts(trainer, known)
    return trainer


def saved(**kwargs):
    """The facts of a checkpoint of a run with these settings, which has found `FOUND`."""
    return dict(resumed(FOUND, **kwargs).task.facts)


def test_what_training_found_is_taken_over():
    facts = resumed(FOUND).task.facts
    assert {name: facts[name] for name in FOUND} == FOUND and facts["set_by"] == {}


@pytest.mark.parametrize("before", [{}, {"threshold": 150.0}])
def test_a_threshold_that_was_set_by_hand_before_the_resume_wins_over_the_checkpoints(before):
    trainer = resumed(saved(**before), threshold=180.0)
    facts = trainer.task.facts
    assert (facts["picture_threshold"], facts["pixel_threshold"]) == (180.0, 100.0)
    assert facts["region_threshold"] == 170.0  # as far from the picture's as it was
    assert facts["set_by"] == {"picture_threshold": "set by evaluator.kwargs.threshold"}
    assert facts["calibration"].startswith("picture_threshold 180, set by evaluator.kwargs.threshold, not calibrated")
    assert facts["calibration"].endswith("an extreme-value fit") and trainer.evaluator.model_facts == facts


def test_the_same_threshold_again_changes_nothing():
    before = saved(threshold=150.0, pixel_threshold=90.0)
    assert resumed(before, threshold=150.0, pixel_threshold=90.0).task.facts == before
    assert before["pixel_threshold"] == 90.0


def test_a_threshold_below_the_usual_good_part_keeps_the_scale_of_the_checkpoint():
    facts = resumed(saved(), threshold=50.0).task.facts
    assert facts["picture_threshold"] - facts["picture_typical"] == 130


def test_a_threshold_that_is_no_longer_set_is_said_to_stay_until_the_next_calibration():
    lines = []
    sink = logger.add(lambda message: lines.append(str(message)), level="WARNING")
    facts = resumed(saved(threshold=150.0)).task.facts
    logger.remove(sink)
    assert facts["picture_threshold"] == 150.0 and facts["set_by"] == {}  # so that calibration may change it
    assert "picture_threshold is no longer set by hand (150, set by evaluator.kwargs.threshold)" in lines[0]


@pytest.mark.parametrize(
    ("epoch", "owes", "passes", "said"),
    [
        (1, False, None, "resumed from latest.ckpt: epoch 2, iteration 6"),
        (2, False, None, "all its 2 epochs are trained already; to go on, raise trainer.kwargs.max_epochs, e.g. "
         "-o trainer.kwargs.max_epochs=3"),
        (2, True, None, "trained already; what is left is the last validation; to go on"),
        (1, False, 1, "its epoch is trained already, and this model learns no more from another"),
    ],
)  # fmt: skip
def test_a_resumed_run_says_where_it_goes_on_and_a_finished_one_what_to_set(epoch, owes, passes, said):
    trainer = SimpleNamespace(start_epoch=epoch, start_iter=5, max_epochs=passes or 2, owes_end_of_epoch=owes,
                              task=SimpleNamespace(passes=passes))  # fmt: skip
    line = resume.where_it_goes_on(trainer, "latest.ckpt")
    assert said in line and "epoch 3" not in line


def test_a_run_without_an_evaluator_is_resumed_too():
    trainer = configured()
    trainer.evaluator = None
    resume.take_over_facts(trainer, FOUND)
    assert trainer.task.facts["picture_threshold"] == 200.0


@pytest.mark.parametrize(
    ("changes", "otherwise"),
    [
        ({}, False),
        ({"trainer": {"kwargs": {"max_epochs": 9}}}, False),
        ({"evaluator": {"kwargs": {"threshold": 0.4}}}, True),
    ],
)
def test_a_change_of_what_the_report_is_made_by_is_known(changes, otherwise):
    before = {"trainer": {"kwargs": {"max_epochs": 3}}, "evaluator": {"kwargs": {"threshold": 0.5}}}
    trainer = SimpleNamespace(config={**before, **changes})
    changed = resume.say_changes(trainer, {"config": json.dumps(before)})
    assert resume.judged_by(changed) is otherwise
