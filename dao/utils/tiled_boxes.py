"""Boxes of overlapping windows put together again: each object once, also where no window saw the whole of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dao.tiling import Window
from dao.utils.matching import Boxes, intersections, iou_matrix

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
    group = np.arange(len(found))
    pieces = np.flatnonzero(cut)
    alike = intersections(found.xyxy[pieces], found.xyxy[pieces]) > 0
    alike &= found.labels[pieces][:, None] == found.labels[pieces]
    alike &= found.scores[pieces][:, None] >= SIMILAR_SCORE * found.scores[pieces]
    for i, j in pieces[np.argwhere(np.triu(alike & alike.T, 1))]:
        if _one_object(found.xyxy, source, windows, i, j):
            group[group == group[j]] = group[i]
    xyxy, scores, single = found.xyxy.copy(), found.scores.copy(), cut.copy()
    kept = []
    for g in np.unique(group):
        members = np.flatnonzero(group == g)
        first = members[0]
        kept.append(first)
        if len(members) > 1:
            xyxy[first] = (*found.xyxy[members, :2].min(axis=0), *found.xyxy[members, 2:].max(axis=0))
            scores[first], single[first] = found.scores[members].max(), False
    return Boxes(xyxy, found.labels, scores).take(np.array(kept)), single[kept]


def _one_object(
    xyxy: NDArray[np.float32], source: NDArray[np.int64], windows: Sequence[Window], i: int, j: int
) -> bool:
    """Whether two pieces look alike in what both of their windows see."""
    first, second = windows[source[i]], windows[source[j]]
    if source[i] == source[j]:
        return False
    low = np.array([max(first.left, second.left), max(first.top, second.top)])
    high = np.array([min(first.right, second.right), min(first.bottom, second.bottom)])
    if (low >= high).any():
        return False
    strip = np.concatenate([low, high])[None].astype(np.float32)
    one, other = (np.clip(xyxy[k][None], strip[:, [0, 1, 0, 1]], strip[:, [2, 3, 2, 3]]) for k in (i, j))
    return bool(iou_matrix(one, other)[0, 0] >= SAME_STRIP)


def _keep_best(found: Boxes, cut: NDArray[np.bool_], nms_threshold: float) -> Boxes:
    """Suppression within each class: whole boxes go before pieces, then by score."""
    order = np.lexsort((-found.scores, cut))
    found, cut = found.take(order), cut[order]
    overlap = iou_matrix(found.xyxy, found.xyxy)
    areas = np.maximum(np.diag(intersections(found.xyxy, found.xyxy)), 1e-12)
    within = intersections(found.xyxy, found.xyxy) / areas[None]  # share of the column's box inside the row's
    hidden = (overlap > nms_threshold) | ((within > MOSTLY_INSIDE) & cut[None])
    hidden &= found.labels[:, None] == found.labels[None]
    alive = np.ones(len(found), bool)
    for i in range(len(found)):
        if alive[i]:
            alive[i + 1 :] &= ~hidden[i, i + 1 :]
    kept = found.take(alive)
    return kept.take(np.argsort(-kept.scores, kind="stable"))
