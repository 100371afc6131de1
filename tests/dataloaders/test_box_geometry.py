"""Boxes under maps, against maps of single points."""

import math

import numpy as np
import pytest

from dao.dataloaders import box_geometry as geometry

BOXES = np.array([[2, 3, 8, 5], [0, 0, 20, 10], [19.5, 9.5, 20, 10]], np.float32)


def point(matrix, x, y):
    return tuple(matrix @ np.array([x, y, 1.0]))


def test_affine_keeps_its_centre_and_turns_anticlockwise():
    matrix = geometry.affine(90, 2.0, (0, 0), (10, 20), (30, 40))
    assert point(matrix, 10, 20) == pytest.approx((30, 40))
    assert point(matrix, 11, 20) == pytest.approx((30, 38))  # right becomes up, twice as far


def test_shear_moves_along_one_axis():
    matrix = geometry.affine(0, 1.0, (45, 0), (0, 0), (0, 0))
    assert point(matrix, 3, 2) == pytest.approx((5, 2))


def test_warp_is_the_box_round_the_mapped_corners():
    matrix = geometry.affine(30, 1.3, (4, -7), (5, 5), (6, 9))
    for box, moved in zip(BOXES, geometry.warp(BOXES, matrix)):
        corners = [point(matrix, x, y) for x in box[[0, 2]] for y in box[[1, 3]]]
        xs, ys = zip(*corners)
        assert moved == pytest.approx([min(xs), min(ys), max(xs), max(ys)], abs=1e-4)
    assert geometry.warp(BOXES[:0], matrix).shape == (0, 4)


def test_visible_share():
    boxes = np.array([[-5, 0, 5, 10], [0, 0, 5, 5], [30, 0, 40, 5]], np.float32)
    inside, share = geometry.visible(boxes, (10, 20))
    assert inside.tolist()[:2] == [[0, 0, 5, 10], [0, 0, 5, 5]] and share.tolist() == [0.5, 1.0, 0.0]


def test_large_enough_by_the_shorter_side():
    assert geometry.large_enough(BOXES, 1.0).tolist() == [True, True, False]
    assert geometry.large_enough(BOXES[:0]).shape == (0,)


def test_scale_and_shift_and_areas():
    moved = geometry.scale_and_shift(BOXES, (2.0, 0.5), (1, -1))
    assert moved[0].tolist() == [5, 0.5, 17, 1.5]
    assert geometry.areas(np.array([[5, 5, 2, 9]], np.float32))[0] == 0
    assert math.isclose(geometry.areas(BOXES)[1], 200)


def test_what_earlier_cuts_have_left_of_a_box_counts():
    from dao.dataloaders.box_geometry import keep_visible

    box = np.array([[0, 0, 10, 10]], np.float32)
    for seen, stays in ((1.0, True), (0.5, False), (0.7, True)):  # half of it is cut here: 0.5, 0.25, 0.35 are left
        after, keep = keep_visible(box, (5, 20), 0.3, np.array([seen], np.float32))
        assert after.tolist() == [[0, 0, 10, 5]] and keep.tolist() == [stays]
