"""From scores to verdicts, one rule for each problem: decoding, reports and curves all call these and nothing else.

Everywhere a score counts from its threshold on (score >= threshold), compared in float64: a threshold that a report
proposes means the same in each place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

SURE = 1.0  # the badness of what the threshold of its own class calls bad, whatever the others' threshold
REVIEW = "review"  # the verdict where somebody has to look: nobody knows what is bad, or there is no answer
DIGITS = 17  # that any float64 needs at most


def least_float32(threshold: float) -> np.float32:
    """The lowest float32 that reaches a threshold: maps are compared with it as they are, with float64's result."""
    value = np.float32(threshold)
    return value if float(value) >= threshold else np.nextafter(value, np.float32(np.inf))


def verdict(bad: bool) -> str:
    """The word for it."""
    return "bad" if bad else "good"


def badness_words(badness: float, threshold: float | None) -> str:
    """How bad a part looks, and from which badness on it is bad."""
    known = f", bad from {threshold:g}" if threshold is not None else ""
    return f"badness {badness:.3f}{known}"


# -- one score a class -------------------------------------------------------------------------------------------------


def badness(
    scores: NDArray[np.floating], bad: Sequence[int], own: Mapping[int, float], several: bool
) -> NDArray[np.float64]:
    """(N,) how bad each part looks, 0..1.

    scores: (N, K); bad: classes that mean a defect; own: thresholds of single classes; several: labels a picture.
    With one label a picture, the likeliest bad class against the likeliest good one, as a share of both: 0.5 is where the
    likeliest class of all turns from good to bad, however many kinds of defect share the probability (their sum passes 0.5
    where every one of them is less likely than good). With several labels the highest of the bad classes' scores.
    Classes with a threshold of their own have no part in it, and make it `SURE` from there on.
    """
    shared = [k for k in bad if k not in own]
    found = _highest(scores, shared)
    if not several:
        found = against_good(found, _highest(scores, [k for k in range(scores.shape[1]) if k not in bad]))
    for k in bad:
        if k in own:
            found[scores[:, k].astype(np.float64) >= own[k]] = SURE
    return found


def _highest(scores: NDArray[np.floating], classes: Sequence[int]) -> NDArray[np.float64]:
    """(N,) the highest score of some classes; 0 of none."""
    if not classes:
        return np.zeros(len(scores), np.float64)
    among = np.zeros(scores.shape[1], bool)
    among[list(classes)] = True
    return np.where(among, scores, scores.dtype.type(-np.inf)).max(1).astype(np.float64)


