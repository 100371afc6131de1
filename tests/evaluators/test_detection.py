"""Metrics of boxes against another way to the same number, and against what an inspector would count."""

import csv
import json
import math

import cv2
import numpy as np
import pytest
import torch

from dao.errors import ConfigError, DataError, RunError
from dao.evaluators import box_counts, detection, detection_worst
from dao.evaluators.coco_ap import PictureBoxes, precision
from dao.evaluators.detection import DetEvaluator
from dao.structures import Batch, GroundTruth, Prediction

CLASSES = ["scratch", "dent", "never"]


def truth(*rows, ignore=()):
    """Rows of (label, left, top, right, bottom)."""
    flags = np.array([i in ignore for i in range(len(rows))], bool)
    boxes = np.array([row[1:] for row in rows], np.float32).reshape(-1, 4)
    return GroundTruth(boxes, np.array([row[0] for row in rows], np.int64), flags)


def said(*rows, path="p.png"):
    """Rows of (label, score, left, top, right, bottom)."""
    return Prediction(
        path=path,
        original_hw=(100, 200),
        boxes_xyxy=np.array([row[2:] for row in rows], np.float32).reshape(-1, 4),
        box_labels=np.array([row[0] for row in rows], np.int64),
        box_scores=np.array([row[1] for row in rows], np.float32),
    )


def evaluate(pairs, **kwargs):
    evaluator = DetEvaluator(CLASSES, **kwargs)
    feed(evaluator, range(len(pairs)), pairs)
    return evaluator, evaluator.compute()


def feed(evaluator, indices, pairs):
    for index in indices:
        given, predicted = pairs[index]
        predicted.path = f"{index}.png"
        evaluator.update([predicted], Batch(torch.zeros(1), [given], [predicted.path], [index], [(100, 200)]))


def random_pairs(count=8, seed=0):
    """True boxes, and found ones: most of them moved a little, some elsewhere, some of another class."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        corners = rng.uniform(0, 60, (rng.integers(0, 5), 2))
        boxes = np.concatenate([corners, corners + rng.uniform(8, 35, corners.shape)], axis=1)
        labels = rng.integers(0, 2, len(boxes))
        found = [
            (int(k), rng.random(), *(box + rng.normal(0, 2, 4))) for k, box in zip(labels, boxes) if rng.random() < 0.9
        ]
        found += [(int(rng.integers(0, 2)), rng.random(), 120, 10, 140, 30)] * int(rng.integers(0, 2))
        pairs.append((truth(*((int(k), *box) for k, box in zip(labels, boxes))), said(*found)))
    return pairs


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, 0) * max(height, 0)
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def slow_ap(pairs, label, threshold):
    """COCO's 101-point interpolation, written out box by box."""
    found = sorted(
        ((score, i, box) for i, (_, p) in enumerate(pairs) for k, score, box in zip(p.box_labels, p.box_scores, p.boxes_xyxy) if k == label),
        key=lambda row: -row[0],
    )  # fmt: skip
    left = {i: [box for k, box in zip(t.labels, t.boxes_xyxy) if k == label] for i, (t, _) in enumerate(pairs)}
    total, hits, curve = sum(map(len, left.values())), 0, []
    for rank, (_, i, box) in enumerate(found, start=1):
        overlaps = [iou(box, other) for other in left[i]]
        if overlaps and max(overlaps) >= threshold:
            left[i].pop(int(np.argmax(overlaps)))
            hits += 1
        curve.append((hits / total, hits / rank))
    points = [max((p for r, p in curve if r >= level - 1e-12), default=0.0) for level in np.linspace(0, 1, 101)]
    return float(np.mean(points))


