"""One rule for each problem, against slow and literal versions of it."""

import numpy as np
import pytest

from dao.answers import verdicts


def test_regions_below_min_area_are_taken_away_whatever_their_classes():
    mask = np.zeros((8, 8), np.uint8)
    mask[0, 0:2], mask[1, 2] = 1, 2  # three pixels that touch, by a corner as well
    mask[6, 6] = 1
    kept = verdicts.large_regions(mask, 3)
    assert kept.sum() == 4 and not kept[6, 6]
    assert np.array_equal(verdicts.large_regions(mask, 1), mask)


def test_half_is_where_the_likeliest_class_turns_bad_however_many_kinds_of_defect_there_are():
    scores = np.random.default_rng(0).dirichlet(np.ones(20), 500).astype(np.float32)
    bad = list(range(1, 20))
    together = verdicts.badness(scores, bad, {}, False)
    alone = [verdicts.badness(row[None], bad, {}, False)[0] for row in scores]
    assert together.tolist() == alone
    assert ((together >= 0.5) == (scores.argmax(1) > 0)).all()
    assert 0 < (together < 0.5).sum() < len(scores)
    two = verdicts.badness(np.array([[0.7, 0.3], [0.2, 0.8]], np.float64), [1], {}, False)
    np.testing.assert_allclose(two, [0.3, 0.8])  # of one good and one bad class, the bad one's probability


@pytest.mark.parametrize(
    ("scores", "threshold", "own", "expected"),
    [
        ([0.4, 0.3, 0.3], None, {}, (0, False)),  # the likeliest class
        ([0.4, 0.3, 0.3], 0.5, {}, (0, False)),  # no bad class is as likely as good
        ([0.3, 0.35, 0.35], 0.5, {}, (1, True)),  # of two equal ones the first
        ([0.4, 0.35, 0.25], 0.61, {}, (0, False)),
        ([0.1, 0.2, 0.7], 0.95, {}, (0, False)),  # good, and labelled as a good one
        ([0.7, 0.1, 0.2], 0.5, {2: 0.2}, (2, True)),  # by a threshold of its own alone
        ([0.2, 0.1, 0.7], 0.5, {2: 0.9}, (0, False)),  # which leaves it out of the others
        ([0.1, 0.6, 0.3], 0.5, {2: 0.3}, (1, True)),  # both reach theirs: the likelier
        ([0.4, 0.3, 0.3], None, {2: 0.9}, (0, False)),
    ],
)
def test_label_and_verdict_of_one_label_agree(scores, threshold, own, expected):
    assert verdicts.part_label(np.array(scores, np.float32), [1, 2], threshold, own) == expected


def test_without_known_bad_classes_there_is_a_label_and_no_verdict():
    assert verdicts.part_label(np.array([0.2, 0.8], np.float32), [], 0.5, {}) == (1, None)


def test_pixels_go_to_the_likeliest_defect_where_defects_together_reach_the_threshold():
    probabilities = np.array([[0.4, 0.6, 0.4], [0.35, 0.3, 0.1], [0.25, 0.1, 0.5]], np.float32)[:, None]
    assert verdicts.class_map(probabilities, 0.5, {}).tolist() == [[1, 0, 2]]
    assert verdicts.class_map(probabilities, 0.5, {2: 0.45}).tolist() == [[0, 0, 2]]
    assert verdicts.class_map(probabilities, 0.28, {2: 0.45}).tolist() == [[1, 1, 2]]
    np.testing.assert_allclose(verdicts.defect_probability(probabilities, {2: 0.45}), [[0.35, 0.3, 1.0]], atol=1e-6)


@pytest.mark.parametrize("own", [{}, {1: 0.2}, {1: 0.7, 3: 0.25}])
def test_a_pixel_is_called_exactly_where_its_defect_probability_reaches_the_threshold(own):
    probabilities = np.random.default_rng(1).dirichlet(np.ones(4), (20, 20)).transpose(2, 0, 1).astype(np.float32)
    called = verdicts.class_map(probabilities, 0.4, own)
    assert np.array_equal(called > 0, verdicts.defect_probability(probabilities, own) >= 0.4)
    for k, least in own.items():
        assert (probabilities[k][called == k] >= np.float32(least)).all()


def test_boxes_are_shown_by_the_threshold_of_their_class():
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.3, 0.2, 0.3, 0.6], np.float32)
    assert verdicts.shown_boxes(labels, scores, 0.25, {1: 0.5}).tolist() == [True, False, False, True]
    assert verdicts.box_badness(labels, scores, {1: 0.5}) == 1.0
    assert verdicts.box_badness(labels, scores, {1: 0.7}) == pytest.approx(0.3)
    assert verdicts.box_badness(labels[:0], scores[:0], {1: 0.7}) == 0.0


def test_strange_regions_are_those_that_reach_what_makes_a_picture_bad():
    raw = np.zeros((10, 10), np.float32)
    raw[1:3, 1:4], raw[1, 1] = 0.5, 0.9
    raw[6:8, 6:8] = 0.6
    every = verdicts.strange_regions(raw, True, 0.4)
    assert every.sum() == 10
    strong = verdicts.strange_regions(raw, True, 0.4, 0.8)
    assert strong.sum() == 6 and strong[2, 3]
    assert not verdicts.strange_regions(raw, False, 0.4, 0.95).any()
    assert verdicts.strange_regions(raw, True, 0.4, 0.95).sum() == 6  # a bad picture shows its peak
    assert verdicts.strange_regions(raw, False, 0.4, None, min_area=5).sum() == 6


def test_a_map_of_float32_is_compared_as_float64_would():
    for threshold in (0.1, 0.7, 0.3, 1 / 3, 0.5):
        near = np.float32(threshold)
        values = np.array([np.nextafter(near, np.float32(0)), near, np.nextafter(near, np.float32(1))])
        assert ((values >= verdicts.least_float32(threshold)) == (values.astype(np.float64) >= threshold)).all()


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.36123, 0.38011, 0.37), (0.0, 1.0, 0.5), (3.1, 3.2, 3.15), (0.2, 0.9, 0.6)]
)
def test_a_proposed_threshold_is_a_short_number_between_two_scores(low, high, expected):
    assert verdicts.between(low, high) == expected


def test_a_proposed_threshold_keeps_the_upper_score_where_there_is_no_room():
    low = 0.5
    high = float(np.nextafter(low, 1))
    assert verdicts.between(low, high) == high
    rng = np.random.default_rng(2)
    for a, b in np.sort(rng.random((200, 2)) ** 8, axis=1):
        assert a < verdicts.between(a, b) <= b
