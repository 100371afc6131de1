"""Windows cover every pixel, and blending gives back what they were cut from."""

import itertools

import numpy as np
import pytest

from dao.preprocess.tiling import blend, ramp, starts, windows


@pytest.mark.parametrize("hw", [(10, 10), (64, 64), (65, 64), (200, 130), (64, 1000)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_windows_cover_the_picture_and_overlap_enough(hw, overlap):
    found = windows(hw, (64, 48), overlap)
    seen = np.zeros(hw, int)
    for window in found:
        assert (window.height, window.width) == (min(64, hw[0]), min(48, hw[1]))
        assert window.top >= 0 and window.left >= 0 and window.bottom <= hw[0] and window.right <= hw[1]
        window.of(seen)[:] += 1
    assert seen.min() >= 1
    lefts = sorted({window.left for window in found})
    for a, b in itertools.pairwise(lefts):
        assert a + 48 - b >= int(48 * overlap) - 1  # a pixel is lost to rounding


def test_as_few_windows_as_the_overlap_allows():
    assert starts(100, 100, 0.5) == [0]
    assert starts(101, 100, 0.0) == [0, 1]
    assert starts(200, 100, 0.0) == [0, 100]
    assert starts(201, 100, 0.0) == [0, 50, 101]


@pytest.mark.parametrize("hw", [(30, 30), (150, 90), (97, 211)])
def test_blending_gives_the_map_back(hw):
    rng = np.random.default_rng(0)
    whole = rng.random((3, *hw), dtype=np.float32)
    answers = ((w, whole[:, w.top : w.bottom, w.left : w.right]) for w in windows(hw, (64, 64), 0.3))
    bands = list(blend(answers, hw[1]))
    assert [band.top for band in bands] == list(np.cumsum([0] + [band.values.shape[1] for band in bands])[:-1])
    assert max(band.values.shape[1] for band in bands) <= 64
    np.testing.assert_allclose(np.concatenate([band.values for band in bands], axis=1), whole, rtol=1e-5)


def test_where_windows_disagree_the_middle_one_weighs_more():
    answers = [
        (w, np.full((1, w.height, w.width), i, np.float32)) for i, w in enumerate(windows((8, 14), (8, 8), 0.25))
    ]
    row = next(blend(answers, 14)).values[0, 4]
    assert row[0] == 0 and row[-1] == 1 and (np.diff(row) >= 0).all()
    assert 0 < row[6] < 0.5 < row[7] < 1


def test_weights_never_vanish():
    assert ramp((5, 1)).min() > 0 and ramp((4, 4)).max() == 1
