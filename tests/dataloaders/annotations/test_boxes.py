"""Boxes inside their pictures, or named and left out."""

import math

import numpy as np
import pytest

from dao.dataloaders.annotations.boxes import box_of, clip_box, usable_boxes
from dao.dataloaders.annotations.regions import encode_rle
from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject
from dao.dataloaders.census import Census


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        ((1, 2, 5, 6), (1, 2, 5, 6)),
        ((-3, 2, 5, 99), (0, 2, 5, 20)),
        ((0, 0, 30, 20), (0, 0, 30, 20)),
        ((29.5, 0, 40, 5), (29.5, 0, 30, 5)),
    ],
)
def test_boxes_are_clipped_to_their_picture(box, wanted):
    assert clip_box(box, (20, 30)) == (wanted, "")


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ((math.nan, 0, 1, 1), "no number"),
        ((0, 0, math.inf, 1), "no number"),
        ((5, 5, 5, 9), "without area"),
        ((5, 9, 8, 9), "without area"),
        ((8, 5, 5, 9), "without area"),
        ((30, 0, 40, 5), "outside their picture"),
        ((0, -9, 40, 0), "outside"),
    ],
)
def test_boxes_without_an_area_in_the_picture_are_refused(box, why):
    found, what = clip_box(box, (20, 30))
    assert found is None and why in what


def test_without_a_size_nothing_is_clipped():
    assert clip_box((-5, -5, 9999, 9999), None)[0] == (-5, -5, 9999, 9999)


def test_what_is_left_out_is_named_by_picture_object_and_numbers():
    objects = [AnnotatedObject("dent", (0, 0, 4, 4)), AnnotatedObject("hole", (3, 3, 3, 9)), AnnotatedObject("dent")]
    objects.append(AnnotatedObject("dent", (10, 10, 50, 12)))
    census = Census()
    kept = usable_boxes(AnnotatedImage("a/b.png", (20, 30), objects), census)
    assert [box for _, box in kept] == [(0, 0, 4, 4), (10, 10, 30, 12)]
    assert census.omitted == {
        "boxes without area left out": ["a/b.png object 1 (hole, 3, 3, 3, 9)"],
        "boxes that are no numbers left out": ["a/b.png object 2 (dent, nan, nan, nan, nan)"],
    }
    assert list(census.adjusted.values()) == [["a/b.png object 3"]]


def test_box_of_a_mask_alone_is_the_one_round_its_pixels():
    region = np.zeros((12, 15), bool)
    region[3:7, 4:11] = True
    assert box_of(AnnotatedObject("a", rle=encode_rle(region))) == (4, 3, 11, 7)
    assert box_of(AnnotatedObject("a", rle={"size": [3, 4], "counts": [4, 2, 6]})) == (1, 1, 2, 3)
