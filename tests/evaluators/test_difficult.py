"""VOC's difficult objects by VOC's rule, in counts and in AP, against the rule of its development kit written out; and
COCO's small, medium, large by the area that the annotations state."""

import numpy as np
import pytest
import torch

from dao.evaluators import box_counts
from dao.evaluators.coco_ap import PictureBoxes, precision
from dao.evaluators.detection import DetEvaluator
from dao.structures import Batch, GroundTruth, Prediction

NONE = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)


def scene(rng):
    """Ordinary objects apart from each other, difficult ones anywhere, and boxes found on either or on nothing."""
    slots = np.array([(x, y) for x in (0, 60, 120) for y in (0, 60)], float)
    ordinary = slots[rng.permutation(6)[: rng.integers(0, 5)]] + rng.uniform(0, 8, 2)
    ordinary = np.concatenate([ordinary, ordinary + rng.uniform(20, 40, ordinary.shape)], axis=1)
    corner = rng.uniform(0, 120, (rng.integers(0, 4), 2))
    difficult = np.concatenate([corner, corner + rng.uniform(15, 60, corner.shape)], axis=1)
    if len(ordinary) and len(difficult):  # one that lies almost where an ordinary one does
        difficult[0] = ordinary[0] + rng.normal(0, 4, 4)
    true = np.concatenate([ordinary, difficult])
    flags = np.arange(len(true)) >= len(ordinary)
    near = [box + rng.normal(0, 3, 4) for box in true for _ in range(rng.integers(0, 3))]
    inside = [np.array([*box[:2] + 2, *box[:2] + 9]) for box in difficult]  # a crowd would swallow these
    found = np.array([*near, *inside, [150, 100, 170, 120]], np.float32)
    labels, said = rng.integers(0, 2, len(true)), rng.integers(0, 2, len(found))
    truth = GroundTruth(true.astype(np.float32), labels, flags, None, flags if flags.any() else None)
    scores = np.sort(rng.permutation(1000)[: len(found)].astype(np.float32) / 1000)[::-1].copy()
    return PictureBoxes("", (200, 200), truth, found, said, scores)


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, 0) * max(height, 0)
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def devkit(pictures, label, threshold):
    """VOCevaldet: score and "hit", "alarm" or "ignored" of every found box of a class, best first; objects that count."""
    rows, detected = [], set()
    for score, n, box in sorted(
        ((s, n, b) for n, p in enumerate(pictures) for s, b, k in zip(p.scores, p.boxes_xyxy, p.labels) if k == label),
        key=lambda row: -row[0],
    ):
        truth, best, at = pictures[n].truth, -np.inf, -1
        for j in np.flatnonzero(truth.labels == label):
            if iou(box.astype(float), truth.boxes_xyxy[j].astype(float)) > best:
                best, at = iou(box.astype(float), truth.boxes_xyxy[j].astype(float)), j
        if best < threshold:
            rows.append((score, "alarm"))
        elif truth.ignore[at]:
            rows.append((score, "ignored"))
        else:
            rows.append((score, "alarm" if (n, at) in detected else "hit"))
            detected.add((n, at))
    return rows, sum(int(((p.truth.labels == label) & ~p.truth.ignore).sum()) for p in pictures)


def interpolated(rows, total):
    """COCO's mean precision at 101 points of recall."""
    hits, curve = 0, []
    for rank, (_, verdict) in enumerate((row for row in rows if row[1] != "ignored"), start=1):
        hits += verdict == "hit"
        curve.append((hits / total, hits / rank))
    return np.mean([max((p for r, p in curve if r >= level - 1e-12), default=0.0) for level in np.linspace(0, 1, 101)])


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(5)
    return [scene(rng) for _ in range(40)]


@pytest.mark.parametrize("threshold", [0.5, 0.75])
def test_counts_of_difficult_objects_equal_the_development_kits(threshold, pictures):
    matches = box_counts.tabulate(pictures, [box_counts.pair(p, threshold) for p in pictures])
    for label in (0, 1):
        rows, total = devkit(pictures, label, threshold)
        for score in (0.0, 0.3, 0.6):
            kinds = [verdict for s, verdict in rows if s >= score]
            found = box_counts.at_score(matches, score, len(pictures), label)
            assert found["boxes"] == total and found["false_alarms"] == kinds.count("alarm")
            assert found["missed"] == total - kinds.count("hit")
        assert min(kinds.count(k) for k in ("hit", "alarm", "ignored")) > 0


