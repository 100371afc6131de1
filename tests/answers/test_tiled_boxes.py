"""Boxes of overlapping windows become one list: objects once, cut ones whole again."""

import itertools

import numpy as np
import pytest

from dao.answers.box_grid import MOST_PAIRS, BoxGrid
from dao.answers.matching import Boxes, iou_matrix, match
from dao.answers.tiled_boxes import merge_windows
from dao.preprocess.tiling import windows

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


# -- the rule written out, every box against every other; and what the grid spares -------------------------------------


def slow_merge(answers, hw, nms_threshold):
    """`merge_windows` by its words: join pieces pair by pair, then suppress one by one."""
    rows = []  # box in the picture, label, score, cut, window
    for window, boxes in answers:
        frame = np.array([window.left, window.top, window.right, window.bottom], np.float32)
        inner = np.array([window.left > 0, window.top > 0, window.right < hw[1], window.bottom < hw[0]])
        for box, label, score in zip(boxes.xyxy, boxes.labels, boxes.scores):
            moved = box + np.array([window.left, window.top] * 2, np.float32)
            rows.append((moved, label, score, bool(((abs(moved - frame) <= 2) & inner).any()), frame))
    group = list(range(len(rows)))
    for i, j in itertools.combinations(range(len(rows)), 2):
        if slow_one_object(rows[i], rows[j]):
            group = [group[i] if g == group[j] else g for g in group]
    whole = []
    for g in sorted(set(group)):
        members = [row for row, own in zip(rows, group) if own == g]
        xyxy = np.stack([row[0] for row in members])
        box = np.concatenate([xyxy[:, :2].min(axis=0), xyxy[:, 2:].max(axis=0)])
        whole.append((box, members[0][1], max(row[2] for row in members), members[0][3] and len(members) == 1))
    whole.sort(key=lambda row: (row[3], -row[2]))
    kept = []
    for box, label, score, cut in whole:
        for other, its, *_ in kept:
            common = iou_and_common(other, box)[1]
            within = common / max(iou_and_common(box, box)[1], 1e-12)
            if its == label and (iou_and_common(other, box)[0] > nms_threshold or (cut and within > 0.6)):
                break
        else:
            kept.append((box, label, score))
    return sorted(kept, key=lambda row: -row[2])


def slow_one_object(one, other):
    low, high = np.maximum(one[4][:2], other[4][:2]), np.minimum(one[4][2:], other[4][2:])
    if one[1] != other[1] or not (one[3] and other[3]) or (one[4] == other[4]).all() or (low >= high).any():
        return False
    if iou_and_common(one[0], other[0])[1] <= 0 or min(one[2], other[2]) < 0.25 * max(one[2], other[2]):
        return False
    seen = [np.clip(row[0], np.tile(low, 2), np.tile(high, 2)) for row in (one, other)]
    return iou_and_common(*seen)[0] >= 0.5


def iou_and_common(a, b):
    sides = [min(float(a[k + 2]), float(b[k + 2])) - max(float(a[k]), float(b[k])) for k in (0, 1)]
    common = max(sides[0], 0) * max(sides[1], 0)
    area = sum(float(x[2] - x[0]) * float(x[3] - x[1]) for x in (a, b))
    return (1.0 if (a == b).all() else common / max(area - common, 1e-12)), common


def random_answers(rng, hw, overlap):
    """Whole boxes, pieces, duplicates and boxes without area, up to 10 a window; some with equal scores."""
    found = []
    for window in windows(hw, (40, 40), overlap):
        count = int(rng.integers(0, 10))
        centres, sides = rng.uniform(-2, 42, (count, 2)), rng.uniform(0, rng.choice([10, 60]), (count, 2))
        boxes = np.clip(np.concatenate([centres - sides / 2, centres + sides / 2], axis=1), 0, 40)
        boxes, scores = (
            (boxes.round(), rng.integers(1, 5, count) / 4) if rng.random() < 0.3 else (boxes, rng.random(count))
        )
        labels = rng.integers(0, 2, count)
        found.append((window, Boxes(boxes.astype(np.float32), labels, scores.astype(np.float32))))
    return found


@pytest.mark.parametrize("overlap", [0.1, 0.4])
@pytest.mark.parametrize("nms_threshold", [0.0, 0.3, 0.65, 1.0])
def test_merging_tiles_equals_the_rule_written_out_on_random_boxes(overlap, nms_threshold):
    joined = 0
    for seed in range(8):
        answers = random_answers(np.random.default_rng(seed), (70, 110), overlap)
        merged, slow = merge_windows(answers, (70, 110), nms_threshold), slow_merge(answers, (70, 110), nms_threshold)
        assert merged.scores.tolist() == [row[2] for row in slow]
        np.testing.assert_array_equal(merged.xyxy, np.array([row[0] for row in slow], np.float32).reshape(-1, 4))
        assert merged.labels.tolist() == [row[1] for row in slow]
        joined += sum(len(boxes) for _, boxes in answers) - len(merged)
    assert joined > 10  # pieces there were to join, and boxes to suppress


def test_merging_tiles_looks_at_neighbours_alone_whatever_the_number_of_windows():
    """Counted in pairs, not in seconds: 4,860 boxes in 81 windows were 23.6 million pairs, held all at once."""
    rng = np.random.default_rng(0)
    pairs, largest = {}, 0
    for side in (9, 18):
        corners = rng.uniform(0, 512 * side, (60 * side**2, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(10, 60, corners.shape)], axis=1).astype(np.float32)
        grid = BoxGrid(boxes, np.zeros(len(boxes), np.int64))
        counts = [len(grid.pairs(start, stop)[0]) for start, stop in grid.blocks()]
        pairs[side], largest = sum(counts), max(largest, *counts)
    assert pairs[9] < 4 * 4860 and 3.5 < pairs[18] / pairs[9] < 4.5  # four times the windows, four times the work
    assert largest <= MOST_PAIRS


def test_a_grid_of_cells_pairs_every_two_boxes_that_touch_or_are_equal_once():
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 100, (120, 2)).round()
    sides = np.where(rng.random((120, 1)) < 0.2, rng.uniform(50, 300, (120, 2)), rng.integers(0, 9, (120, 2)))
    boxes, labels = np.concatenate([corners, corners + sides], axis=1).astype(np.float32), rng.integers(0, 2, 120)
    grid = BoxGrid(boxes, labels)
    found = [pair for start, stop in grid.blocks() for pair in zip(*(x.tolist() for x in grid.pairs(start, stop)))]
    touching = (iou_matrix(boxes, boxes) > 0) & (labels[:, None] == labels[None])
    assert len(set(found)) == len(found) and set(zip(*np.nonzero(np.triu(touching, 1)))) <= set(found)
