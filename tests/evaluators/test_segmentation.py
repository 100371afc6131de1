"""Metrics of masks against torchmetrics, against literal slow versions, and against what an inspector would count."""

import csv
import json
import math
from itertools import product

import numpy as np
import pytest
import torch

from dao.answers.peaks import region_peak
from dao.errors import ConfigError, DataError, RunError
from dao.evaluators import defects, pixels
from dao.evaluators.segmentation import SegEvaluator
from dao.structures import Batch, Prediction

CLASSES = ["background", "scratch", "dent", "never"]


def prediction(mask, confidence=0.9, path="p.png"):
    defect_map = np.where(mask > 0, confidence, 1 - confidence).astype(np.float32)
    scores = np.array([0.5] * len(CLASSES), np.float32)
    return Prediction(path=path, original_hw=mask.shape, scores=scores, mask=mask, defect_map=defect_map)


def evaluate(pairs, **kwargs):
    evaluator = SegEvaluator(CLASSES, **kwargs)
    for index, (truth, said) in enumerate(pairs):
        batch = Batch(torch.zeros(1), [truth], [f"{index}.png"], [index], [truth.shape])
        evaluator.update([prediction(said, path=f"{index}.png")], batch)
    return evaluator, evaluator.compute()


def random_pairs(count=5, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        hw = rng.integers(20, 40, 2)
        truth = rng.integers(0, 3, hw).astype(np.uint8)
        truth[rng.random(hw) < 0.1] = 255
        yield truth, rng.integers(0, 3, hw).astype(np.uint8)


def test_pixel_metrics_equal_torchmetrics():
    from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassJaccardIndex

    pairs = list(random_pairs())
    metrics = evaluate(pairs)[1]
    options = {"num_classes": 4, "ignore_index": 255}
    jaccard = MulticlassJaccardIndex(average=None, **options)
    accuracy = MulticlassAccuracy(average="micro", **options)
    table = MulticlassConfusionMatrix(**options)
    for truth, said in pairs:
        for metric in (jaccard, accuracy, table):
            metric.update(torch.from_numpy(said.astype(np.int64)), torch.from_numpy(truth.astype(np.int64)))
    ious = jaccard.compute()
    for k, name in enumerate(CLASSES[:3]):
        assert metrics[f"per_class/{name}/iou"] == pytest.approx(float(ious[k]), abs=1e-6)
        assert metrics[f"per_class/{name}/dice"] == pytest.approx(float(2 * ious[k] / (1 + ious[k])), abs=1e-6)
    assert math.isnan(metrics["per_class/never/iou"])
    assert metrics["miou"] == pytest.approx(float(ious[:3].mean()), abs=1e-6)
    assert metrics["foreground/miou"] == pytest.approx(float(ious[1:3].mean()), abs=1e-6)
    assert metrics["pixel_accuracy"] == pytest.approx(float(accuracy.compute()), abs=1e-6)
    summed = sum(pixels.confusion(truth, said, 4) for truth, said in pairs)
    assert np.array_equal(summed, table.compute().numpy())


def slow_boundary(truth, said, k, tolerance):
    """Counted pixel by pixel."""

    def edge(mask):
        h, w = mask.shape
        inside = [(y, x) for y, x in product(range(h), range(w)) if mask[y, x] == k]
        steps = ((0, 1), (1, 0), (0, -1), (-1, 0))
        return [
            (y, x)
            for y, x in inside
            if any(0 <= y + dy < h and 0 <= x + dx < w and mask[y + dy, x + dx] != k for dy, dx in steps)
        ]

    a, b = edge(said), edge(truth)

    def close(p, others):
        return any(math.dist(p, q) <= tolerance for q in others)

    return [len(a), sum(close(p, b) for p in a), len(b), sum(close(p, a) for p in b)]


def test_boundaries_equal_a_slow_count():
    rng = np.random.default_rng(0)
    truth, said = (np.kron(rng.integers(0, 3, (4, 5)), np.ones((4, 4))).astype(np.uint8) for _ in range(2))
    counts = pixels.boundary_counts(truth, said, 4, 1.5)
    for k in range(4):
        assert counts[k].tolist() == slow_boundary(truth, said, k, 1.5)
    perfect = pixels.boundary_f1(pixels.boundary_counts(truth, truth, 4, 1.0))
    assert np.allclose(perfect[:3], 1) and math.isnan(perfect[3])


def scene(*squares, hw=(60, 80)):
    mask = np.zeros(hw, np.uint8)
    for kind, y, x, side in squares:
        mask[y : y + side, x : x + side] = kind
    return mask


def test_an_inspectors_counts():
    truth = scene((1, 5, 5, 8), (2, 30, 30, 10), (1, 50, 70, 2))
    #           found as its kind, found as another kind, alarm, speck; the 2 x 2 defect is below min_area
    said = scene((1, 5, 5, 6), (1, 30, 30, 10), (2, 5, 60, 4), (2, 50, 5, 2))
    counted = defects.count(truth, said, prediction(said).defect_map, min_area=5, min_overlap=0.1)
    assert [(d.label, d.area, d.found, d.right_kind) for d in counted.defects] == [
        (1, 64, True, True),
        (2, 100, True, False),
    ]
    assert counted.alarms == 1
    assert counted.alarms_at[defects.THRESHOLDS == 0.85] == 1 and counted.alarms_at[-1] == 0
    assert all(d.score == pytest.approx(0.9) for d in counted.defects)


def test_a_defect_is_found_by_its_share():
    truth, said = scene((1, 10, 10, 10)), np.zeros((60, 80), np.uint8)
    said[10, 10:19] = 1  # nine of a hundred pixels
    for share, found in ((0.09, True), (0.1, False)):
        (defect,) = defects.count(truth, said, prediction(said).defect_map, 5, share).defects
        assert defect.found is found and defect.score == pytest.approx(0.9 if found else 0.1)


def test_alarms_on_unlabelled_pixels_prove_nothing():
    truth, said = scene(), scene((1, 10, 10, 8))
    truth[5:20, 5:20] = 255
    assert defects.count(truth, said, prediction(said).defect_map, 5, 0.1).alarms == 0


@pytest.mark.parametrize(("known", "alarms"), [(4, 0), (5, 1)])
def test_a_region_that_reaches_into_unlabelled_pixels_counts_by_its_labelled_ones_for_alarm_verdict_and_curve(
    known, alarms
):
    """It used to be no alarm, as it touches what nobody knows, and a false alarm on the picture all the same."""
    truth, said = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8)
    truth[:, 10:], said[3, 10 - known : 20] = 255, 1
    evaluator, metrics = evaluate([(truth, said)])
    (row,) = evaluator.all_rows
    assert row.counted.alarms == alarms == metrics["defects/false_alarms"] and row.called_bad == bool(alarms)
    between = (evaluator.levels > 0.2) & (evaluator.levels < 0.85)  # `evaluate` gives called pixels 0.9, others 0.1
    assert set(row.counted.alarms_at[between].tolist()) == {alarms}


