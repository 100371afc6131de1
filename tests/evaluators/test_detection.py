"""The evaluator of detectors: made of its parts, alone and on many processes, and what it leaves on disk."""

import csv
import json

import cv2
import numpy as np
import pytest
import sklearn.metrics as sk
import torch

from dao.errors import ConfigError, DataError, RunError
from dao.evaluators import detection_report
from dao.evaluators.detection import DetEvaluator
from dao.register import Registers
from dao.structures import Batch, GroundTruth, Prediction
from dao.utils import dist

CLASSES = ["dent", "hole", "never"]
NONE = np.zeros((0, 4), np.float32)


def truth(*rows):
    """Rows of (box, label) or (box, label, ignore)."""
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    ignore = np.array([len(row) > 2 and row[2] for row in rows], bool)
    return GroundTruth(boxes, np.array([row[1] for row in rows], np.int64), ignore)


def said(path, *rows):
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    labels, scores = np.array([row[1] for row in rows], np.int64), np.array([row[2] for row in rows], np.float32)
    return Prediction(path=path, original_hw=(100, 100), boxes_xyxy=boxes, box_labels=labels, box_scores=scores)


A, B, FAR = (0, 0, 10, 10), (20, 20, 60, 60), (70, 70, 90, 90)
PICTURES = [
    (truth((A, 0), (B, 1)), [(B, 1, 0.4), (A, 0, 0.9), (FAR, 1, 0.6)]),
    (truth((A, 0)), [(FAR, 0, 0.2)]),  # escapes at 0.3
    (truth(), [(A, 0, 0.35)]),  # a false alarm
    (truth(), []),
    (truth((A, 1, True)), [(A, 1, 0.95)]),  # nobody knows
    (truth((B, 1)), [(B, 1, 0.8)]),
]


def feed(evaluator, indices=None, folder="p", pictures=PICTURES):
    for index in range(len(pictures)) if indices is None else indices:
        there, rows = pictures[index]
        path = f"{folder}/{index}.png"
        batch = Batch(torch.zeros(1, 3, 1, 1), [there], [path], [index], [(100, 100)])
        evaluator.update([said(path, *rows)], batch)
    return evaluator


@pytest.fixture
def evaluated():
    evaluator = feed(DetEvaluator(CLASSES, extra_iou=[0.33]))
    return evaluator, evaluator.compute()


def test_numbers_by_hand(evaluated):
    evaluator, flat = evaluated
    assert flat["pictures"] == 6 and flat["at_score/boxes"] == 4
    assert flat["at_score/recall"] == pytest.approx(3 / 4) and flat["at_score/missed"] == 1
    assert flat["at_score/false_alarms_per_picture"] == pytest.approx(2 / 6)
    assert flat["per_class/hole/recall"] == 1 and flat["per_class/dent/recall"] == 0.5
    assert flat["best_f1/f1"] == pytest.approx(2 * 3 / (4 + 4)) and flat["best_f1/score"] == pytest.approx(0.4)
    assert (
        flat["ap50"]
        == flat["ap33"]
        == pytest.approx(np.mean([flat["per_class/dent/ap50"], flat["per_class/hole/ap50"]]))
    )
    assert flat["per_class/dent/ap_small"] >= 0 and np.isnan(flat["per_class/never/ap"])


def test_whole_pictures(evaluated):
    evaluator, flat = evaluated
    rates = evaluator.details["factory"]
    assert (rates["bad_pictures"], rates["good_pictures"]) == (3, 2)  # the ignored one is neither
    assert (rates["escape_rate"]["count"], rates["escape_rate"]["total"]) == (1, 3)
    assert (rates["false_alarm_rate"]["count"], rates["false_alarm_rate"]["total"]) == (1, 2)
    assert flat["factory/auroc"] == pytest.approx(sk.roc_auc_score([1, 1, 0, 0, 1], [0.9, 0.2, 0.35, 0, 0.8]))
    line = evaluator.headline(flat)
    assert "ap50 0." in line and "found 75.0 % (3 of 4" in line and "escaped pictures 33.3 %" in line


def test_chunks_in_any_order_equal_one(evaluated):
    evaluator, flat = evaluated
    other = DetEvaluator(CLASSES, extra_iou=[0.33])
    for chunk in ((4, 5), (0, 2), (3, 1)):
        feed(other, chunk)
    assert other.compute() == pytest.approx(flat, nan_ok=True)
    assert [p.path for p in other.pictures] == [p.path for p in evaluator.pictures]


@pytest.mark.parametrize("world", [2, 3, 8])
def test_many_processes_equal_one(evaluated, monkeypatch, world):
    """Every process has its share, some of eight none; what crosses between them is replaced by all their states."""
    _, flat = evaluated
    each = [DetEvaluator(CLASSES, extra_iou=[0.33]) for _ in range(world)]
    for rank, evaluator in enumerate(each):
        feed(evaluator, range(rank, len(PICTURES), world))
    sent = [evaluator._rows for evaluator in each]
    monkeypatch.setattr(dist, "all_gather_object", lambda value: sent)
    for evaluator in (each[0], each[-1]):
        assert evaluator.compute() == pytest.approx(flat, nan_ok=True)


def test_only_boxes_are_kept(evaluated):
    evaluator, _ = evaluated
    assert all(p.boxes_xyxy.nbytes + p.scores.nbytes < 200 for _, p in evaluator._rows)
    evaluator.reset()
    assert feed(evaluator, [1]).compute()["pictures"] == 1