def test_average_precision_equals_a_slow_count():
    pairs = random_pairs()
    metrics = evaluate(pairs, extra_iou=[0.33])[1]
    for iou_threshold, name in ((0.5, "ap50"), (0.75, "ap75"), (0.33, "ap33")):
        slow = [slow_ap(pairs, label, iou_threshold) for label in range(2)]
        assert metrics[f"per_class/scratch/{name}"] == pytest.approx(slow[0], abs=1e-9)
        assert metrics[name] == pytest.approx(np.mean(slow), abs=1e-9)
    slow = [slow_ap(pairs, label, level) for level in np.arange(0.5, 1.0, 0.05).round(2) for label in range(2)]
    assert metrics["ap"] == pytest.approx(np.mean(slow), abs=1e-9)
    assert math.isnan(metrics["per_class/never/ap"])


def test_small_medium_and_large_go_by_the_true_area():
    pairs = [(truth((0, 0, 0, 20, 20), (0, 30, 0, 80, 50)), said((0, 0.9, 0, 0, 20, 20)))]
    metrics = evaluate(pairs)[1]
    assert metrics["ap_small"] == pytest.approx(1) and metrics["ap_medium"] == 0 and math.isnan(metrics["ap_large"])


def scene():
    """Two found (one twice), one taken for the other class, one missed, one alarm; a good picture with an alarm below the score."""
    return [
        (
            truth((0, 0, 0, 20, 20), (1, 40, 0, 60, 20), (0, 80, 0, 100, 20), (1, 120, 0, 140, 20)),
            said((0, 0.9, 0, 0, 20, 20), (0, 0.8, 1, 0, 21, 20), (1, 0.7, 40, 0, 60, 20), (1, 0.6, 80, 0, 100, 20), (0, 0.5, 160, 0, 180, 20)),
        ),
        (truth(), said((1, 0.2, 0, 0, 10, 10))),
    ]  # fmt: skip


def test_an_inspectors_counts():
    evaluator, metrics = evaluate(scene(), score=0.3)
    counts = evaluator.details["at_score"]
    assert (counts["boxes"], counts["missed"], counts["false_alarms"]) == (4, 2, 3)
    assert counts["recall"]["value"] == 0.5 and counts["precision"]["value"] == pytest.approx(2 / 5)
    assert metrics["at_score/false_alarms_per_picture"] == 1.5
    table = np.array(evaluator.details["confusion_matrix"])
    # the third true box was called a dent; its found box and the second copy of the first are what is left over
    assert table[0].tolist() == [1, 1, 0, 0] and table[1].tolist() == [0, 1, 0, 1] and table[3].tolist() == [2, 0, 0, 0]
    assert evaluator.details["best_f1"] == {"f1": pytest.approx(4 / 7), "score": pytest.approx(0.7)}
    assert evaluator.details["per_class"]["dent"]["missed"] == 1


def test_whole_pictures():
    evaluator, metrics = evaluate([*scene(), (truth((0, 0, 0, 9, 9)), said())], score=0.3)
    assert metrics["escape_rate"] == 0.5 and metrics["false_alarm_rate"] == 0.0
    assert metrics["factory/auroc"] == 0.5
    assert "found 2 of 5 defects  escapes 1 of 2  false alarms 0 of 1" in evaluator.headline(metrics)


def test_ignored_boxes_are_neither_found_nor_missed():
    given = truth((0, 0, 0, 20, 20), (0, 50, 0, 100, 50), ignore=(1,))
    pairs = [(given, said((0, 0.9, 0, 0, 20, 20), (0, 0.8, 60, 10, 80, 30)))]  # the second lies inside the ignored one
    evaluator, metrics = evaluate(pairs)
    counts = evaluator.details["at_score"]
    assert metrics["ap50"] == pytest.approx(1) and (counts["boxes"], counts["missed"], counts["false_alarms"]) == (
        1,
        0,
        0,
    )
    only_ignored = [(truth((0, 0, 0, 20, 20), ignore=(0,)), said())]
    assert evaluate(only_ignored)[0].details["factory"]["bad_pictures"] == 0


@pytest.mark.parametrize("world", [2, 3, 9])
def test_processes_together_count_as_one(monkeypatch, world):
    """Also where there are more processes than pictures, and one has seen none."""
    pairs = random_pairs(7)
    expected = evaluate(pairs)[1]
    parts = [DetEvaluator(CLASSES) for _ in range(world)]
    for rank, part in enumerate(parts):
        feed(part, range(rank, 7, world), pairs)
    monkeypatch.setattr(detection.dist, "all_gather_object", lambda mine: [part._rows for part in parts])
    for part in (parts[0], parts[-1]):
        assert json.dumps(part.compute()) == json.dumps(expected)


