"""Boxes of overlapping windows put together again: each object once, also where no window saw the whole of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dao.answers.box_grid import BoxGrid
from dao.answers.matching import Boxes, common_area, iou
from dao.preprocess.tiling import Window

AT_BORDER = 2.0  # pixels from a window's border within which a box is taken to be cut there
MOSTLY_INSIDE = 0.6  # share of a cut box within a better one, from which on it is a piece of it
SIMILAR_SCORE = 0.25  # of the better of two pieces, below which the other is not trusted to be of the same object
SAME_STRIP = 0.5  # IoU, inside the strip that two windows share, of two pieces of one object


def merge_windows(answers: Sequence[tuple[Window, Boxes]], original_hw: tuple[int, int], nms_threshold: float) -> Boxes:
    """One list of boxes in the picture's pixels, the best first.

    answers: windows with the boxes found in them, in the window's pixels. A box that ends at a border which another
    window looks across is a piece: pieces that agree in the strip their windows share become one box with the better
    score; a piece that lies within a whole box of its class goes, whatever its score.
    """
    parts = [_in_picture(window, boxes, original_hw) for window, boxes in answers]
    found = Boxes(
        *(
            np.concatenate([getattr(boxes, name) for boxes, _ in parts]) if parts else np.zeros(shape, dtype)
            for name, shape, dtype in (
                ("xyxy", (0, 4), np.float32),
                ("labels", 0, np.int64),
                ("scores", 0, np.float32),
            )
        )
    )
    if not len(found):
        return found
    cut = np.concatenate([flags for _, flags in parts])
    source = np.repeat(np.arange(len(parts)), [len(boxes) for boxes, _ in parts])
    found, cut = _join_pieces(found, cut, source, [window for window, _ in answers])
    return _keep_best(found, cut, nms_threshold)


def _in_picture(window: Window, boxes: Boxes, original_hw: tuple[int, int]) -> tuple[Boxes, NDArray[np.bool_]]:
    """Boxes moved to the picture, and which of them are cut by a border of the window inside the picture."""
    moved = boxes.xyxy + np.array([window.left, window.top] * 2, np.float32)
    inner = np.array([window.left > 0, window.top > 0, window.right < original_hw[1], window.bottom < original_hw[0]])
    border = np.array([window.left, window.top, window.right, window.bottom], np.float32)
    cut = ((np.abs(moved - border) <= AT_BORDER) & inner).any(axis=1)
    return Boxes(moved, boxes.labels, boxes.scores), cut


def _join_pieces(
    found: Boxes, cut: NDArray[np.bool_], source: NDArray[np.int64], windows: Sequence[Window]
) -> tuple[Boxes, NDArray[np.bool_]]:
    """Pieces of one object become one whole box round them all."""
    group = _groups(found, cut, source, windows)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    several = np.diff(np.append(starts, len(group))) > 1
    near = np.minimum.reduceat(found.xyxy[order, :2], starts)
    far = np.maximum.reduceat(found.xyxy[order, 2:], starts)
    first = order[starts]
    scores = np.maximum.reduceat(found.scores[order], starts)
    return Boxes(np.concatenate([near, far], axis=1), found.labels[first], scores), cut[first] & ~several


def _groups(
    found: Boxes, cut: NDArray[np.bool_], source: NDArray[np.int64], windows: Sequence[Window]
) -> NDArray[np.int64]:
    """(N,) which boxes are pieces of one object: equal numbers."""
    group = np.arange(len(found))
    pieces = np.flatnonzero(cut)
    frames = np.array([(w.left, w.top, w.right, w.bottom) for w in windows], np.float32)
    own, frame, scores = found.xyxy[pieces], frames[source[pieces]], found.scores[pieces]
    grid = BoxGrid(own, found.labels[pieces])
    for start, stop in grid.blocks():
        i, j = grid.pairs(start, stop)
        alike = (source[pieces[i]] != source[pieces[j]]) & (common_area(own[i], own[j]) > 0)
        alike &= np.minimum(scores[i], scores[j]) >= SIMILAR_SCORE * np.maximum(scores[i], scores[j])
        i, j = i[alike], j[alike]
        one = _one_object(own[i], frame[i], own[j], frame[j])
        group = _joined(group, pieces[i[one]], pieces[j[one]])
    return group


def _joined(group: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """The groups after each pair's second box has come to its first one's: most pairs are of one group already."""
    apart = group[first] != group[second]
    for a, b in sorted(zip(first[apart].tolist(), second[apart].tolist())):
        group[_root(group, b)] = _root(group, a)
    while (group != group[group]).any():
        group = group[group]
    return group


def _root(group: NDArray[np.int64], k: int) -> int:
    """The number that stands for a box's group; the way there is made shorter for the next."""
    while group[k] != k:
        group[k] = group[group[k]]
        k = int(group[k])
    return k


def _one_object(
    first: NDArray[np.float32], its: NDArray[np.float32], second: NDArray[np.float32], other: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """(P,) whether two pieces look alike in what both of their windows see: boxes (P, 4) and their windows (P, 4)."""
    low, high = np.maximum(its[:, :2], other[:, :2]), np.minimum(its[:, 2:], other[:, 2:])
    seen = [np.clip(boxes, np.tile(low, 2), np.tile(high, 2)) for boxes in (first, second)]
    return (low < high).all(axis=1) & (iou(*seen) >= SAME_STRIP)


def _keep_best(found: Boxes, cut: NDArray[np.bool_], nms_threshold: float) -> Boxes:
    """Suppression within each class: whole boxes go before pieces, then by score."""
    order = np.lexsort((-found.scores, cut))
    found, cut = found.take(order), cut[order]
    alive = np.ones(len(found), bool)
    grid = BoxGrid(found.xyxy, found.labels)
    for start, stop in grid.blocks():
        first, second = grid.pairs(start, stop, alive)
        hidden = _hides(found.xyxy[first], found.xyxy[second], cut[second], nms_threshold)
        first, second = first[hidden], second[hidden]
        starts = np.flatnonzero(np.diff(first, prepend=-1))
        for begin, end in zip(starts, np.append(starts[1:], len(first))):
            if alive[first[begin]]:
                alive[second[begin:end]] = False
    kept = found.take(alive)
    return kept.take(np.argsort(-kept.scores, kind="stable"))


def _hides(
    better: NDArray[np.float32], other: NDArray[np.float32], cut: NDArray[np.bool_], nms_threshold: float
) -> NDArray[np.bool_]:
    """(P,) whether a better box (P, 4) is the other (P, 4) once more, or has it, a piece, within itself."""
    hidden = iou(better, other) > nms_threshold
    better, other = better[cut], other[cut]
    hidden[cut] |= common_area(better, other) / np.maximum(common_area(other, other), 1e-12) > MOSTLY_INSIDE
    return hidden
