"""Masks on pictures: their outlines lie beside what they mark."""

import numpy as np
import pytest

from dao.drawing.masks import overlay_mask, shrunk


@pytest.mark.parametrize("side", [64, 1000])
def test_a_small_defect_is_outlined_and_not_one_of_its_pixels_is_drawn_over(side):
    picture, mask = np.full((side, side, 3), 100, np.uint8), np.zeros((side, side), np.uint8)
    mask[30, 20:24] = 1
    drawn = overlay_mask(picture, mask)
    assert (drawn[mask > 0] == 100).all() and (drawn != 100).any()
    changed = np.argwhere((drawn != 100).any(2))
    assert abs(changed - [30, 21]).max() <= 12  # near it


def test_a_wide_region_is_tinted_through_which_it_is_seen():
    picture, mask = np.full((64, 64, 3), 100, np.uint8), np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 1
    inside = overlay_mask(picture, mask)[25:35, 25:35]
    assert (inside != 100).any() and abs(inside.astype(int) - 100).max() < 100


def test_a_hair_of_a_scratch_is_on_the_small_picture_too():
    mask = np.zeros((400, 400), np.uint8)
    mask[37, 10:300] = 2
    assert (shrunk(mask, (100, 100))[9, 3:74] == 2).all() and (shrunk(mask, (100, 100)) > 0).sum() == 73
