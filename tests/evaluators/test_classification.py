import json

import numpy as np
import pytest
from sklearn import metrics as sk

from dao.errors import ConfigError, DataError, RunError
from dao.evaluators.classification import ClsEvaluator
from dao.processes import dist
from dao.register import Registers

CLASSES = ["good", "dent", "hole", "never", "stain"]


def test_single_label_equals_sklearn(feed, answers):
    scores, labels = answers
    ours = feed(ClsEvaluator(classes=CLASSES, top_k=[2, 3]), scores, labels).compute()
    said, present = scores.argmax(1), [0, 1, 2, 4]
    options = {"labels": present, "average": "macro", "zero_division": 0}
    hot = np.eye(5)[labels]
    theirs = {
        "top1": sk.accuracy_score(labels, said),
        "top2": sk.top_k_accuracy_score(labels, scores, k=2, labels=range(5)),
        "top3": sk.top_k_accuracy_score(labels, scores, k=3, labels=range(5)),
        "macro/precision": sk.precision_score(labels, said, **options),
        "macro/recall": sk.recall_score(labels, said, **options),
        "macro/f1": sk.f1_score(labels, said, **options),
        "macro/auroc": np.mean([sk.roc_auc_score(hot[:, k], scores[:, k]) for k in present]),
        "map": np.mean([sk.average_precision_score(hot[:, k], scores[:, k]) for k in present]),
    }
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-6)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert ours["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, said))
    assert 0.6 < ours["top1"] < ours["top2"] < 0.99  # answers of which something can be wrong


def test_per_class_and_confusion_equal_sklearn(feed, answers):
    scores, labels = answers
    evaluator = feed(ClsEvaluator(classes=CLASSES), scores, labels)
    evaluator.compute()
    said, rows = scores.argmax(1), evaluator.details["per_class"]
    assert evaluator.details["confusion_matrix"] == sk.confusion_matrix(labels, said, labels=range(5)).tolist()
    theirs = sk.precision_recall_fscore_support(labels, said, labels=range(5), zero_division=0)
    for k in (0, 1, 2, 4):
        row = rows[CLASSES[k]]
        ours = [row["precision"], row["recall"], row["f1"], row["support"]]
        assert ours == pytest.approx([column[k] for column in theirs])
        assert row["auroc"] == pytest.approx(sk.roc_auc_score(labels == k, scores[:, k]))


def test_class_without_pictures_says_so(feed, answers):
    evaluator = feed(ClsEvaluator(classes=CLASSES), *answers)
    flat = evaluator.compute()
    row = evaluator.details["per_class"]["never"]
    assert row["support"] == 0
    assert [row[name] for name in ("recall", "f1", "auroc", "average_precision")] == [None] * 4
    assert "per_class/never/recall" not in flat and "per_class/dent/recall" in flat


def test_several_labels_equal_sklearn(feed):
    rng = np.random.default_rng(3)
    truth = (rng.random((150, 4)) < 0.35).astype(np.float32)
    scores = np.clip(0.35 * truth + rng.random((150, 4)) * 0.65, 0, 1).astype(np.float32)
    ours = feed(ClsEvaluator(classes=list("abcd")), scores, truth, threshold=0.4).compute()
    said = scores >= 0.4
    theirs = {
        "subset_accuracy": sk.accuracy_score(truth, said),
        "micro_f1": sk.f1_score(truth, said, average="micro"),
        "macro/f1": sk.f1_score(truth, said, average="macro"),
        "macro/precision": sk.precision_score(truth, said, average="macro"),
        "macro/auroc": sk.roc_auc_score(truth, scores, average="macro"),
        "map": sk.average_precision_score(truth, scores, average="macro"),
    }
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-6)
    assert "top1" not in ours


def test_counted_is_the_verdict_that_was_given(feed):
    """Whatever the evaluator's own setting: the labels come from the task, which shows them everywhere else too."""
    scores, truth = [[0.6, 0.3], [0.2, 0.45]], [[1.0, 1.0], [0.0, 1.0]]
    found = [
        feed(ClsEvaluator(classes=list("ab"), threshold=setting), scores, truth, threshold=0.25).compute()
        for setting in (None, 0.5, 0.9)
    ]
    assert found[0] == found[1] == found[2] and found[0]["subset_accuracy"] == 1.0


def test_chunks_in_any_order_equal_one(feed, answers):
    scores, labels = answers
    whole, parts = ClsEvaluator(classes=CLASSES), ClsEvaluator(classes=CLASSES)
    feed(whole, scores, labels)
    for chunk in (np.arange(120, 200), np.arange(0, 70), np.arange(70, 120)):
        feed(parts, scores[chunk], labels[chunk], chunk)
    assert parts.compute() == whole.compute()
    assert parts.results.paths == whole.results.paths == sorted(whole.results.paths)


