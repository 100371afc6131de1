import numpy as np

from dao.evaluators.counts import confusion, macro, ranks_of


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