def test_chunks_in_any_order_equal_one():
    pairs = random_pairs(7)
    other = DetEvaluator(CLASSES)
    for chunk in ((4, 5, 6), (0, 2), (3, 1)):
        feed(other, chunk, pairs)
    assert json.dumps(other.compute()) == json.dumps(evaluate(pairs)[1])


@pytest.mark.parametrize(
    "pairs", [[(truth(), said())], [(truth((0, 1, 1, 9, 9)), said())], [(truth(), said((0, 0.9, 1, 1, 9, 9)))]]
)
def test_sets_without_boxes_or_answers_are_evaluated(pairs, tmp_path):
    evaluator, metrics = evaluate(pairs)
    assert metrics["pictures"] == 1 and evaluator.headline(metrics)
    assert (tmp_path / "r" / "metrics.json") in evaluator.report(tmp_path / "r")


def test_metric_names_are_those_computed():
    metrics = evaluate(random_pairs(), extra_iou=[0.33])[1]
    names = DetEvaluator(CLASSES, extra_iou=[0.33]).metric_names()
    assert set(metrics) <= set(names) and DetEvaluator(CLASSES).best_metric in metrics


def test_the_report_has_all_its_files(tmp_path):
    pairs = random_pairs()
    evaluator = DetEvaluator(CLASSES)
    for index, (given, predicted) in enumerate(pairs):
        predicted.path = str(tmp_path / f"{index}.png")
        cv2.imwrite(predicted.path, np.full((100, 200, 3), 120, np.uint8))
        evaluator.update([predicted], Batch(torch.zeros(1), [given], [predicted.path], [index], [(100, 200)]))
    evaluator.compute()
    names = {path.name for path in evaluator.report(tmp_path / "report")}
    assert names >= {
        "metrics.json", "per_class.csv", "boxes.csv", "confusion_matrix.csv", "confusion_matrix.png",
        "precision_recall.png", "recall_vs_false_alarms.png", "escape_vs_false_alarm.png", "worst.png",
    }  # fmt: skip
    content = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert content["per_class"]["never"]["ap"] is None
    lines = (tmp_path / "report" / "boxes.csv").read_text().splitlines()
    found, missed = sum(len(p.box_scores) for _, p in pairs), evaluator.details["at_score"]["missed"]
    assert len(lines) == 1 + found + missed


def test_what_cannot_be_evaluated_is_refused():
    with pytest.raises(RunError, match="not finite"):
        evaluate([(truth(), said((0, float("nan"), 0, 0, 1, 1)))])
    with pytest.raises(DataError, match="class 7 of 3 classes, which count from 0"):
        evaluate([(truth((7, 0, 0, 1, 1)), said())])
    with pytest.raises(DataError, match="no boxes to compare with"):
        DetEvaluator(CLASSES).update([said()], Batch(torch.zeros(1), None, ["a"], [0], [(1, 1)]))
    with pytest.raises(ConfigError, match=r"evaluator\.kwargs\.iou"):
        DetEvaluator(CLASSES, iou=0.0)


def test_a_picture_has_no_more_boxes_counted_than_allowed():
    boxes = [(0, 1 - i / 100, 10 * i, 0, 10 * i + 8, 8) for i in range(10)]
    picture = said(*boxes)
    given = truth(*((k, *box) for k, _, *box in boxes))
    row = PictureBoxes("p", (100, 200), given, picture.boxes_xyxy, picture.box_labels, picture.box_scores)
    assert precision([row], 1, max_detections=5).ap([0.5]) == pytest.approx(51 / 101)
    assert precision([row], 1).ap([0.5]) == pytest.approx(1)


