"""The marked operating point lies exactly on its curve: verdict and curve count by one rule, in every task."""

import cv2
import numpy as np
import pytest
import torch

from dao.answers.peaks import region_peak
from dao.answers.verdicts import class_map, defect_probability, large_regions
from dao.evaluators import box_counts, defects, factory
from dao.evaluators.anomaly import AnomalyEvaluator
from dao.evaluators.classification import ClsEvaluator
from dao.evaluators.coco_ap import PictureBoxes
from dao.evaluators.detection import DetEvaluator
from dao.evaluators.segmentation import SegEvaluator
from dao.structures import AnomalyTruth, Batch, GroundTruth, Prediction
from dao.tasks.classification import ClassificationTask

HW = (32, 40)


def feed(evaluator, predictions, targets):
    count = len(predictions)
    paths = [f"{i}.png" for i in range(count)]
    evaluator.update(predictions, Batch(torch.zeros(count, 1, 1, 1), targets, paths, list(range(count)), [HW] * count))
    return evaluator.compute()


def on_curve(scores, bad, rates):
    """Whether some threshold's counts are those of the verdicts."""
    here = (rates["escape_rate"]["value"], rates["false_alarm_rate"]["value"])
    curve = factory.curve(scores, bad)
    return here in set(zip(curve.escape.tolist(), curve.false_alarm.tolist()))


def smooth(rng, strength):
    noise = cv2.GaussianBlur(rng.normal(0, 1, HW).astype(np.float32), (0, 0), 2)
    return (1 / (1 + np.exp(-strength * noise / noise.std() + 2))).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.73])
def test_of_a_classifier_with_several_kinds_of_defect(threshold):
    """At 0.5 the label is the likeliest class; at another threshold it follows the verdict."""
    rng = np.random.default_rng(0)
    evaluator = ClsEvaluator(["good", "scratch", "dent"], threshold=threshold)
    evaluator.model_facts = {"bad_classes": ["scratch", "dent"], "threshold": threshold, "class_thresholds": {}}
    scores, truth = rng.dirichlet([1.2, 1, 1], 80).astype(np.float32), rng.integers(0, 3, 80)
    from dao.tasks.base import ModelCard

    card = ModelCard("cls", evaluator.classes, {}, {"multi_label": False, **evaluator.model_facts})
    predictions = ClassificationTask.decode({"scores": scores}, card, [HW] * 80)
    feed(evaluator, predictions, torch.from_numpy(truth))
    assert ((scores.argmax(1) == 0).sum() == sum(p.label == 0 for p in predictions)) == (threshold == 0.5)
    assert on_curve(*evaluator.scored(), evaluator.details["factory"])


def masks(count, threshold, min_area, seed=0, own=None):
    """Probabilities of two kinds of defect, answered as the task does, and truths, some of specks alone."""
    rng, predictions, truths = np.random.default_rng(seed), [], []
    for _ in range(count):
        strength = rng.uniform(0.5, 2)
        first, second = smooth(rng, strength) * 0.6, smooth(rng, strength) * 0.4
        probabilities = np.stack([1 - first - second, first, second])
        mask = large_regions(class_map(probabilities, threshold, own or {}), min_area)
        predictions.append(Prediction("p", HW, scores=probabilities.max((1, 2)), mask=mask,
                                      defect_map=defect_probability(probabilities, own or {})))  # fmt: skip
        truth = np.zeros(HW, np.uint8)
        for kind, side in ((1, 7), (2, 5), (1, 2)):
            if rng.random() < 0.4:
                y, x = rng.integers(0, HW[0] - side), rng.integers(0, HW[1] - side)
                truth[y : y + side, x : x + side] = kind
        truth[:3, :3] = 255 if rng.random() < 0.3 else truth[:3, :3]
        truths.append(truth)
    return predictions, truths


@pytest.mark.parametrize(("threshold", "own"), [(0.5, None), (0.37, None), (0.2, None), (0.4, {2: 0.25})])
def test_of_masks_both_of_pictures_and_of_defects(threshold, own):
    min_area = 9
    evaluator = SegEvaluator(["background", "scratch", "dent"], min_area=min_area, threshold=threshold)
    feed(evaluator, *masks(40, threshold, min_area, own=own))
    assert on_curve(*evaluator.scored(), evaluator.details["factory"])
    here, curve = evaluator.details["defects"], evaluator.froc
    (place,) = np.flatnonzero(curve.levels == threshold)
    assert curve.recall[place] == here["recall"]["value"]
    assert curve.alarms_per_picture[place] == here["false_alarms_per_picture"]
    assert 0 < here["recall"]["value"] < 1 and here["false_alarms"] > 0