def test_no_picture_and_no_box_at_all():
    empty = DetEvaluator(CLASSES)
    assert empty.compute() == {"pictures": 0.0} and "0 pictures" in empty.headline({"pictures": 0.0})
    nothing = feed(DetEvaluator(CLASSES), pictures=[(truth(), [])] * 6)
    flat = nothing.compute()
    assert np.isnan(flat["ap"]) and "at_score/recall" not in flat and flat["false_alarm_rate"] == 0
    assert "6 pictures" in nothing.headline(flat)


def test_promised_names_hold_what_is_reported(evaluated):
    evaluator, flat = evaluated
    promised = evaluator.metric_names()
    assert set(flat) <= set(promised) and len(promised) == len(set(promised))
    assert evaluator.best_metric in flat and all(type(value) is float for value in flat.values())


@pytest.mark.parametrize(
    ("kwargs", "where", "words"),
    [
        ({"score": 0.0}, "score", "above 0, at most 1"),
        ({"iou": 1.5}, "iou", "got 1.5"),
        ({"extra_iou": [0.33, 33]}, "extra_iou", "got 33"),
        ({"max_detections": 0}, "max_detections", "1 or more"),
        ({"worst": -1}, "worst", "0 or more"),
    ],
)
def test_refused_settings(kwargs, where, words):
    with pytest.raises(ConfigError) as caught:
        Registers.evaluators.build({"type": "DetEvaluator", "kwargs": kwargs}, "evaluator", classes=CLASSES)
    assert caught.value.problems[0].where == f"evaluator.kwargs.{where}" and words in caught.value.problems[0].what


def test_what_is_no_result():
    broken = feed(DetEvaluator(CLASSES), pictures=[(truth(), [(A, 0, np.nan)])] * 6)
    with pytest.raises(RunError, match=r"not finite for 6 of 6 pictures, the first is p/0\.png"):
        broken.compute()
    with pytest.raises(DataError, match=r"p/0\.png: a box is of class 5, but there are 3 classes"):
        feed(DetEvaluator(CLASSES), [0], pictures=[(truth((A, 5)), [])])
    with pytest.raises(DataError, match="no boxes to compare with"):
        DetEvaluator(CLASSES).update([said("a")], Batch(torch.zeros(1, 3, 1, 1), None, ["a"], [0], [(9, 9)]))


# -- on disk -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def reported(tmp_path):
    for index in range(len(PICTURES)):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((100, 100, 3), 90, np.uint8))
    evaluator = feed(DetEvaluator(CLASSES, extra_iou=[0.33]), folder=str(tmp_path))
    evaluator.compute()
    return evaluator, {path.name: path for path in evaluator.report(tmp_path / "report")}


def test_every_file_of_the_report(reported):
    evaluator, files = reported
    assert set(files) == {
        "metrics.json", "per_class.csv", "boxes.csv", "confusion_matrix.csv", "confusion_matrix.png",
        "precision_recall.png", "recall_vs_false_alarms.png", "escape_vs_false_alarm.png", "worst.png",
    }  # fmt: skip
    metrics = json.loads(files["metrics.json"].read_text())
    assert metrics["per_class"]["never"]["ap"] is None  # JSON knows no NaN
    assert metrics["ap33"] == evaluator.details["ap33"] and metrics["classes"] == CLASSES
    assert all(cv2.imread(str(path)) is not None for name, path in files.items() if name.endswith(".png"))


def test_tables(reported):
    _, files = reported
    rows = list(csv.DictReader(files["boxes.csv"].open()))
    assert [row["verdict"] for row in rows].count("missed") == 1 and [row["verdict"] for row in rows].count(
        "ignored"
    ) == 1
    missed = next(row for row in rows if row["verdict"] == "missed")
    assert missed["class"] == "dent" and missed["path"].endswith("1.png") and missed["right"] == "10"
    matrix = list(csv.reader(files["confusion_matrix.csv"].open()))
    assert matrix[0][1:] == [*CLASSES, "background"] and matrix[1] == ["dent", "1", "0", "0", "1"]
    per_class = {row["class"]: row for row in csv.DictReader(files["per_class.csv"].open())}
    assert per_class["never"]["recall"] == "-" and float(per_class["hole"]["recall"]) == 1


def test_worst_pictures_come_first(evaluated):
    evaluator, _ = evaluated
    order, wrong = detection_report.worst_order(evaluator.pictures, evaluator.pairings, evaluator.score)
    assert wrong == 3 and order[:3] == [0, 2, 1]  # one mistake each: the surest false alarm, the other, the missed one


def test_mistakes_are_drawn_in_their_colours(evaluated):
    evaluator, _ = evaluated
    picture, pairing = evaluator.pictures[0], evaluator.pairings[0]
    drawn = detection_report.draw_verdicts(np.full((100, 100, 3), 90, np.uint8), picture, pairing, CLASSES, 0.5)
    scale = detection_report.TILE / 100
    for (left, top, *_), colour in (
        (A, detection_report.FOUND),
        (B, detection_report.MISSED),
        (FAR, detection_report.ALARM),
    ):
        assert tuple(drawn[round(top * scale) + 8, round(left * scale)]) == colour


def test_a_report_without_compute_is_a_bug(tmp_path):
    with pytest.raises(RuntimeError, match="call that first"):
        DetEvaluator(CLASSES).report(tmp_path)
