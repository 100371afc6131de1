"""The highest threshold that leaves a region, against every value of the map tried."""

import cv2
import numpy as np
import pytest

from dao.answers.peaks import region_peak


def literal_peak(scores, min_area):
    """Every value of the map tried as a threshold."""
    for value in np.unique(scores)[::-1]:
        stats = cv2.connectedComponentsWithStats((scores >= value).astype(np.uint8), connectivity=8)[2]
        if (stats[1:, cv2.CC_STAT_AREA] >= min_area).any():
            return float(value)
    return 0.0


def made_up(kind, rng, hw=(24, 25)):
    scores = rng.random(hw).astype(np.float32)
    if kind == "smooth":
        return cv2.GaussianBlur(scores, (0, 0), 3)
    if kind == "ties":
        return np.round(scores, 1)
    if kind == "flat":
        return np.full(hw, 0.25, np.float32)
    if kind == "two spots":  # many hot pixels that touch no other, and a cooler spot of 5 x 5
        scores = np.zeros(hw, np.float32)
        scores[::3, ::3] = 0.9
        scores[1:6, 10:15] = 0.6
    if kind == "ring":  # a cool region inside which a hot one lies, and one as hot that is too small
        scores = np.full(hw, 0.1, np.float32)
        scores[2:20, 2:20], scores[5:9, 5:9], scores[22, 22:25] = 0.4, 0.8, 0.9
    return scores


@pytest.mark.parametrize("min_area", [1, 2, 5, 40, 600])
@pytest.mark.parametrize("kind", ["noise", "smooth", "ties", "flat", "two spots", "ring"])
def test_a_pictures_peak_is_the_highest_threshold_that_leaves_a_region_of_min_area(kind, min_area):
    scores = made_up(kind, np.random.default_rng(min_area))
    assert region_peak(scores, min_area) == literal_peak(scores, min_area)


@pytest.mark.parametrize("seed", range(20))
def test_however_few_values_are_looked_at_first_the_peak_is_the_same(seed, monkeypatch):
    """Maps of all sizes and kinds, with a sample so small that it says next to nothing."""
    monkeypatch.setattr("dao.answers.peaks.SAMPLE", 3)
    monkeypatch.setattr("dao.answers.peaks.MANY", [3, 50, 20_000][seed % 3])
    rng = np.random.default_rng(seed)
    for kind in ("noise", "smooth", "ties", "two spots"):
        scores = made_up(kind, rng, tuple(rng.integers(20, 40, 2)))
        min_area = int(rng.integers(2, 60))
        assert region_peak(scores, min_area) == literal_peak(scores, min_area)


def test_a_map_smaller_than_min_area_holds_no_defect():
    assert region_peak(np.ones((3, 3), np.float32), 10) == 0.0


def test_noise_is_labelled_a_few_times_however_large_it_is(monkeypatch):
    """Counted in pixels that are labelled, for each pixel of the map: searching value by value took 40 and more."""
    real, seen = cv2.connectedComponentsWithStats, []

    def counted(mask, **kwargs):
        seen.append(mask.size)
        return real(mask, **kwargs)

    monkeypatch.setattr(cv2, "connectedComponentsWithStats", counted)
    region_peak(np.random.default_rng(0).random((512, 512)).astype(np.float32), 5)
    assert sum(seen) < 8 * 512 * 512