@pytest.mark.parametrize("own", [None, {"dent": 0.8}, {"dent": 0.2}])
def test_of_boxes_both_of_pictures_and_of_boxes(own):
    rng = np.random.default_rng(3)
    evaluator = DetEvaluator(["scratch", "dent"], score=0.4, class_thresholds=own)
    predictions, truths = [], []
    for _ in range(40):
        count = int(rng.integers(0, 3))
        corner = rng.uniform(0, 20, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(6, 12, (count, 2))], axis=1).astype(np.float32)
        labels = rng.integers(0, 2, count)
        truths.append(GroundTruth(boxes, labels, np.zeros(count, bool)))
        found = np.concatenate([boxes + rng.normal(0, 1, boxes.shape), [[1, 1, 9, 9]]]).astype(np.float32)
        scores = (rng.integers(0, 10, count + 1) / 10).astype(np.float32)  # with ties
        predictions.append(
            Prediction("p", HW, boxes_xyxy=found, box_labels=np.append(labels, rng.integers(0, 2)), box_scores=scores)
        )
    feed(evaluator, predictions, truths)
    assert on_curve(*evaluator.scored(), evaluator.details["factory"])
    here = evaluator.details["at_score"]
    _, hits, alarms = box_counts.curve(evaluator.matches, 40, evaluator.own)
    assert (here["recall"]["count"], here["false_alarms_per_picture"]) in set(zip(hits.tolist(), alarms.tolist()))


def test_of_maps_of_strangeness():
    rng = np.random.default_rng(4)
    evaluator, grey = AnomalyEvaluator(["good", "bad"], pixels=False, worst=0), np.zeros(HW, np.float32)
    raw = rng.gamma(2, 1, 60).astype(np.float32)
    predictions = [
        Prediction(
            "p", HW, label=int(x >= 2), anomaly_map=grey, anomaly_score=float(x / 4), raw_map=grey, raw_score=float(x)
        )
        for x in raw
    ]
    truths = [AnomalyTruth(("good", "dent")[int(b)], bool(b)) for b in rng.random(60) < 0.3]
    feed(evaluator, predictions, truths)
    assert on_curve(*evaluator.scored(), evaluator.details["factory"])


# -- what is below min_area ----------------------------------------------------------------------------------------


def slow_count(truth, called, min_area, min_overlap):
    """Found defects, all of them, alarms, and whether the picture is called bad, by the words of the rule, pixel by pixel."""

    def parts(mask):
        left, found = {tuple(p) for p in np.argwhere(mask)}, []
        while left:
            todo, part = [left.pop()], []
            while todo:
                y, x = todo.pop()
                part.append((y, x))
                near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
                left -= near
                todo += near
            found.append(set(part))
        return found

    known = [part for part in parts(called & (truth != 255)) if len(part) >= min_area]
    said = [part for part in parts(called) if any(one <= part for one in known)]
    inside = set().union(*said) if said else set()
    marked = {tuple(p) for p in np.argwhere((truth > 0) & (truth != 255))}
    true = [part for k in (1, 2) for part in parts(truth == k) if len(part) >= min_area]
    found = sum(len(part & inside) >= max(1, np.ceil(min_overlap * len(part))) for part in true)
    return found, len(true), sum(not part & marked for part in said), bool(known)


@pytest.mark.parametrize("seed", [0, 1])
def test_defects_and_alarms_at_every_threshold_equal_a_slow_count(seed):
    levels = np.array([0.1, 0.3, 0.5, 0.7])
    for prediction, truth in zip(*masks(6, 0.5, 9, seed)):
        counted = defects.count(truth, prediction.mask, prediction.defect_map, 9, 0.3, levels)
        for row, level in enumerate(levels):
            found, total, alarms, bad = slow_count(truth, prediction.defect_map >= level, 9, 0.3)
            assert (sum(d.score >= level for d in counted.defects), len(counted.defects)) == (found, total)
            assert counted.alarms_at[row] == alarms
            assert (region_peak(np.where(truth == 255, np.float32(0), prediction.defect_map), 9) >= level) == bad
        found, _, alarms, _ = slow_count(truth, prediction.mask > 0, 9, 0.3)
        assert (sum(d.found for d in counted.defects), counted.alarms) == (found, alarms)


def test_a_found_defect_below_min_area_is_no_false_alarm_and_its_picture_no_good_part():
    speck, nothing, said = np.zeros(HW, np.uint8), np.zeros(HW, np.uint8), np.zeros(HW, np.uint8)
    speck[5:7, 5:7], said[4:9, 4:9] = 1, 1
    evaluator = SegEvaluator(["background", "scratch"], min_area=5)
    answers = [
        Prediction("p", HW, scores=np.ones(2, np.float32), mask=m, defect_map=m.astype(np.float32))
        for m in (said, nothing)
    ]
    metrics = feed(evaluator, answers, [speck, nothing])
    assert metrics["defects/false_alarms"] == 0
    rates = evaluator.details["factory"]
    assert rates["false_alarm_rate"]["count"] == 0 and rates["false_alarm_rate"]["total"] == 1
    assert rates["undecided_pictures"] == 1 and rates["escape_rate"]["total"] == 0


def test_a_picture_of_boxes_below_the_score_is_counted_once():
    """The step curve ends ties together: no point of it lies between boxes of one score."""
    flags, label = np.zeros(1, bool), np.zeros(1, np.int64)
    box = np.array([[0, 0, 10, 10]], np.float32)
    found = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    picture = PictureBoxes(
        "", HW, GroundTruth(box, label, flags), found, np.zeros(2, int), np.array([0.5, 0.5], np.float32)
    )
    matches = box_counts.tabulate([picture], [box_counts.pair(picture, 0.5)])
    scores, hits, alarms = box_counts.curve(matches, 1)
    assert scores.tolist() == [0.5] and hits.tolist() == [1] and alarms.tolist() == [1.0]