def test_confused_boxes_are_paired_once_each():
    overlap = np.array([[0.9, 0.8], [0.85, 0.1]])
    assert box_counts.confused_pairs(overlap, 0.5) == [(0, 0)]
    assert box_counts.confused_pairs(np.array([[0.6, 0.9], [0.7, 0.8]]), 0.5) == [(0, 1), (1, 0)]


def test_without_any_picture_there_is_nothing_to_say():
    empty = DetEvaluator(CLASSES)
    assert empty.compute() == {"pictures": 0.0} and "0 pictures" in empty.headline({"pictures": 0.0})


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"score": 0.0}, "score: expected above 0, at most 1; got 0"),
        ({"extra_iou": [0.33, 33]}, "extra_iou: expected above 0, at most 1; got 33"),
        ({"max_detections": 0}, "max_detections: expected 1 or more"),
        ({"worst": -1}, "worst: expected 0 or more"),
    ],
)
def test_refused_settings(kwargs, words):
    found = [f"{p.where}: {p.what}" for p in DetEvaluator.check_config(kwargs, "here")]
    assert len(found) == 1 and words in found[0]


def test_tables_by_hand(tmp_path):
    evaluator, _ = evaluate(scene(), score=0.3)
    files = {path.name: path for path in evaluator.report(tmp_path)}
    matrix = list(csv.reader(files["confusion_matrix.csv"].open()))
    assert matrix[0][1:] == [*CLASSES, "background"] and matrix[1] == ["scratch", "1", "1", "0", "0"]
    rows = list(csv.DictReader(files["boxes.csv"].open()))
    missed = [row for row in rows if row["verdict"] == "missed"]
    assert [(row["class"], row["left"], row["score"]) for row in missed] == [("scratch", "80", ""), ("dent", "120", "")]
    per_class = {row["class"]: row for row in csv.DictReader(files["per_class.csv"].open())}
    assert per_class["never"]["recall"] == "-" and float(per_class["dent"]["recall"]) == 0.5


def test_worst_pictures_come_first():
    """The most mistakes, then the surest false alarms; those without a mistake last."""
    alarm = said((0, 0.9, 0, 0, 9, 9)), said((0, 0.5, 0, 0, 9, 9))
    pairs = [(truth(), said()), (truth(), alarm[1]), (truth((0, 0, 0, 9, 9)), said()), (truth(), alarm[0]), scene()[0]]
    evaluator, _ = evaluate(pairs, score=0.3)
    order, wrong = detection_worst.worst_order(evaluator.pictures, evaluator.pairings, 0.3)
    assert (order, wrong) == ([4, 3, 1, 2, 0], 4)


def test_truth_and_answer_are_drawn_beside_each_other_in_the_colours_of_the_legend():
    evaluator, _ = evaluate(scene(), score=0.3)
    picture, pairing, report = evaluator.pictures[0], evaluator.pairings[0], detection_worst
    there, answer = report.verdict_views(np.full((100, 200, 3), 90, np.uint8), picture, pairing, CLASSES, 0.3)
    scale = there.shape[1] / 200
    for view, left, colour in ((there, 40, report.FOUND), (there, 120, report.MISSED), (answer, 160, report.ALARM)):
        row, edge = view[round(14 * scale)], round(left * scale)
        beside = {tuple(int(v) for v in pixel) for pixel in row[edge - 8 : edge + 1]}  # frames lie outside their box
        assert colour in beside, (left, beside)
    assert not (answer == report.MISSED).all(2).any() and not (there == report.ALARM).all(2).any()


def test_the_worst_sheet_says_in_words_what_was_found():
    pairs = [*scene(), (truth(), said((0, 0.9, 0, 0, 9, 9))), (truth((0, 0, 0, 9, 9)), said((0, 0.9, 0, 0, 9, 9)))]
    evaluator, _ = evaluate(pairs, score=0.3)
    words = [detection_worst.worst_words(*both, 0.3) for both in zip(evaluator.pictures, evaluator.pairings)]
    assert words == [
        "found 2 of 4 defects, 3 false alarms", "is good", "is good, 1 false alarm", "found 1 of 1 defect",
    ]  # fmt: skip
