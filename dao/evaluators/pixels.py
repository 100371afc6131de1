"""Counts of pixels that metrics of masks are made of. They add up over pictures and over processes."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

IGNORE = 255
SMALL_REACH = 4  # pixels
ROWS = 1024  # of a block
Mask = NDArray[np.uint8]
Counts = NDArray[np.int64]


def confusion(truth: Mask, predicted: Mask, num_classes: int) -> Counts:
    """(K, K) pixels of each true class (rows) that were called what (columns); unlabelled ones are left out.

    truth, predicted: (H, W) class indices.
    """
    counts = np.zeros(num_classes**2, np.int64)
    for top in range(0, truth.shape[0], ROWS):  # a block at a time: the pairs take eight bytes a pixel
        true, said = truth[top : top + ROWS], predicted[top : top + ROWS]
        labelled = true != IGNORE
        pairs = true[labelled].astype(np.int64) * num_classes + said[labelled]
        counts += np.bincount(pairs, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def iou(counts: Counts) -> NDArray[np.float64]:
    """(K,) intersection over union; NaN for a class that neither the truth nor the prediction has."""
    hit = np.diag(counts).astype(np.float64)
    return _ratio(hit, counts.sum(0) + counts.sum(1) - hit)


def dice(counts: Counts) -> NDArray[np.float64]:
    """(K,) Dice coefficient, which is the F1 of pixels; NaN as in `iou`."""
    return _ratio(2.0 * np.diag(counts), counts.sum(0) + counts.sum(1))


def precision_recall(counts: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(K,) each: share of a class's called pixels that are right, and of its true pixels that were called."""
    hit = np.diag(counts).astype(np.float64)
    return _ratio(hit, counts.sum(0)), _ratio(hit, counts.sum(1))


def _ratio(top: NDArray[np.floating], bottom: NDArray[np.number]) -> NDArray[np.float64]:
    return np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)


def mean(values: NDArray[np.float64]) -> float:
    """The mean of what is defined; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


# -- boundaries --------------------------------------------------------------------------------------------------------


def boundary_counts(truth: Mask, predicted: Mask, num_classes: int, tolerance: float) -> Counts:
    """(K, 4) outline pixels of each class: predicted ones, those of them within ``tolerance`` pixels of a true one,
    true ones, those of them within ``tolerance`` of a predicted one (Csurka et al. 2013, "What is a good evaluation
    measure for semantic segmentation?"). Sums over pictures give `boundary_f1`.
    """
    counts = np.zeros((num_classes, 4), np.int64)
    labelled = truth != IGNORE
    for k in np.flatnonzero(kinds_in(truth) | kinds_in(predicted)):
        if k >= num_classes:
            continue
        true_edge, said_edge = outline(truth == k) & labelled, outline(predicted == k) & labelled
        box = around(true_edge | said_edge)  # far from both there is nothing to measure
        true_edge, said_edge = true_edge[box], said_edge[box]
        counts[k] = (
            said_edge.sum(),
            (said_edge & near(true_edge, tolerance)).sum(),
            true_edge.sum(),
            (true_edge & near(said_edge, tolerance)).sum(),
        )
    return counts


def kinds_in(mask: Mask) -> NDArray[np.bool_]:
    """(256,) which values a mask holds."""
    return cv2.calcHist([np.ascontiguousarray(mask, np.uint8)], [0], None, [256], [0, 256]).reshape(-1) > 0


def around(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The box round the pixels that are set; empty where none is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def boundary_f1(counts: Counts) -> NDArray[np.float64]:
    """(K,) harmonic mean of the two shares that `boundary_counts` counts; NaN for a class without any outline."""
    said, said_right, true, true_found = counts.astype(np.float64).T
    precision, recall = said_right / np.maximum(said, 1), true_found / np.maximum(true, 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return np.where(said + true > 0, f1, np.nan)


def outline(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W) bool: pixels of a region with a neighbour, of four, outside it; the picture's border is no outside."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inside = cv2.erode(region.astype(np.uint8), cross, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return region & (inside == 0)


def near(pixels: NDArray[np.bool_], distance: float) -> NDArray[np.bool_]:
    """(H, W) bool: what lies within ``distance`` pixels of any of these."""
    if not pixels.any():
        return np.zeros_like(pixels)
    reach = int(distance)
    if reach <= SMALL_REACH:  # a disc laid on every pixel costs less than the distances of all
        steps = np.arange(-reach, reach + 1, dtype=np.float32) ** 2
        disc = (np.sqrt(steps[:, None] + steps) <= distance).astype(np.uint8)
        return cv2.dilate(pixels.astype(np.uint8), disc, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    away = cv2.distanceTransform((~pixels).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return away <= distance


def tolerance_of(hw: tuple[int, int], share: float) -> float:
    """Pixels that outlines may lie apart: a share of the picture's diagonal, at least one."""
    return max(1.0, share * math.hypot(*hw))
