"""Regions of interest: polygons and masks, at any size of picture."""

import cv2
import numpy as np
import pytest

from dao.answers.roi import parts_of_polygons, polygon_problem, raster
from dao.dataloaders.datasets.region_mask import parts_of_mask
from dao.errors import DataError


def test_a_polygon_lies_where_it_says():
    found = raster(parts_of_polygons([[[0.25, 0.1], [0.75, 0.1], [0.75, 0.5], [0.25, 0.5]]]), (100, 200))
    expected = np.zeros((100, 200), bool)
    expected[10:50, 50:150] = True
    assert np.count_nonzero(found ^ expected) <= 2 * (40 + 100) and (found | ~expected).all()


def test_overlapping_polygons_are_one_region():
    square = [[0.1, 0.1], [0.6, 0.1], [0.6, 0.6], [0.1, 0.6]]
    other = [[0.4, 0.4], [0.9, 0.4], [0.9, 0.9], [0.4, 0.9]]
    assert raster(parts_of_polygons([square, other]), (50, 50))[25, 25]


def test_a_mask_with_a_hole_comes_back(tmp_path):
    mask = np.zeros((60, 80), np.uint8)
    cv2.circle(mask, (40, 30), 25, 255, -1)
    cv2.circle(mask, (40, 30), 8, 0, -1)
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    parts = parts_of_mask(str(tmp_path / "m.png"))
    np.testing.assert_array_equal(raster(parts, (60, 80)), mask > 0)
    twice = raster(parts, (120, 160))
    assert (twice[::2, ::2] != (mask > 0)).mean() < 0.03 and not twice[60, 80]


@pytest.mark.parametrize(
    ("polygons", "words"),
    [
        ([], "no polygon"),
        ([[[0, 0], [1, 1]]], "3 points"),
        ([[[0, 0], [1, 0], [1, 20]]], "leaves the picture"),
        ([[[0, 0], [0.5, 0.5], [1, 1]]], "encloses nothing"),
        ([[[0, 0], [1, 0], [1, 1]]], ""),
    ],
)
def test_mistakes_in_polygons_are_named(polygons, words):
    assert words in polygon_problem(polygons) and bool(words) == bool(polygon_problem(polygons))


def test_an_empty_mask_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "m.png"), np.zeros((5, 5), np.uint8))
    with pytest.raises(DataError, match="empty"):
        parts_of_mask(str(tmp_path / "m.png"))
