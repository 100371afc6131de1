import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dao.evaluators.factory import Rate, auroc, curve, wilson


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),  # Newcombe 1998, Statistics in Medicine 17, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_published(count, total, low, high):
    rate = wilson(count, total)
    assert (round(rate.low, 4), round(rate.high, 4)) == (low, high)
    mirrored = wilson(total - count, total)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - rate.high, 1 - rate.low))


def test_wilson_of_nothing():
    rate = wilson(0, 0)
    assert math.isnan(rate.value) and rate.text() == "none counted"


def test_text_says_how_little_is_known():
    assert wilson(0, 20).text() == "0.0 % (0 of 20; 95 %: 0.0 to 16.1 %)"
    assert isinstance(wilson(20, 20), Rate) and wilson(20, 20).high == 1.0


def test_auroc_with_ties_equals_pairs_and_sklearn():
    rng = np.random.default_rng(0)
    scores, bad = rng.integers(0, 5, 80) / 5, rng.random(80) < 0.4
    pairs = [(b > g) + 0.5 * (b == g) for b in scores[bad] for g in scores[~bad]]
    assert auroc(scores, bad) == pytest.approx(np.mean(pairs)) == pytest.approx(roc_auc_score(bad, scores))
    assert math.isnan(auroc(scores, np.ones(80, bool)))


def slow_points(scores, bad):
    """(threshold, escapes, false alarms) at every threshold, literally."""
    thresholds = [math.inf, *sorted(set(scores), reverse=True)]
    return [(t, sum(bad & (scores < t)), sum(~bad & (scores >= t))) for t in thresholds]


@pytest.mark.parametrize("limit", [0.0, 0.05, 0.11, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_operating_points_by_trying_every_threshold(seed, limit):
    rng = np.random.default_rng(seed)
    bad = rng.random(60) < 0.4
    scores = np.round(rng.random(60) * 0.7 + bad * 0.3, 2)
    found, points = curve(scores, bad), slow_points(scores, bad)
    escape = found.best_escape_at(limit)
    best = min((e, a) for _, e, a in points if a <= limit * (~bad).sum())
    assert (escape["escape_rate"]["count"], escape["false_alarm_rate"]["count"]) == best
    alarm = found.best_false_alarm_at(limit)
    best = min((a, e) for _, e, a in points if e <= limit * bad.sum())
    assert (alarm["false_alarm_rate"]["count"], alarm["escape_rate"]["count"]) == best


def test_threshold_does_what_the_table_says():
    scores, bad = np.array([0.1, 0.4, 0.4, 0.6, 0.9]), np.array([False, False, True, True, True])
    row = curve(scores, bad).best_escape_at(0.01)
    called = scores >= row["threshold"]
    assert (bad & ~called).sum() == row["escape_rate"]["count"] == 1
    assert (~bad & called).sum() == row["false_alarm_rate"]["count"] == 0


@pytest.mark.parametrize(("highest", "proposed"), [(0.9, 0.95), (1.0, None)])
def test_everything_passes_above_the_highest_score_where_a_threshold_can_be_so_high(highest, proposed):
    scores, bad = np.array([highest, 0.1]), np.array([False, True])
    row = curve(scores, bad).best_escape_at(0.0)
    assert row["threshold"] == proposed and row["escape_rate"]["value"] == 1.0


@pytest.mark.parametrize("limits", [(0.0, 1.0), (-np.inf, np.inf)])
@pytest.mark.parametrize("seed", range(5))
def test_every_proposed_threshold_is_settable_and_gives_the_counts_beside_it(seed, limits):
    rng = np.random.default_rng(seed)
    bad = rng.random(40) < 0.4
    scores = np.where(rng.random(40) < 0.3, 0.0, rng.random(40) * 0.7 + bad * 0.3)  # of some, nothing was said
    found = curve(scores, bad, limits)
    for row in [ask(x) for ask in (found.best_escape_at, found.best_false_alarm_at) for x in (0, 0.01, 0.1, 0.5)]:
        if row["threshold"] is None:
            assert row["escape_rate"] is None or scores.max() >= limits[1]
            continue
        called = scores >= row["threshold"]
        assert limits[0] < row["threshold"] <= limits[1]
        assert (bad & ~called).sum() == row["escape_rate"]["count"]
        assert (~bad & called).sum() == row["false_alarm_rate"]["count"]


def test_a_rate_that_no_threshold_above_nothing_found_reaches_is_not_promised():
    scores, bad = np.array([0.0, 0.3, 0.0, 0.8]), np.array([False, False, True, True])
    row = curve(scores, bad).best_false_alarm_at(0.01)
    assert row == {"max_escape": 0.01, "threshold": None, "escape_rate": None, "false_alarm_rate": None}


def test_no_curve_without_both_kinds():
    assert curve(np.array([0.1, 0.2]), np.array([True, True])) is None
