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


def test_no_threshold_when_everything_must_pass():
    scores, bad = np.array([0.9, 0.1]), np.array([False, True])
    row = curve(scores, bad).best_escape_at(0.0)
    assert row["threshold"] is None and row["escape_rate"]["value"] == 1.0


def test_no_curve_without_both_kinds():
    assert curve(np.array([0.1, 0.2]), np.array([True, True])) is None
