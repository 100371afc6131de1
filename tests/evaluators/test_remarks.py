"""A rate of 0 % that could not have been another carries its warning: log line, log, report, plot."""

import json
from dataclasses import asdict

import cv2
import numpy as np
import pytest
from loguru import logger

from dao.evaluators import remarks
from dao.evaluators.anomaly import AnomalyEvaluator
from dao.evaluators.classification import ClsEvaluator
from dao.evaluators.detection import DetEvaluator
from dao.evaluators.factory import wilson
from dao.evaluators.segmentation import SegEvaluator
from dao.structures import AnomalyTruth, Batch, GroundTruth, Prediction


def rates(escapes, bad, alarms, good):
    return {"escape_rate": asdict(wilson(escapes, bad)), "false_alarm_rate": asdict(wilson(alarms, good))}


@pytest.mark.parametrize(
    ("counts", "short", "sentence"),
    [
        ((0, 30, 0, 0), "no good part in the set", "a model that calls everything bad would have none"),
        ((0, 0, 0, 30), "no bad part in the set", "a model that calls everything good would have none"),
        ((0, 30, 30, 30), "every part was called bad", "that none escapes is no finding"),
        ((30, 30, 0, 30), "every part was called good", "that there is no false alarm is no finding"),
    ],
)
def test_a_rate_that_could_not_have_been_another_is_no_finding(counts, short, sentence):
    found = rates(*counts)
    assert f"(no finding: {short})" in remarks.rates_text(found)
    (said,) = remarks.of_rates(found)
    assert sentence in said


@pytest.mark.parametrize("counts", [(0, 30, 0, 30), (1, 30, 30, 30), (30, 30, 1, 30), (0, 30, 29, 30)])
def test_a_rate_that_means_something_is_left_alone(counts):
    assert "no finding" not in remarks.rates_text(rates(*counts)) and remarks.of_rates(rates(*counts)) == []


def test_fewer_than_twenty_parts_are_warned_of_with_what_zero_percent_may_be():
    said = remarks.of_rates(rates(0, 7, 0, 20))
    assert len(said) == 1 and "only 7 bad parts" in said[0]
    assert f"up to {100 * 3.8416 / (7 + 3.8416):.0f} %" in said[0]  # Wilson's bound for 0 of n: z^2 / (n + z^2)
    assert "only 1 good part:" in remarks.of_rates(rates(1, 40, 0, 1))[0]


# -- all four tasks: everything bad, among good parts; and no good part at all -----------------------------------------


def classified(truth, called, tmp_path):
    evaluator = ClsEvaluator(["ok", "bad"], worst=0)
    scores = [np.array([1 - c, c], np.float32) for c in called]
    predictions = [Prediction(path="p", original_hw=(8, 8), scores=s, label=int(s.argmax())) for s in scores]
    return evaluator, predictions, np.array(truth)


def boxed(truth, called, tmp_path):
    box, none = np.array([[1, 1, 6, 6]], np.float32), np.zeros((0, 4), np.float32)

    def labels(boxes):
        return np.zeros(len(boxes), np.int64)

    predictions = []
    for c in called:
        boxes = box if c else none
        scores = np.ones(len(boxes), np.float32)
        predictions.append(Prediction("p", (8, 8), boxes_xyxy=boxes, box_labels=labels(boxes), box_scores=scores))
    truths = [GroundTruth(b, labels(b), labels(b) > 0) for b in (box if t else none for t in truth)]
    return DetEvaluator(["dent"], worst=0), predictions, truths


def masked(truth, called, tmp_path):
    def mask(bad):
        return np.pad(np.full((4, 4), bad, np.uint8), 2)

    predictions = [
        Prediction("p", (8, 8), scores=np.ones(2, np.float32), mask=mask(c), defect_map=mask(c).astype(np.float32))
        for c in called
    ]
    return SegEvaluator(["background", "dent"], worst=0), predictions, [mask(t) for t in truth]


def strange(truth, called, tmp_path):
    grey = np.zeros((8, 8), np.float32)
    predictions = [
        Prediction(
            "p", (8, 8), label=int(c), anomaly_map=grey, anomaly_score=float(c), raw_map=grey, raw_score=float(c)
        )
        for c in called
    ]
    truths = [AnomalyTruth(("good", "dent")[t], bool(t)) for t in truth]
    return AnomalyEvaluator(["good", "bad"], worst=0, pixels=False), predictions, truths


