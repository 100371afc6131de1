"""Boxes on pictures: in their colour, tags whole inside the picture and apart from each other."""

import numpy as np
import pytest

from dao.drawing.boxes import annotate_boxes, frame_of, free_place, line_width, mark, small_boxes
from dao.drawing.pictures import color_of
from dao.structures import GroundTruth

GREY = np.full((480, 640, 3), 100, np.uint8)


def test_outline_has_the_classes_colour_and_the_inside_stays():
    drawn = annotate_boxes(GREY, ["a", "b"], np.array([[100.0, 100, 300, 250]]), np.array([1]), np.array([0.5]))
    assert drawn.shape == GREY.shape
    assert (drawn[100:250, 100:300] == 100).all()  # all of it, to its last pixel
    for y, x in ((180, slice(85, 100)), (180, slice(300, 315))):
        assert color_of(1) in {tuple(pixel.tolist()) for pixel in drawn[y, x]}


def test_small_and_grey_pictures_are_enlarged_by_a_whole_factor():
    drawn = annotate_boxes(np.zeros((40, 64, 1), np.uint8), ["a"], np.zeros((0, 4)), np.zeros(0, int))
    assert drawn.shape == (400, 640, 3)


@pytest.mark.parametrize("box", [[0, 0, 640, 480], [600, 0, 640, 20], [-50, -50, 10, 10], [0, 470, 5, 480]])
def test_tags_stay_inside(box):
    left, top = free_place(np.array(box, float), (20, 90), (480, 640), [])
    assert 0 <= left <= 640 - 90 and 0 <= top <= 480 - 20


def test_tags_of_boxes_in_one_place_do_not_cover_each_other():
    taken = []
    for _ in range(5):
        left, top = free_place(np.array([200.0, 200, 400, 300]), (20, 90), (480, 640), taken)
        assert not any(left < r and left + 90 > x and top < b and top + 20 > t for x, t, r, b in taken)
        taken.append((left, top, left + 90, top + 20))


def test_truth_is_dashed():
    truth = GroundTruth(np.array([[100, 100, 300, 250]], np.float32), np.array([0]), np.array([False]))
    drawn = annotate_boxes(GREY, ["a"], np.zeros((0, 4)), np.zeros(0, int), truth=truth)
    (_, y, _, _), _ = frame_of(truth.boxes_xyxy[0], 2, (480, 640))
    edge = {tuple(int(v) for v in pixel) for pixel in drawn[y, 105:295]}
    assert edge == {color_of(0), (255, 255, 255)} and (drawn[100:250, 100:300] == 100).all()


def test_a_name_covers_no_other_box_where_there_is_room_elsewhere():
    above = np.array([200.0, 150, 260, 196])  # where the name of the box below would stand
    box = np.array([200.0, 200, 260, 230])
    assert free_place(box, (20, 50), (480, 640), [])[1] < 200
    left, top = free_place(box, (20, 50), (480, 640), [], np.array([box, above]))
    assert top >= 230 or left >= 260 or left + 50 <= 200


def test_a_box_without_a_name_has_its_frame_alone():
    named, bare = GREY.copy(), GREY.copy()
    for canvas, name in ((named, "dent"), (bare, "")):
        mark(canvas, np.array([[200.0, 200, 300, 260]]), [color_of(0)], [name], line=2, size=12)
    assert (bare == color_of(0)).all(2).sum() < (named == color_of(0)).all(2).sum() and not (bare[:190] != 100).any()


def test_a_sheets_picture_is_small_and_marked():
    drawn = small_boxes(GREY, np.array([[100.0, 100, 300, 250]]), np.array([0]))
    assert drawn.shape == (222, 296, 3) and (drawn == color_of(0)).all(2).any()  # 222 x 296 is 256 x 256, about


@pytest.mark.parametrize("side", [64, 640, 4000])
@pytest.mark.parametrize("box", [[10, 10, 13, 13], [20, 30, 22, 60], [0, 0, 5, 5], [60, 60, 64, 64]])
def test_a_frame_leaves_the_defect_to_be_seen_at_every_size(side, box):
    """No pixel of a small object is drawn over, unless it ends at the picture's edge; and the line is thin."""
    picture = np.full((side, side, 3), 100, np.uint8)
    drawn = small_boxes(picture, np.array([box], float), np.array([0]), side=side)
    x0, y0, x1, y1 = box
    changed = (drawn != 100).any(2)
    assert changed.any()
    if x0 > 4 and x1 < side - 4:
        assert not changed[y0 - 2 : y1 + 2, x0 - 2 : x1 + 2].any()
    _, width = frame_of(np.array(box, float), 10, (side, side))
    assert width == 1


def test_a_large_objects_frame_grows_with_the_picture():
    box = np.array([500.0, 500, 2500, 2500])
    assert [frame_of(box, line_width((side, side)), (side, side))[1] for side in (640, 4000)] == [2, 10]
