"""The operating point of a model: the facts of its card that turn scores into verdicts, and who set them.

One table of them for all problems stands in notes/OperatingPoints; `dao.answers.verdicts` says what they do.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from dao.errors import Problem, nearest

SET_BY = "set_by"  # the fact that says of each point that was set, where
EVEN = 0.5  # as likely bad as good
MIN_AREA = 5  # pixels, of a region that counts, in models that were not told


def own_thresholds(facts: Mapping[str, Any], classes: Sequence[str]) -> dict[int, float]:
    """Thresholds of single classes by index."""
    return {classes.index(name): float(value) for name, value in facts.get("class_thresholds", {}).items()}


def bad_indices(facts: Mapping[str, Any], classes: Sequence[str]) -> list[int]:
    """Classes that mean a bad part; none where that is not known."""
    return [classes.index(name) for name in facts.get("bad_classes", ())]


def changed(facts: Mapping[str, Any], given: Mapping[str, Any], how: Mapping[str, str]) -> dict[str, Any]:
    """Facts with others in their place; how: where each was set. One that is what it was keeps its history."""
    set_by = dict(facts.get(SET_BY, {}))
    for name, value in given.items():
        if name not in facts or facts[name] != value:
            set_by[name] = how[name]
    return {**facts, **given, SET_BY: set_by}


def problems(given: Mapping[str, Any], classes: Sequence[str], places: Mapping[str, str]) -> list[Problem]:
    """What is wrong with the values of operating points. places: where each was written."""
    found = []
    for name, value in given.items():
        where = places[name]
        if name == "threshold" and value is not None:
            found += share(value, where)
        elif name == "class_thresholds":
            found += _of_classes(value, classes, where)
        elif name == "min_area" and value is not None:
            found += _pixels(value, where)
        elif name == "bad_classes":
            found += _names(value, classes, where)
    return found


def is_number(value: Any) -> bool:
    """Whether a value can be calculated with: finite as a float64, and no true or false."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) <= sys.float_info.max


def _names(value: Any, classes: Sequence[str], where: str) -> list[Problem]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        return [Problem(where, f'expected a list of classes, as ["{classes[-1]}"], got {value!r}')]
    twice = sorted({one for one in value if value.count(one) > 1})  # whose score would count twice
    found = [Problem(where, f"names '{one}' twice") for one in twice]
    unknown = sorted(set(value) - set(classes))
    return found + [Problem(where, f"'{one}' is not a class. {nearest(one, classes)}") for one in unknown]


def share(value: Any, where: str) -> list[Problem]:
    """What is wrong with a threshold of scores that lie in 0..1."""
    if is_number(value) and 0 < value <= 1:
        return []
    return [Problem(where, f"expected above 0, at most 1, got {value!r}")]


def _pixels(value: Any, where: str) -> list[Problem]:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return []
    return [Problem(where, f"expected a number of pixels from 1 up, got {value!r}")]


def _of_classes(value: Any, classes: Sequence[str], where: str) -> list[Problem]:
    if not isinstance(value, Mapping):
        return [Problem(where, f'expected thresholds by class, as {{"{classes[-1]}": 0.4}}, got {value!r}')]
    found = []
    for name, threshold in value.items():
        if name not in classes:
            found.append(Problem(f"{where}.{name}", f"is not a class. {nearest(name, list(classes))}"))
        else:
            found += share(threshold, f"{where}.{name}")
    return found
