"""Thresholds: what good pictures alone tell, and what defects add."""

import numpy as np
import pytest
from loguru import logger

from dao.calibrators import base
from dao.calibrators.base import CalibrationScores
from dao.calibrators.extremes import empirical_quantile, gumbel_fit, gumbel_quantile
from dao.calibrators.rules import BestF1, EscapeRate, FalseAlarmRate
from dao.errors import DataError
from dao.evaluators.score_histogram import ScoreHistogram


def scores(good, bad=()):
    pixels = ScoreHistogram()
    pixels.add(np.linspace(1, 2, 10_000, dtype=np.float32))
    return CalibrationScores(np.asarray(good, float), np.asarray(bad, float), good_pixels=pixels)


def test_the_gumbel_fit_finds_the_distribution_that_made_the_scores():
    drawn = np.random.default_rng(0).gumbel(5.0, 0.7, 200_000)
    location, scale = gumbel_fit(drawn)
    assert location == pytest.approx(5.0, abs=0.01) and scale == pytest.approx(0.7, abs=0.01)
    assert (drawn >= gumbel_quantile(location, scale, 0.01)).mean() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("method", ["extreme_value", "quantile"])
@pytest.mark.parametrize("count", [5, 40, 400])
def test_the_wanted_rate_is_about_what_new_good_parts_meet(method, count):
    rng = np.random.default_rng(count)
    fresh = rng.gumbel(10, 1, 100_000)
    rates = [
        (fresh >= FalseAlarmRate(0.02, method).picture(scores(rng.gumbel(10, 1, count))).value).mean()
        for _ in range(60)
    ]
    assert 0.002 < np.median(rates) < 0.05


@pytest.mark.parametrize("method", ["extreme_value", "quantile"])
@pytest.mark.parametrize("good", [[3.0], [3.0, 3.0, 3.0], [1, 1, 1, 9], [0, 0, 0], np.arange(50), [2, 2, 2, 2, 2, 2.1]])
def test_a_threshold_never_rejects_the_usual_good_part(good, method):
    found = FalseAlarmRate(0.01, method).picture(scores(good)).value
    assert found > np.median(good) and found > np.min(good)


def test_quantiles_let_no_more_than_the_share_through():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.integers(0, 20, 100).astype(float)  # with ties
        for share in (0.005, 0.05, 0.2):
            threshold = empirical_quantile(values, share)
            assert (values >= threshold).mean() <= share
    top = np.array([*range(96), 200, 200, 200, 200], float)  # four of a hundred share the highest score
    assert empirical_quantile(top, 0.02) == 305 and empirical_quantile(top, 0.04) == 147.5
    assert empirical_quantile(np.ones(50), 0.02) > 1


def test_best_f1_lies_between_what_can_be_told_apart():
    found = BestF1().picture(scores([1, 2, 3], [5, 6]))
    assert found.value == 4.0 and "1.000" in found.how


def test_escapes_are_kept_to_the_wanted_rate():
    bad = np.arange(100) / 10 + 5
    found = EscapeRate(0.03).picture(scores([1, 2, 7], bad))
    assert (bad < found.value).sum() == 3


def test_no_escape_at_all_can_be_asked_for():
    """The threshold lies between the lowest bad score and the next lower one, where rounding moves nothing across it."""
    found = EscapeRate(0).picture(scores([1, 2, 4.0, 7], [5.0, 8.0]))
    assert 4.0 < found.value < 5.0 and "0.00% escapes" in found.how
    assert EscapeRate.check_config({"rate": 0, "pixel_rate": 0.001}, "kwargs") == []
    for kwargs in ({"rate": -0.1}, {"rate": 0.6}, {"pixel_rate": 0}):
        assert len(EscapeRate.check_config(kwargs, "kwargs")) == 1
    assert len(FalseAlarmRate.check_config({"rate": 0}, "kwargs")) == 1


@pytest.mark.parametrize("rule", [BestF1(), EscapeRate()])
def test_rules_that_need_defects_say_so(rule):
    with pytest.raises(DataError, match="calibration"):
        rule.picture(scores([1, 2]))


def test_pixels_by_the_share_of_good_ones_and_by_masks():
    given = scores([1, 2], [5])
    assert FalseAlarmRate(pixel_rate=0.1).pixel(given).value == pytest.approx(1.9, abs=1e-3)
    assert BestF1(pixel_rate=0.1).pixel(given).value == pytest.approx(1.9, abs=1e-3)
    given.bad_pixels.add(np.full(500, 3, np.float32))
    assert BestF1().pixel(given).value == pytest.approx(3, rel=1e-4)


@pytest.mark.parametrize(
    ("rule", "good", "bad", "named"),
    [
        (FalseAlarmRate(), 10, 0, ["10 good pictures", "28 %"]),  # z^2 / (n + z^2), Wilson's bound of 0 of 10
        (FalseAlarmRate(), 20, 3, []),
        (BestF1(), 20, 3, ["3 bad pictures", "56 %"]),
        (EscapeRate(), 1, 20, ["1 good picture ", "79 %"]),
        (EscapeRate(), 20, 20, []),
    ],
)
def test_a_threshold_from_few_pictures_of_a_side_that_it_goes_by_is_warned_of_once(rule, good, bad, named):
    lines = []
    base._warn.cache_clear()
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="WARNING")
    for _ in range(2):
        base.warn_of_few(rule, scores(np.arange(good), np.arange(bad)))
    logger.remove(sink)
    assert len(lines) == bool(named) and all(word in lines[0] for word in named)
    if named:
        assert type(rule).__name__ in lines[0] and "20 and more" in lines[0]