def test_a_border_left_open_round_a_defect_belongs_to_it_so_what_is_called_beyond_is_no_alarm():
    truth, said = scene((1, 10, 10, 12)), scene((1, 6, 6, 20))
    truth[8:24, 8:24][scene((1, 10, 10, 12))[8:24, 8:24] == 0] = 255
    assert defects.count(truth, said, prediction(said).defect_map, 5, 0.1).alarms == 0


def test_the_curve_gives_the_best_recall_within_the_alarms():
    scores, alarms = np.array([0.95, 0.5, 0.05]), np.zeros(len(defects.THRESHOLDS), int)
    alarms[defects.THRESHOLDS < 0.4] = 3
    curve = defects.froc(scores, alarms, pictures=10)
    recall, threshold = curve.best_at(0.1)
    assert recall == pytest.approx(2 / 3) and 0.4 <= threshold <= 0.5
    assert curve.best_at(0.3)[0] == 1.0


def test_verdicts_on_pictures():
    clean, bad = scene(), scene((1, 10, 10, 8))
    evaluator, metrics = evaluate([(clean, clean), (bad, bad), (bad, clean), (clean, bad)])
    assert metrics["escape_rate"] == 0.5 and metrics["false_alarm_rate"] == 0.5 and metrics["factory/auroc"] == 0.5
    assert metrics["defects/recall"] == 0.5 and metrics["defects/false_alarms_per_picture"] == 0.25
    assert "found 1 of 2 defects  escapes 1 of 2" in evaluator.headline(metrics)


