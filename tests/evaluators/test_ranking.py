"""Areas against slow literal definitions and against scikit-learn's known values."""

import cv2
import numpy as np
import pytest

from dao.evaluators import factory, ranking
from dao.evaluators.score_histogram import ScoreHistogram, aligned, key_of, score_of


def scene(seed, pictures=4, hw=(24, 30)):
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for i in range(pictures):
        mask = np.zeros(hw, bool)
        for _ in range(i):
            y, x = rng.integers(0, 18, 2)
            mask[y : y + rng.integers(2, 6), x : x + rng.integers(2, 6)] = True
        score = rng.gamma(2.0, 1.0, hw) + mask * rng.uniform(0.5, 2.5)
        maps.append((np.round(score * 16) / 16).astype(np.float32))  # few digits: many ties, and keys are exact
        masks.append(mask)
    return maps, masks


def literal_aupro(maps, masks, limit):
    """Bergmann et al. 2021: at every threshold the mean over regions of the share found, against false positives."""
    regions = []
    for score, mask in zip(maps, masks):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        regions += [score[labels == i] for i in range(1, count)]
    good = np.concatenate([score[~mask] for score, mask in zip(maps, masks)])
    thresholds = np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]
    x = [0.0, *(float((good >= t).mean()) for t in thresholds)]
    y = [0.0, *(float(np.mean([(r >= t).mean() for r in regions])) for t in thresholds)]
    fine = np.linspace(0, limit, 200_001)
    return float(np.trapezoid(np.interp(fine, x, y), fine) / limit)


def histograms(maps, masks):
    good, bad, overlap = ScoreHistogram(), ScoreHistogram(), ScoreHistogram()
    for score, mask in zip(maps, masks):
        good.add(score[~mask])
        bad.add(score[mask])
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        for i in range(1, count):
            overlap.add(score[labels == i], weight=1 / (labels == i).sum())
    return good, bad, overlap


@pytest.mark.parametrize("seed", range(3))
def test_aupro_equals_the_slow_literal_one(seed):
    maps, masks = scene(seed)
    _, (good, _, overlap) = aligned(*histograms(maps, masks))
    for limit in (0.3, 0.05, 1.0):
        assert ranking.aupro(good, overlap, limit) == pytest.approx(literal_aupro(maps, masks, limit), abs=2e-5)


def test_pixel_auroc_and_average_precision_equal_those_of_all_pixels():
    sklearn = pytest.importorskip("sklearn.metrics")
    maps, masks = scene(1)
    scores, truth = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    _, (good, bad, _) = aligned(*histograms(maps, masks))
    assert ranking.auroc(good, bad) == pytest.approx(sklearn.roc_auc_score(truth, scores), abs=1e-9)
    assert ranking.average_precision(good, bad) == pytest.approx(
        sklearn.average_precision_score(truth, scores), abs=1e-9
    )


def test_auroc_counts_ties_half():
    scores, bad = np.array([1.0, 1.0, 2.0, 3.0, 3.0]), np.array([False, True, False, True, True])
    _, good, of_bad = ranking.counts_of(scores, bad)
    assert ranking.auroc(good, of_bad) == pytest.approx(factory.auroc(scores, bad))


def test_best_f1_by_trying_every_threshold():
    rng = np.random.default_rng(0)
    scores, bad = rng.integers(0, 12, 60).astype(float), rng.random(60) < 0.4
    at, good, of_bad = ranking.counts_of(scores, bad)
    f1, place = ranking.best_f1(good, of_bad)

    def literal(t):
        said = scores >= t
        return 2 * (said & bad).sum() / (said.sum() + bad.sum())

    assert f1 == pytest.approx(max(literal(t) for t in at)) == pytest.approx(literal(at[place]))


def test_without_good_or_bad_there_is_no_area():
    nothing, some = np.zeros(3), np.ones(3)
    for function in (ranking.auroc, ranking.average_precision, ranking.aupro):
        assert np.isnan(function(some, nothing)) and np.isnan(function(nothing, some))


def test_histograms_add_up_and_grow():
    rng = np.random.default_rng(0)
    scores = rng.gamma(2, 10, 500).astype(np.float32)
    whole, first, second = ScoreHistogram(), ScoreHistogram(), ScoreHistogram()
    whole.add(scores)
    first.add(scores[:123])
    second.add(scores[123:])
    first.merge(second)
    first.merge(ScoreHistogram())
    _, (a, b) = aligned(whole, first)
    assert np.array_equal(a, b) and whole.total == 500
    assert whole.quantile(0.9) == pytest.approx(np.quantile(scores, 0.9), rel=0.02)


def test_keys_keep_the_order_and_sixteen_digits():
    scores = np.sort(np.random.default_rng(0).gamma(2, 5, 1000)).astype(np.float32)
    assert (np.diff(key_of(scores)) >= 0).all()
    np.testing.assert_allclose(score_of(key_of(scores)), scores, rtol=2**-15)
    assert key_of(np.zeros(1, np.float32)) == key_of(np.full(1, 1e-20, np.float32))