def against_good(bad: NDArray[np.float64], good: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) bad / (bad + good), and 0 where both are 0."""
    return np.divide(bad, bad + good, out=np.zeros_like(bad), where=bad + good > 0)


def part_label(
    scores: NDArray[np.floating], bad: Sequence[int], threshold: float | None, own: Mapping[int, float]
) -> tuple[int, bool | None]:
    """The class of a picture with one label, and whether it means a bad part; None where nobody knows which do.

    scores: (K,). With a threshold the likeliest class of the side that it falls on, without one the likeliest of all.
    """
    best = int(scores.argmax())
    if not bad:
        return best, None
    if threshold is None and not own:
        return best, best in bad
    least = 0.5 if threshold is None else threshold
    shared = [k for k in bad if k not in own]
    sides = [k for k in bad if k in own and float(scores[k]) >= own[k]]
    good = [k for k in range(len(scores)) if k not in bad]
    if shared and against_good(_highest(scores[None], shared), _highest(scores[None], good))[0] >= least:
        sides += shared
    return max(sides or good or [best], key=lambda k: (scores[k], -k)), bool(sides)


def labels_given(scores: NDArray[np.floating], threshold: float, own: Mapping[int, float]) -> list[int]:
    """The labels of a picture that may carry several. scores: (K,)."""
    return [k for k, score in enumerate(scores) if float(score) >= own.get(k, threshold)]


# -- masks -------------------------------------------------------------------------------------------------------------


def defect_probability(probabilities: NDArray[np.float32], own: Mapping[int, float]) -> NDArray[np.float32]:
    """(H, W): how probable a defect of those classes that share a threshold is; 1 where a class with its own reaches it.

    probabilities: (K, H, W), class 0 the background.
    """
    found = np.float32(1) - probabilities[0]
    for k in own:
        found = found - probabilities[k]
    for k, least in own.items():
        found[probabilities[k] >= least_float32(least)] = SURE
    return np.clip(found, 0, 1)


def class_map(probabilities: NDArray[np.float32], threshold: float, own: Mapping[int, float]) -> NDArray[np.uint8]:
    """(H, W): the likeliest defect class wherever the threshold is reached, else 0."""
    if len(probabilities) == 1:
        return np.zeros(probabilities.shape[1:], np.uint8)
    least = least_float32(threshold)
    called = defect_probability(probabilities, own) >= least
    if not own:
        return np.where(called, 1 + probabilities[1:].argmax(0), 0).astype(np.uint8)
    shared = defect_probability(probabilities, dict.fromkeys(own, np.inf)) >= least
    may = [probabilities[k] >= least_float32(own[k]) if k in own else shared for k in range(1, len(probabilities))]
    eligible = np.where(np.stack(may), probabilities[1:], -1)
    return np.where(called, 1 + eligible.argmax(0), 0).astype(np.uint8)


def large_regions(mask: NDArray[np.uint8], min_area: int) -> NDArray[np.uint8]:
    """The same mask without its connected regions (of any class, diagonals included) of fewer than ``min_area`` pixels."""
    if min_area <= 1 or not mask.any():
        return mask
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 0).view(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= min_area
    keep[0] = False
    return mask * keep[labels]


# -- boxes -------------------------------------------------------------------------------------------------------------


def least_scores(labels: NDArray[np.integer], threshold: float, own: Mapping[int, float]) -> NDArray[np.float64]:
    """(N,) from which score on each box is shown, and says that the picture is bad."""
    least = np.full(len(labels), threshold, np.float64)
    for k, value in own.items():
        least[labels == k] = value
    return least


def shown_boxes(
    labels: NDArray[np.integer], scores: NDArray[np.floating], threshold: float, own: Mapping[int, float]
) -> NDArray[np.bool_]:
    """(N,) which boxes are shown."""
    return scores.astype(np.float64) >= least_scores(labels, threshold, own)


def box_badness(labels: NDArray[np.integer], scores: NDArray[np.floating], own: Mapping[int, float]) -> float:
    """How bad a picture looks by its boxes: the highest score of the classes that share a threshold; `SURE` where a box
    reaches the threshold of its own class; 0 where nothing was found."""
    alone = np.isin(labels, list(own))
    if shown_boxes(labels[alone], scores[alone], np.inf, own).any():
        return SURE
    return float(scores[~alone].max(initial=0))


# -- maps of strangeness -----------------------------------------------------------------------------------------------


def strange_regions(
    raw_map: NDArray[np.float32],
    bad: bool,
    pixel_threshold: float,
    region_threshold: float | None = None,
    min_area: int = 1,
) -> NDArray[np.uint8]:
    """(H, W) of 0 and 1: the regions above the pixel threshold that speak for a bad part.

    Those that reach ``region_threshold`` somewhere, and in a bad picture the one with the map's peak: so that what is
    outlined and the verdict agree. None takes every region, as models of before do.
    """
    mask = (raw_map >= least_float32(pixel_threshold)).astype(np.uint8)
    if region_threshold is None or not mask.any():
        return large_regions(mask, min_area)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = np.zeros(len(stats), bool)
    keep[np.unique(labels[raw_map >= least_float32(region_threshold)])] = True
    if bad:
        keep[labels.reshape(-1)[int(raw_map.argmax())]] = True
    keep &= stats[:, cv2.CC_STAT_AREA] >= min_area
    keep[0] = False
    return keep[labels].astype(np.uint8)


# -- thresholds that can be written down -------------------------------------------------------------------------------


def between(low: float, high: float) -> float:
    """A short decimal well between two scores, so that neither rounding nor another runtime moves one across it;
    ``high`` itself where there is no room."""
    middle, quarter = low + (high - low) / 2, (high - low) / 4
    for digits in range(1, DIGITS + 1):
        value = float(f"{middle:.{digits}g}")
        if low < low + quarter <= value <= high - quarter < high:
            return value
    return high