def test_one_hot_pixel_does_not_make_a_score():
    heat = np.zeros((20, 20), np.float32)
    heat[3, 3] = 1.0
    heat[10, 10:15] = 0.4
    assert region_peak(heat, 5) == pytest.approx(0.4) and region_peak(heat, 1) == 1.0


def test_processes_together_count_as_one(monkeypatch):
    from dao.evaluators import segmentation

    pairs = list(random_pairs(7))
    whole, expected = evaluate(pairs)
    parts = []
    for rank in range(3):
        part = SegEvaluator(CLASSES)
        for index in range(rank, 7, 3):
            truth, said = pairs[index]
            batch = Batch(torch.zeros(1), [truth], [f"{index}.png"], [index], [truth.shape])
            part.update([prediction(said, path=f"{index}.png")], batch)
        parts.append(part)
    gathered = [(p.rows, p.confusion, p.boundary, p.unlabelled) for p in parts]
    monkeypatch.setattr(segmentation.dist, "all_gather_object", lambda mine: gathered)
    found = parts[0].compute()
    assert json.dumps(found) == json.dumps(expected)
    assert [row.path for row in parts[0].all_rows] == [row.path for row in whole.all_rows]


def test_only_the_worst_masks_are_kept():
    pairs = [(scene((1, 10, 10, 8)), scene((1, 10, 10 + i % 9, 8))) for i in range(60)]
    evaluator, _ = evaluate(pairs, worst=4)
    kept = [row for row in evaluator.all_rows if row.masks]
    assert 4 <= len(kept) <= 16
    assert {row.index for row in sorted(evaluator.all_rows, key=lambda row: row.rank)[:4]} <= {
        row.index for row in kept
    }


def test_the_report_has_all_its_files(tmp_path):
    import cv2

    pairs = [
        (scene((1, 10, 10, 8)), scene((1, 12, 10, 8), (2, 40, 40, 5))),
        (scene(), scene()),
        (scene((2, 5, 5, 20)), scene()),
    ]
    evaluator = SegEvaluator(CLASSES)
    for index, (truth, said) in enumerate(pairs):
        path = str(tmp_path / f"{index}.png")
        cv2.imwrite(path, np.full((*truth.shape, 3), 120, np.uint8))
        batch = Batch(torch.zeros(1), [truth], [path], [index], [truth.shape])
        evaluator.update([prediction(said, path=path)], batch)
    evaluator.compute()
    files = {path.name for path in evaluator.report(tmp_path / "report")}
    assert files == {
        "metrics.json", "per_class.csv", "pictures.csv", "confusion_matrix.csv", "confusion_matrix_rates.csv",
        "confusion_matrix.png", "defects_vs_false_alarms.png", "escape_vs_false_alarm.png", "worst.png",
    }  # fmt: skip
    content = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert content["per_class"]["never"]["iou"] is None and content["defects"]["recall"]["total"] == 2
    rows = (tmp_path / "report" / "pictures.csv").read_text().splitlines()
    assert len(rows) == 4 and rows[1].split(",")[1] == "scratch"