@pytest.mark.parametrize("task", [classified, boxed, masked, strange])
@pytest.mark.parametrize(
    ("truth", "called", "short"),
    [
        ([1] * 20, [1] * 20, "no good part in the set"),
        ([1] * 20 + [0] * 20, [1] * 40, "every part was called bad"),
        ([1] * 20 + [0] * 20, [0] * 40, "every part was called good"),
        ([0] * 20, [0] * 20, "no bad part in the set"),
        ([1] * 20 + [0] * 20, [1] * 20 + [0] * 20, ""),
    ],
)
def test_escapes_and_false_alarms_carry_their_warning_in_every_task(task, truth, called, short, tmp_path):
    import torch

    evaluator, predictions, truths = task(truth, called, tmp_path)
    count = len(truth)
    targets = torch.from_numpy(truths) if isinstance(truths, np.ndarray) else truths
    images, paths = torch.zeros(count, 1, 1, 1), [str(tmp_path / "gone.png")] * count
    evaluator.update(predictions, Batch(images, targets, paths, list(range(count)), [(8, 8)] * count))
    headline = evaluator.headline(evaluator.compute())
    log = []
    sink = logger.add(log.append, level="WARNING")
    try:
        evaluator.report(tmp_path)
    finally:
        logger.remove(sink)
    notes = json.loads((tmp_path / "metrics.json").read_text())["notes"]
    if not short:
        assert "no finding" not in headline and notes == []
        return
    assert f"(no finding: {short})" in headline
    assert len(notes) == 1 and "is no finding" in notes[0] and any(notes[0] in line for line in log)


def test_a_classifier_without_a_known_good_class_says_why_it_counts_no_escapes(feed, tmp_path):
    evaluator = feed(ClsEvaluator(["scratch", "dent"], worst=0), [[0.9, 0.1], [0.2, 0.8]], [0, 1])
    evaluator.compute()
    evaluator.report(tmp_path)
    (note,) = json.loads((tmp_path / "metrics.json").read_text())["notes"]
    assert "no class is known to mean a good part" in note and "scratch, dent" in note
    assert "evaluator.kwargs.good" in note and "evaluator.kwargs.positive" in note


def test_what_the_trainers_noted_stays_beside_it(feed, tmp_path):
    evaluator = feed(ClsEvaluator(["scratch", "dent"], worst=0), [[0.9, 0.1], [0.2, 0.8]], [0, 1])
    evaluator.notes = ("judged by its own pictures",)
    evaluator.compute()
    evaluator.report(tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["notes"][0] == "judged by its own pictures"


@pytest.mark.parametrize("task", [classified, boxed, masked, strange])
def test_the_worst_sheet_of_every_task_calls_an_escape_and_a_false_alarm_by_their_names(task, tmp_path, monkeypatch):
    import torch

    from dao.drawing import sheet
    from dao.drawing.plates import NG, OK

    drawn, whole = [], sheet.contact_sheet
    monkeypatch.setattr(sheet, "contact_sheet", lambda cells, **kwargs: drawn.extend(cells) or whole(cells, **kwargs))
    truth, called = [1, 0, 1, 0], [0, 1, 1, 0]
    evaluator, predictions, truths = task(truth, called, tmp_path)
    evaluator.worst = 4
    for number, prediction in enumerate(predictions):
        prediction.path = str(tmp_path / f"{number}.png")
        cv2.imwrite(prediction.path, np.full((8, 8, 3), 90, np.uint8))
    targets, paths = (
        torch.from_numpy(truths) if isinstance(truths, np.ndarray) else truths,
        [p.path for p in predictions],
    )
    evaluator.update(predictions, Batch(torch.zeros(4, 1, 1, 1), targets, paths, list(range(4)), [(8, 8)] * 4))
    evaluator.compute()
    evaluator.report(tmp_path / "report")
    words = {cell.name: (cell.plate.word, cell.plate in (OK, NG)) for cell in drawn}
    expected = {"0.png": "ESCAPE", "1.png": "FALSE ALARM", "2.png": "NG", "3.png": "OK"}
    assert {"0.png", "1.png"} <= set(words) and words == {name: (expected[name], False) for name in words}
