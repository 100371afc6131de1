"""What the worst-N sheets say of a picture: true class, said class, the numbers that they are sorted by."""

import numpy as np
import pytest

from dao.drawing.anomaly import OUTLINE
from dao.evaluators import anomaly_report, seg_report
from dao.evaluators.anomaly import _small_maps
from dao.evaluators.classification import ClsEvaluator, Results
from dao.evaluators.defects import Counted, TrueDefect
from dao.evaluators.report import worst_order, worst_words
from dao.evaluators.segmentation import PictureRow
from dao.structures import AnomalyTruth, Prediction


def results(scores, said, truth):
    scores, eye = np.array(scores, np.float32), np.eye(len(scores[0]), dtype=bool)
    return Results([f"{i}.png" for i in range(len(scores))], scores, eye[truth], np.ones(len(scores), bool), eye[said])


def test_a_classifiers_lines_are_the_classes_each_with_its_score():
    known = results([[0.2, 0.7, 0.1]], said=[1], truth=[0])
    words = worst_words(ClsEvaluator(["good", "dent", "hole"]), known, 0, badness=0.78)
    assert words == ("said dent: score 0.70", "is good: score 0.20")


def test_badness_and_its_threshold_are_named_where_they_and_not_the_highest_score_had_the_say():
    evaluator = ClsEvaluator(["good", "dent"])
    evaluator.model_facts = {"threshold": 0.3}
    words = worst_words(evaluator, results([[0.6, 0.4]], said=[1], truth=[0]), 0, badness=0.4)
    assert words == ("said dent: score 0.40", "is good: score 0.60", "badness 0.400, bad from 0.3")


def test_the_order_is_that_of_the_number_that_is_shown():
    known = results([[0.1, 0.5, 0.4], [0.05, 0.15, 0.8], [0.9, 0.1, 0.0], [0.4, 0.3, 0.3]], [1, 2, 0, 0], [0, 1, 0, 0])
    order, wrong = worst_order(known)
    assert (order.tolist(), wrong) == ([0, 1, 3, 2], 2)  # true classes: 0.1, 0.15 wrong; 0.4, 0.9 right


def row(defects=(), alarms=0, undecided=False, iou=0.0):
    counted = Counted(list(defects), alarms, np.zeros(1, np.int32), undecided)
    return PictureRow(0, "a.png", bool(defects), False, 0.25, iou, 9, counted, (1,) if undecided else ())


def defect(label, found):
    return TrueDefect(label=label, area=9, found=found, right_kind=found, score=0.5)


@pytest.mark.parametrize(
    ("picture", "called", "expected"),
    [
        (row([defect(2, True), defect(1, False)], 1, iou=0.123), [1, 2],
         ("said scratch, dent: score 0.25", "is scratch, dent", "IoU 0.12, found 1 of 2 defects, 1 false alarm")),
        (row([defect(1, False)]), [], ("said good: score 0.25", "is scratch", "IoU 0.00, found 0 of 1 defect")),
        (row(alarms=2), [2], ("said dent: score 0.25", "is good", "IoU 0.00, 2 false alarms")),
        (row(undecided=True, iou=1.0), [], ("said good: score 0.25", "is scratch below min_area", "IoU 1.00")),
    ],
)  # fmt: skip
def test_a_segmentations_lines_are_the_classes_said_and_marked_and_how_they_fit(picture, called, expected):
    mask = np.zeros((4, 4), np.uint8)
    mask[0, : len(called)] = called
    assert seg_report.worst_words(picture, ["background", "scratch", "dent"], mask) == expected


@pytest.mark.parametrize(
    ("mask", "bad", "truth"),
    [
        (None, True, "bad, no mask given"), (np.zeros((300, 300), bool), True, "bad, its mask marks nothing"),
        (np.zeros((300, 300), bool), False, None), (None, False, None),
    ],
)  # fmt: skip
def test_the_truth_of_a_bad_part_without_a_mask_is_said_in_words(mask, bad, truth):
    """And a good part is shown as it is, whether or not it has a mask."""
    image, heat = np.full((300, 300, 3), 90, np.uint8), np.zeros((300, 300), np.float32)
    prediction = Prediction("a.png", (300, 300), anomaly_map=heat)
    maps = [anomaly_report.from_png(data) for data in _small_maps(prediction, AnomalyTruth("dent", bad, mask))]
    small, shown, _ = anomaly_report.worst_views(image, *maps, bad)
    assert shown == truth if truth else (shown == small).all()


def test_a_hair_of_a_defect_is_marked_on_the_small_picture():
    image, mask = np.full((2000, 2000, 3), 90, np.uint8), np.zeros((2000, 2000), bool)
    mask[701, 100:1500] = True
    prediction = Prediction("a.png", mask.shape, anomaly_map=np.zeros(mask.shape, np.float32))
    maps = [anomaly_report.from_png(data) for data in _small_maps(prediction, AnomalyTruth("dent", True, mask))]
    _, shown, _ = anomaly_report.worst_views(image, *maps, True)
    assert (shown == OUTLINE).all(2).sum() > 200  # above and below it