def test_average_precision_with_difficult_objects_equals_the_development_kits_matches(pictures):
    found = precision(pictures, 2)
    for label in (0, 1):
        for threshold in (0.5, 0.6, 0.75):
            slow = interpolated(*devkit(pictures, label, threshold))
            assert found.ap([threshold], label) == pytest.approx(slow, abs=1e-9)


def test_a_box_within_a_difficult_object_is_a_false_alarm_and_within_a_crowd_none():
    large, inside = np.array([[0, 0, 100, 100]], np.float32), np.array([[10, 10, 20, 20]], np.float32)
    flag, label = np.array([True]), np.array([0])
    for difficult, verdict in ((flag, box_counts.FALSE_ALARM), (None, box_counts.IGNORED)):
        truth = GroundTruth(large, label, flag, None, difficult)
        pairing = box_counts.pair(PictureBoxes("", (100, 100), truth, inside, label, np.ones(1, np.float32)), 0.5)
        assert pairing.verdict.tolist() == [verdict]


# -- sizes and numbers -------------------------------------------------------------------------------------------------


def perfect(count, side=8.0, area=None):
    """A picture full of objects of one class, all of them found."""
    corners = np.array([(x, y) for x in range(0, 400, 20) for y in range(0, 400, 20)], np.float32)[:count]
    boxes = np.concatenate([corners, corners + side], axis=1).astype(np.float32)
    labels, scores = np.zeros(count, np.int64), np.linspace(0.9, 0.5, count).astype(np.float32)
    areas = None if area is None else np.full(count, area)
    truth = GroundTruth(boxes, labels, np.zeros(count, bool), areas)
    return truth, Prediction("p.png", (400, 400), boxes_xyxy=boxes, box_labels=labels, box_scores=scores)


def evaluated(pairs, facts=None, **kwargs):
    evaluator = DetEvaluator(["hole"], **kwargs)
    evaluator.model_facts = facts or {}
    for index, (truth, prediction) in enumerate(pairs):
        evaluator.update([prediction], Batch(torch.zeros(1), [truth], ["p.png"], [index], [(400, 400)]))
    return evaluator, evaluator.compute()


def test_small_medium_and_large_go_by_the_area_that_the_file_states():
    """A long thin scratch: its box is 200 x 200, its mask 900 pixels: small, as COCO has it."""
    corner, label = np.array([[100, 100, 300, 300]], np.float32), np.zeros(1, np.int64)
    said = Prediction("p", (400, 400), boxes_xyxy=corner, box_labels=label, box_scores=np.ones(1, np.float32))
    for area, size in ((np.array([900.0]), "small"), (np.array([9000.0]), "medium"), (None, "large")):
        metrics = evaluated([(GroundTruth(corner, label, label > 0, area), said)])[1]
        values = {name: metrics[f"ap_{name}"] for name in ("small", "medium", "large")}
        assert values.pop(size) == 1.0 and all(np.isnan(value) for value in values.values())


def test_250_objects_in_a_picture_and_a_perfect_answer():
    """COCO counts the best 100 of a class: 41 of its 101 points of recall are reached, which is 0.406."""
    evaluator, metrics = evaluated([perfect(250)], {"max_detections": 300})
    assert metrics["ap"] == 1.0 and metrics["ap_coco"] == pytest.approx(41 / 101)
    assert not any("more objects" in note for note in evaluator.remarks())
    assert set(metrics) <= set(evaluator.metric_names()) and evaluator.mode_of("ap_coco") == "max"


@pytest.mark.parametrize(
    ("facts", "kwargs"), [({}, {}), ({"max_detections": 300}, {"max_detections": 100}), ({"max_detections": 100}, {})]
)
def test_more_objects_than_are_counted_are_said(facts, kwargs):
    evaluator, metrics = evaluated([perfect(250), perfect(101), perfect(100)], facts, **kwargs)
    assert metrics["ap"] == metrics["ap_coco"] < 1
    (note,) = [note for note in evaluator.remarks() if "more objects" in note]
    assert note.startswith("2 pictures hold more objects of a class (up to 250) than the 100 best boxes")
    assert "evaluator.kwargs.max_detections" in note
