"""Boxes of overlapping windows become one list: objects once, cut ones whole again."""

import numpy as np
import pytest

from dao.tiling import windows
from dao.utils.matching import Boxes, iou_matrix, match
from dao.utils.tiled_boxes import merge_windows

HW, TILE = (100, 180), (100, 100)


def seen(objects, overlap=0.2, score=lambda window, box: 0.9):
    """What a perfect detector finds of objects (x0, y0, x1, y1, label) in every window: the part inside it."""
    answers = []
    for window in windows(HW, TILE, overlap):
        frame = np.array([window.left, window.top, window.right, window.bottom])
        rows = []
        for *box, label in objects:
            low, high = np.maximum(box[:2], frame[:2]), np.minimum(box[2:], frame[2:])
            if (high - low > 3).all():
                rows.append((*(low - frame[:2]), *(high - frame[:2]), label, score(window, box)))
        table = np.array(rows, np.float32).reshape(-1, 6)
        answers.append((window, Boxes(table[:, :4], table[:, 4].astype(np.int64), table[:, 5])))
    return answers


@pytest.mark.parametrize(
    "objects",
    [
        [(10, 10, 40, 40, 0), (120, 30, 160, 80, 1)],  # one window each
        [(82, 20, 96, 40, 0)],  # whole in both windows
        [(60, 20, 130, 60, 0)],  # cut by both: no window sees the whole of it
        [(85, 20, 130, 60, 0), (70, 70, 99, 90, 1)],  # cut in one, whole in the other
        [(60, 10, 130, 40, 0), (60, 50, 130, 80, 0), (60, 12, 130, 42, 1)],  # neighbours stay apart, and classes do
    ],
)
def test_every_object_comes_out_once_and_whole(objects):
    merged = merge_windows(seen(objects), HW, 0.5)
    wanted = np.array([box[:4] for box in objects], np.float32)
    assert len(merged) == len(objects)
    pairs = match(merged, Boxes(wanted, np.array([b[4] for b in objects]), np.ones(len(objects), np.float32)), 0.97)
    assert len(pairs) == len(objects)


def test_a_piece_goes_even_where_it_scores_better_than_the_whole():
    answers = seen([(85, 20, 130, 60, 0)], score=lambda window, box: 0.95 if window.left == 0 else 0.6)
    merged = merge_windows(answers, HW, 0.5)
    assert merged.xyxy.tolist() == [[85, 20, 130, 60]] and merged.scores[0] == pytest.approx(0.6)


def test_a_doubtful_piece_does_not_stretch_a_good_one():
    answers = seen([(60, 20, 130, 60, 0)], score=lambda window, box: 0.9 if window.left == 0 else 0.05)
    merged = merge_windows(answers, HW, 0.5)
    assert merged.xyxy[0].tolist() == [60, 20, 100, 60] and merged.scores[0] == pytest.approx(0.9)


def test_boxes_at_the_pictures_own_border_are_whole():
    merged = merge_windows(seen([(0, 0, 20, 20, 0), (160, 80, 180, 100, 0)]), HW, 0.5)
    assert sorted(merged.xyxy.tolist()) == [[0, 0, 20, 20], [160, 80, 180, 100]]


def test_nothing_found():
    assert len(merge_windows(seen([]), HW, 0.5)) == 0


def test_overlap_matrix_is_torchvisions():
    import torch
    from torchvision.ops import box_iou

    rng = np.random.default_rng(0)
    first, second = (np.sort(rng.uniform(0, 50, (n, 2, 2)), 1).reshape(n, 4) for n in (7, 5))
    np.testing.assert_allclose(iou_matrix(first, second), box_iou(torch.tensor(first), torch.tensor(second)), rtol=1e-6)


def test_matching_gives_each_box_one_partner():
    first = Boxes(np.array([[0, 0, 10, 10], [0, 0, 10, 9]], np.float32), np.zeros(2, int), np.ones(2, np.float32))
    second = Boxes(np.array([[0, 0, 10, 9]], np.float32), np.zeros(1, int), np.ones(1, np.float32))
    assert match(first, second) == [(1, 0, 1.0)]