def test_two_processes_equal_one(feed, answers, monkeypatch):
    """Each process has every second picture; what crosses between them is replaced by both states."""
    scores, labels = answers
    alone = feed(ClsEvaluator(classes=CLASSES), scores, labels).compute()
    both = [ClsEvaluator(classes=CLASSES) for _ in range(2)]
    for rank, evaluator in enumerate(both):
        feed(evaluator, scores[rank::2], labels[rank::2], np.arange(200)[rank::2])
    sent = [dist.all_gather_object((e._rows, e.multi_label))[0] for e in both]
    monkeypatch.setattr(dist, "all_gather_object", lambda value: sent)
    assert both[0].compute() == both[1].compute() == alone
    assert both[0].details == both[1].details


def test_process_without_pictures_takes_the_others_word(feed, monkeypatch):
    """It has seen no target, so it cannot know by itself that pictures carry several labels."""
    full, empty = (ClsEvaluator(classes=list("ab")) for _ in range(2))
    feed(full, [[0.9, 0.8], [0.2, 0.7]], [[1.0, 1.0], [0.0, 1.0]])
    sent = [(e._rows, e.multi_label) for e in (full, empty)]
    monkeypatch.setattr(dist, "all_gather_object", lambda value: sent)
    assert empty.compute() == full.compute()
    assert empty.compute()["subset_accuracy"] == 1.0


def test_reset_forgets(feed, answers):
    scores, labels = answers
    evaluator = feed(ClsEvaluator(classes=CLASSES), scores, labels)
    evaluator.compute()
    evaluator.reset()
    assert feed(evaluator, scores[:3], labels[:3]).compute()["pictures"] == 3


@pytest.mark.parametrize("unlabelled", [None, [-1, -1, -1]])
def test_unlabelled_pictures_are_kept_but_not_counted(feed, unlabelled):
    evaluator = ClsEvaluator(classes=["a", "b"])
    feed(evaluator, [[0.9, 0.1], [0.4, 0.6]], [0, 0], [0, 1])
    feed(evaluator, [[0.2, 0.8]] * 3, unlabelled, [2, 3, 4])
    flat = evaluator.compute()
    assert (flat["pictures"], flat["unlabelled"], flat["top1"]) == (2, 3, 0.5)
    assert len(evaluator.results.paths) == 5


def test_without_any_label_there_are_no_metrics(feed):
    evaluator = feed(ClsEvaluator(classes=["good", "b"]), [[0.9, 0.1]], None)
    assert evaluator.compute() == {"pictures": 0.0, "unlabelled": 1.0}
    assert "0 pictures" in evaluator.headline(evaluator.compute())


@pytest.mark.parametrize("name", ["value", "factory", "per_class", "count", "loss"])
def test_a_class_may_have_any_name(feed, name):
    named, plain = (ClsEvaluator(classes=["good", other]) for other in (name, "dent"))
    scores = [[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]]
    with_name, without = (feed(each, scores, [0, 1, 1]).compute() for each in (named, plain))
    assert {key.replace(f"/{name}/", "/dent/"): value for key, value in with_name.items()} == pytest.approx(without)


# -- good and bad ------------------------------------------------------------------------------------------------------

# the label, the scores of (good, dent, hole), and what it is: ten parts counted by hand below
PARTS = [
    (0, [0.9, 0.1, 0.0]), (0, [0.7, 0.2, 0.1]), (0, [0.6, 0.1, 0.3]), (0, [0.3, 0.6, 0.1]),  # the last: a false alarm
    (1, [0.1, 0.9, 0.0]), (1, [0.2, 0.1, 0.7]),  # the second: a dent called hole is no escape
    (1, [0.8, 0.1, 0.1]),  # an escape
    (2, [0.1, 0.1, 0.8]), (2, [0.5, 0.1, 0.4]), (2, [0.4, 0.4, 0.2]),  # escapes: the second, and a tie that good wins
]  # fmt: skip


@pytest.fixture
def parts(feed):
    def run(**kwargs):
        evaluator = ClsEvaluator(classes=["good", "dent", "hole"], **kwargs)
        feed(evaluator, [scores for _, scores in PARTS], [label for label, _ in PARTS])
        return evaluator, evaluator.compute()

    return run


def test_escapes_and_false_alarms_by_hand(parts):
    evaluator, flat = parts(positive=["dent", "hole"])
    rates = evaluator.details["factory"]
    assert (rates["escape_rate"]["count"], rates["escape_rate"]["total"]) == (3, 6)
    assert (rates["false_alarm_rate"]["count"], rates["false_alarm_rate"]["total"]) == (1, 4)
    assert (flat["escape_rate"], flat["false_alarm_rate"]) == (0.5, 0.25)
    badness = [1 - scores[0] for _, scores in PARTS]
    assert flat["factory/auroc"] == pytest.approx(sk.roc_auc_score([label > 0 for label, _ in PARTS], badness))
    assert "escapes 3 of 6  false alarms 1 of 4" in evaluator.headline(flat)


