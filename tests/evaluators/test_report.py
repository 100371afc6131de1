import csv
import json

import cv2
import numpy as np
import pytest
from sklearn import metrics as sk

from dao.errors import RunError
from dao.evaluators.classification import ClsEvaluator, Results
from dao.evaluators.confusion import confusion_png, row_rates
from dao.evaluators.report import worst_order

CLASSES = ["good", "dent", "höhle", "never", "stain"]


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def report(feed, answers, tmp_path):
    """(folder, evaluator, files) of a report over 200 pictures that lie on disk."""
    scores, labels = answers
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(200):
        cv2.imwrite(str(pictures / f"{i:03d}.png"), np.full((10, 14, 3), i, np.uint8))
    evaluator = feed(ClsEvaluator(classes=CLASSES), scores, labels, folder=str(pictures))
    evaluator.compute()
    return tmp_path / "eval", evaluator, evaluator.report(tmp_path / "eval")


def test_files_are_what_was_returned(report):
    folder, _, files = report
    assert set(files) == set(folder.iterdir())
    assert {f.name for f in files} == {
        "metrics.json", "per_class.csv", "confusion_matrix.csv", "confusion_matrix_rates.csv", "confusion_matrix.png",
        "predictions.csv", "worst.png", "escape_vs_false_alarm.png",
    }  # fmt: skip
    for path in folder.glob("*.png"):
        assert cv2.imread(str(path)).std() > 10  # something is drawn


def test_json_is_strict_and_has_counts_intervals_and_nulls(report):
    folder, evaluator, _ = report

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    content = json.loads((folder / "metrics.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert content["classes"] == CLASSES and content["pictures"] == 200
    top1 = content["top1"]
    assert top1["low"] < top1["value"] == top1["count"] / 200 < top1["high"]
    assert content["per_class"]["never"]["recall"] is None
    assert np.sum(content["confusion_matrix"]) == 200
    assert [row["max_false_alarm"] for row in content["factory"]["escape_at_false_alarm"]] == [0.005, 0.01, 0.02, 0.05]


def test_predictions_give_every_number_again(report, answers):
    folder, evaluator, _ = report
    scores, labels = answers
    head, *rows = table(folder / "predictions.csv")
    assert head == ["path", "label", "predicted", "correct", *(f"score_{name}" for name in CLASSES)]
    assert [row[0][-7:] for row in rows] == [f"{i:03d}.png" for i in range(200)]
    assert np.array_equal(np.array([row[4:] for row in rows], np.float32), scores)
    assert [row[1] for row in rows] == [CLASSES[k] for k in labels]
    assert [row[2] for row in rows] == [CLASSES[k] for k in scores.argmax(1)]
    assert np.mean([int(row[3]) for row in rows]) == evaluator.details["top1"]["value"]


def test_tables(report, answers):
    folder, _, _ = report
    scores, labels = answers
    counts = sk.confusion_matrix(labels, scores.argmax(1), labels=range(5))
    head, *rows = table(folder / "confusion_matrix.csv")
    assert head[1:] == CLASSES and [row[0] for row in rows] == CLASSES
    assert [[int(cell) for cell in row[1:]] for row in rows] == counts.tolist()
    rates = {row[0]: row[1:] for row in table(folder / "confusion_matrix_rates.csv")}
    assert rates["never"] == ["-"] * 5
    assert [float(x) for x in rates["dent"]] == pytest.approx(counts[1] / counts[1].sum(), abs=1e-6)
    per_class = {row[0]: row[1:] for row in table(folder / "per_class.csv")}
    assert per_class["never"][0] == "0" and per_class["never"][2:] == ["-"] * 4
    assert int(per_class["dent"][0]) == (labels == 1).sum()


def test_unlabelled_pictures_are_in_the_table_alone(feed, tmp_path):
    evaluator = feed(ClsEvaluator(classes=["good", "b"]), [[0.9, 0.1], [0.4, 0.6]], None)
    evaluator.compute()
    files = evaluator.report(tmp_path / "eval")
    assert [f.name for f in files] == ["metrics.json", "predictions.csv"]
    assert [row[1:4] for row in table(files[1])[1:]] == [["", "good", ""], ["", "b", ""]]


def test_several_labels_are_joined(feed, tmp_path):
    truth = np.array([[1, 1], [0, 0], [0, 1]], np.float32)
    evaluator = feed(ClsEvaluator(classes=["a", "b"]), [[0.9, 0.8], [0.6, 0.1], [0.2, 0.7]], truth)
    evaluator.compute()
    names = {f.name for f in evaluator.report(tmp_path / "eval")}
    assert names == {"metrics.json", "predictions.csv", "per_class.csv"}
    rows = table(tmp_path / "eval" / "predictions.csv")[1:]
    assert [row[1:4] for row in rows] == [["a;b", "a;b", "1"], ["", "a", "0"], ["b", "b", "1"]]


def test_worst_are_the_surest_of_the_wrong_then_the_least_sure():
    scores = np.array([[0.6, 0.4], [0.1, 0.9], [0.9, 0.1], [0.45, 0.55], [0.3, 0.7]], np.float32)
    truth = np.eye(2, dtype=bool)[[1, 0, 0, 1, 0]]  # wrong: 0 (0.6), 1 (0.9), 4 (0.7)
    order, wrong = worst_order(
        Results([""] * 5, scores, truth, np.ones(5, bool), np.eye(2, dtype=bool)[scores.argmax(1)])
    )
    assert (order.tolist(), wrong) == ([1, 4, 0, 3, 2], 3)


def test_pictures_that_went_missing_do_not_stop_the_report(feed, answers, tmp_path):
    evaluator = feed(ClsEvaluator(classes=CLASSES), *answers, folder=str(tmp_path / "gone"))
    evaluator.compute()
    names = {f.name for f in evaluator.report(tmp_path / "eval")}
    assert "worst.png" not in names and "confusion_matrix.png" in names


def test_rates_of_an_empty_row():
    assert row_rates(np.array([[3, 1], [0, 0]])) == [[0.75, 0.25], ["-", "-"]]


def test_confusion_picture_of_very_many_classes(tmp_path):
    path = confusion_png(tmp_path / "m.png", [f"class {i}" for i in range(250)], np.eye(250, dtype=np.int64))
    assert max(cv2.imread(str(path)).shape) < 3200


def test_folder_that_cannot_be_made(feed, answers, tmp_path):
    (tmp_path / "file").write_text("")
    evaluator = feed(ClsEvaluator(classes=CLASSES), *answers)
    evaluator.compute()
    with pytest.raises(RunError, match="could not be made"):
        evaluator.report(tmp_path / "file" / "eval")


def test_report_needs_compute(feed, answers, tmp_path):
    with pytest.raises(RuntimeError, match="compute"):
        feed(ClsEvaluator(classes=CLASSES), *answers).report(tmp_path)


def test_what_cannot_be_known_is_null(feed, tmp_path):
    """Good parts alone: no escape rate, no AUROC, no curve; and JSON has no NaN."""
    evaluator = feed(ClsEvaluator(classes=["good", "bad"]), [[0.9, 0.1], [0.4, 0.6]], [0, 0])
    evaluator.compute()
    names = {f.name for f in evaluator.report(tmp_path / "eval")}
    text = (tmp_path / "eval" / "metrics.json").read_text()
    rates = json.loads(text)["factory"]
    assert "NaN" not in text and rates["auroc"] is None
    assert rates["escape_rate"] == {"value": None, "low": None, "high": None, "count": 0, "total": 0}
    assert rates["false_alarm_rate"]["value"] == 0.5
    assert "escape_vs_false_alarm.png" not in names