def test_pictures_without_truth_are_counted_apart():
    evaluator = SegEvaluator(CLASSES)
    evaluator.update([prediction(scene())], Batch(torch.zeros(1), [None], ["a"], [0], [(60, 80)]))
    metrics = evaluator.compute()
    assert metrics == {"pictures": 0.0, "unlabelled": 1.0}
    assert "0 pictures" in evaluator.headline(metrics)


def test_metric_names_do_not_take_a_picture_of_the_least_area():
    assert SegEvaluator(CLASSES, min_area=10**9).metric_names() == SegEvaluator(CLASSES).metric_names()


def test_metric_names_are_those_computed():
    evaluator, metrics = evaluate([(scene((1, 10, 10, 8)), scene((1, 10, 10, 8))), (scene(), scene())])
    assert set(metrics) <= set(SegEvaluator(CLASSES).metric_names()) and evaluator.best_metric in metrics


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(DataError, match="pixels"):
        evaluate([(scene(), scene(hw=(61, 80)))])
    bad = prediction(scene())
    bad.scores[1] = np.nan
    with pytest.raises(RunError, match="not finite"):
        SegEvaluator(CLASSES).update([bad], Batch(torch.zeros(1), [scene()], ["a"], [0], [(60, 80)]))
    with pytest.raises(ConfigError, match="min_area"):
        SegEvaluator(CLASSES, min_area=0)


def test_unlabelled_pixels_make_no_verdict_on_a_picture():
    truth, said = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    truth[:, 10:], said[5:15, 12:18] = 255, 1  # called where nothing is known
    evaluator, metrics = evaluate([(truth, said), (np.full((9, 9), 255, np.uint8), np.ones((9, 9), np.uint8))])
    assert metrics["pictures"] == 1 and metrics["unlabelled"] == 1
    (row,) = evaluator.all_rows
    assert not row.bad and not row.called_bad and row.score == pytest.approx(0.1)
    said[5:15, 2:6] = 1  # and where it is
    (row,) = evaluate([(truth, said)])[0].all_rows
    assert row.called_bad and row.score == pytest.approx(0.9)


def test_a_mark_smaller_than_min_area_makes_no_picture_bad():
    truth, said = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    truth[3, 3:5] = 1
    for min_area, bad in ((5, 0), (2, 1)):
        details = evaluate([(truth, said)], min_area=min_area)[0].details
        assert details["factory"]["escape_rate"]["total"] == details["defects"]["recall"]["total"] == bad
        assert details["factory"]["escape_rate"]["count"] == bad


def test_a_picture_of_small_marks_alone_is_told_as_undecided_with_its_marks_and_not_as_a_good_part(tmp_path):
    speck = np.zeros((20, 20), np.uint8)
    speck[3, 3:5] = 2
    evaluator, _ = evaluate(
        [(speck, speck * 0), (speck * 0, speck * 0), (np.full((9, 9), 255, np.uint8),) * 2], min_area=5
    )
    evaluator.report(tmp_path)
    rows = list(csv.DictReader((tmp_path / "pictures.csv").open()))
    assert [(row["marked"], row["is_bad"], row["called_bad"], row["mistake"]) for row in rows] == [
        (CLASSES[2], "", "0", "undecided"), ("", "0", "0", "")
    ]  # fmt: skip
    first, second = json.loads((tmp_path / "metrics.json").read_text())["notes"][:2]
    assert first.startswith("1 picture with nothing but marks smaller than min_area: 0.png. Neither good nor bad")
    assert "from 5 pixels on, which evaluator.kwargs.min_area sets" in first
    assert second == "1 picture without a labelled pixel in the mask: counted nowhere"


def test_mistakes_stand_in_the_table_of_pictures(tmp_path):
    bad, good = scene((1, 10, 10, 8)), scene()
    evaluator, _ = evaluate([(bad, good), (good, bad), (bad, bad)])
    evaluator.report(tmp_path)
    rows = list(csv.DictReader((tmp_path / "pictures.csv").open()))
    assert [row["mistake"] for row in rows] == ["escape", "false alarm", ""]
