"""Boxes on pictures: in their colour, tags whole inside the picture and apart from each other."""

import numpy as np
import pytest

from dao.structures import GroundTruth
from dao.utils.visualize import color_of
from dao.utils.visualize_boxes import _free_place, annotate_boxes, small_boxes

GREY = np.full((480, 640, 3), 100, np.uint8)


def test_outline_has_the_classes_colour_and_the_inside_stays():
    drawn = annotate_boxes(GREY, ["a", "b"], np.array([[100.0, 100, 300, 250]]), np.array([1]), np.array([0.5]))
    assert drawn.shape == GREY.shape
    assert tuple(drawn[180, 100]) == color_of(1) and tuple(drawn[250, 200]) == color_of(1)
    assert (drawn[110:240, 110:290] == 100).all()


def test_small_and_grey_pictures_are_enlarged_by_a_whole_factor():
    drawn = annotate_boxes(np.zeros((40, 64, 1), np.uint8), ["a"], np.zeros((0, 4)), np.zeros(0, int))
    assert drawn.shape == (400, 640, 3)


@pytest.mark.parametrize("box", [[0, 0, 640, 480], [600, 0, 640, 20], [-50, -50, 10, 10], [0, 470, 5, 480]])
def test_tags_stay_inside(box):
    left, top = _free_place(np.array(box, float), (20, 90), (480, 640), [])
    assert 0 <= left <= 640 - 90 and 0 <= top <= 480 - 20


def test_tags_of_boxes_in_one_place_do_not_cover_each_other():
    taken = []
    for _ in range(5):
        left, top = _free_place(np.array([200.0, 200, 400, 300]), (20, 90), (480, 640), taken)
        assert not any(left < r and left + 90 > x and top < b and top + 20 > t for x, t, r, b in taken)
        taken.append((left, top, left + 90, top + 20))


def test_truth_is_dashed():
    truth = GroundTruth(np.array([[100, 100, 300, 250]], np.float32), np.array([0]), np.array([False]))
    drawn = annotate_boxes(GREY, ["a"], np.zeros((0, 4)), np.zeros(0, int), truth=truth)
    edge = {tuple(int(v) for v in pixel) for pixel in drawn[100, 105:295]}
    assert edge == {color_of(0), (255, 255, 255)}


def test_a_sheets_picture_is_small_and_marked():
    assert small_boxes(GREY, np.array([[100.0, 100, 300, 250]]), np.array([0])).shape == (192, 256, 3)
