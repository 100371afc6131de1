import numpy as np
import pytest

from dao.evaluators.counts import areas, confusion, macro, ranks_of


def test_ranks_by_sorting():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (300, 6)).astype(np.float32)  # many ties
    labels = rng.integers(0, 6, 300)
    order = np.argsort(-scores, axis=1, kind="stable")
    assert ranks_of(scores, labels).tolist() == [list(order[i]).index(labels[i]) for i in range(300)]
    assert ((ranks_of(scores, labels) == 0) == (scores.argmax(1) == labels)).all()


def test_equal_scores_are_right_by_chance_only():
    assert ranks_of(np.full((4, 4), 0.25, np.float32), np.arange(4)).tolist() == [0, 1, 2, 3]


def test_confusion_rows_are_the_truth():
    assert confusion(np.array([1, 1, 0]), np.array([0, 1, 0]), 2).tolist() == [[1, 1], [0, 1]]


def test_macro_counts_a_class_never_predicted_as_precision_0():
    empty = dict.fromkeys(("precision", "recall", "f1", "auroc", "average_precision"))
    rows = {
        "a": {**empty, "support": 3, "precision": 0.8, "recall": 1.0},
        "b": {**empty, "support": 2, "recall": 0.0},
        "c": {**empty, "support": 0, "precision": 0.0},
    }
    means = macro(rows)
    assert (means["precision"], means["recall"]) == (0.4, 0.5)
    assert np.isnan(means["auroc"])


def test_average_precision_of_each_class_equals_torchmetrics_ties_and_all():
    import torch
    from torchmetrics.functional.classification import binary_average_precision

    rng = np.random.default_rng(2)
    scores, truth = (rng.integers(0, 12, (60, 5)) / 12).astype(np.float32), rng.random((60, 5)) < 0.2
    truth[:, 4] = False
    found = [areas(scores[:, k], truth[:, k])[1] for k in range(5)]
    for k in range(4):
        expected = binary_average_precision(torch.from_numpy(scores[:, k]), torch.from_numpy(truth[:, k].astype(int)))
        assert found[k] == pytest.approx(float(expected), abs=1e-6)
    assert np.isnan(found[4])


def test_the_area_under_the_receiver_operating_curve_counts_every_pair_and_ties_half():
    rng = np.random.default_rng(3)
    scores, truth = (rng.integers(0, 9, 70) / 9).astype(np.float32), rng.random(70) < 0.3
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[truth] for b in scores[~truth]]
    assert areas(scores, truth)[0] == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    assert np.isnan(areas(scores, truth | True)[0]) and areas(scores, truth | True)[1] == 1
    assert np.isnan(areas(scores, truth & False)).all()