@pytest.mark.parametrize("kwargs", [{}, {"good": ["good"]}, {"positive": ["dent", "hole"]}])
def test_one_side_named_gives_the_other(parts, kwargs):
    evaluator, _ = parts(**kwargs)
    assert (evaluator.good, evaluator.bad) == (["good"], ["dent", "hole"])


@pytest.mark.parametrize(("classes", "good"), [(["OK", "ng"], ["OK"]), (["cat", "dog"], [])])
def test_good_is_known_by_its_name_or_not_at_all(feed, classes, good):
    evaluator = feed(ClsEvaluator(classes=classes), [[0.9, 0.1], [0.2, 0.8]], [0, 1])
    assert evaluator.good == good
    assert ("escape_rate" in evaluator.compute()) == bool(good)


def test_sure_parts_keep_their_order(feed):
    """In float32 the good scores are all 1: only the bad classes' own scores still tell the parts apart."""
    bad_scores = np.array([1e-12, 1e-10, 1e-11, 1e-9])
    scores = np.stack([1 - bad_scores, bad_scores], axis=1)
    flat = feed(ClsEvaluator(classes=["good", "bad"]), scores, [0, 1, 0, 1]).compute()
    assert flat["factory/auroc"] == 1.0


def test_with_several_labels_a_part_without_a_defect_is_good(feed):
    truth = np.array([[0, 0], [0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    scores = [[0.1, 0.2], [0.7, 0.1], [0.9, 0.3], [0.4, 0.4], [0.6, 0.9]]  # one false alarm, one escape
    flat = feed(ClsEvaluator(classes=["dent", "hole"], positive=["dent", "hole"]), scores, truth).compute()
    assert flat["escape_rate"] == pytest.approx(1 / 3)
    assert flat["false_alarm_rate"] == 0.5
    assert flat["factory/auroc"] == pytest.approx(sk.roc_auc_score(truth.any(1), np.max(scores, axis=1)))


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "where", "what"),
    [
        ({"positive": ["dnet"]}, "evaluator.kwargs.positive", "Nearest: dent"),
        ({"good": ["goood"]}, "evaluator.kwargs.good", "Nearest: good"),
        ({"good": ["good"], "positive": ["good"]}, "evaluator.kwargs.good", "at once"),
        ({"good": CLASSES}, "evaluator.kwargs.good", "every class"),
        ({"top_k": [0]}, "evaluator.kwargs.top_k", "from 1 up, got 0"),
        ({"threshold": 1.5}, "evaluator.kwargs.threshold", "got 1.5"),
        ({"worst": -1}, "evaluator.kwargs.worst", "got -1"),
    ],
)
def test_refused_settings(kwargs, where, what):
    with pytest.raises(ConfigError) as caught:
        ClsEvaluator(classes=CLASSES, **kwargs)
    assert caught.value.problems[0].where == where and what in caught.value.problems[0].what


def test_every_class_positive_leaves_no_good_one(feed):
    evaluator = feed(ClsEvaluator(classes=["dent", "hole"], positive=["dent", "hole"]), [[0.9, 0.1]], [0])
    with pytest.raises(ConfigError, match="names every class"):
        evaluator.compute()


def test_scores_that_are_not_finite_are_no_result(feed):
    evaluator = feed(ClsEvaluator(classes=["a", "b"]), [[0.5, 0.5], [np.nan, 0.5]], [0, 1])
    with pytest.raises(RunError, match=r"1 of 2 pictures.*001\.png"):
        evaluator.compute()


def test_label_beyond_the_classes(feed):
    with pytest.raises(DataError, match=r"001\.png: its label is class 2"):
        feed(ClsEvaluator(classes=["a", "b"]), [[0.5, 0.5]] * 2, [0, 2])


# -- as a component ----------------------------------------------------------------------------------------------------


def test_built_from_a_config_as_json_writes_it():
    section = json.loads('{"type": "ClsEvaluator", "kwargs": {"positive": ["dent"], "top_k": [2], "threshold": 0.4}}')
    assert Registers.evaluators.build(section, "evaluator", classes=["fine", "dent", "x"]).good == ["fine", "x"]


def test_promised_metric_names_hold_what_is_reported(feed, answers):
    evaluator = ClsEvaluator(classes=CLASSES)
    promised = set(evaluator.metric_names())
    single = feed(evaluator, *answers).compute()
    several = feed(ClsEvaluator(classes=CLASSES), answers[0], np.eye(5)[answers[1]]).compute()
    assert set(single) | set(several) <= promised
    assert evaluator.best_metric in single
    assert all(type(value) is float for value in single.values())  # they travel in a checkpoint, which takes no numpy
