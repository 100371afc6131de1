"""The two scales of an anomaly model: raw scores in its method's units, and those shown, of which 0.5 is the threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

TYPICAL = 0.1  # what the middle good picture's score becomes; the threshold becomes 0.5
SLOPE = math.log((1 - TYPICAL) / TYPICAL)
NEAR = 0.5, 2.0  # of the distance from the middle good score to the threshold: what is set by hand outside is warned of


def normalised(raw: Any, facts: Mapping[str, Any], level: str) -> Any:
    """`AnomalyTask.normalised` of numpy values: the same numbers. level: "picture" or "pixel"."""
    threshold, typical = facts[f"{level}_threshold"], facts[f"{level}_typical"]
    exponent = (raw - threshold) * (-SLOPE / (threshold - typical))
    return 1 / (1 + np.exp(np.minimum(exponent, 80)))


def raw_of(shown: float, facts: Mapping[str, Any], level: str) -> float:
    """The raw score that is shown as this number, above 0 and below 1."""
    threshold, typical = facts[f"{level}_threshold"], facts[f"{level}_typical"]
    return threshold + math.log(shown / (1 - shown)) * (threshold - typical) / SLOPE


def keep_scale(level: str, before: Mapping[str, Any], after: dict[str, Any]) -> None:
    """A threshold at or below the usual good score leaves no room for a scale: then it keeps the one that it had."""
    threshold, typical = f"{level}_threshold", f"{level}_typical"
    if after[threshold] <= after[typical]:
        after[typical] = after[threshold] - (before[threshold] - before[typical])


def far_threshold(level: str, given: float, facts: Mapping[str, Any], where: str) -> str:
    """What is to be said of a threshold that was set by hand far from the model's own, as one on the scale shown is;
    "" where it is near. facts: of the model, before it was set; where: what set it."""
    own, typical = facts[f"{level}_threshold"], facts[f"{level}_typical"]
    if own <= typical:  # all good scores were equal: nothing tells far from near
        return ""
    share = (given - typical) / (own - typical)
    if NEAR[0] <= share <= NEAR[1]:
        return ""
    then = "good ones reach it and will be called bad" if share < 1 else "bad ones below it will be called good"
    said = (
        f"{where} = {given:.6g} is far from this model's own {level}_threshold, {own:.6g}. Both are raw scores. On the scale of "
        f"the scores shown (0.1 the middle good {level}, bad from 0.5) {given:.6g} stands at "
        f"{normalised(np.float64(given), facts, level):.2f}: {then}"
    )
    meant = (
        f". If {given:g} of the scale shown was meant, set {raw_of(given, facts, level):.6g}" if 0 < given < 1 else ""
    )
    return said + meant
