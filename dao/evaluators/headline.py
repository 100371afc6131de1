"""The two numbers in words: short on an epoch's line, with their intervals as the last lines of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dao.evaluators.factory import Rate
from dao.evaluators.remarks import verdict_of
from dao.words.counted import counted

NUMBERS = {"escapes": "escape_rate", "false alarms": "false_alarm_rate"}


def line_of(metrics: Mapping[str, float], names: Sequence[str], details: Mapping[str, Any], found: str = "") -> str:
    """Named metrics that could be told, what was found, and the two counts: one line of a log.

    details: an evaluator's, of which "factory" holds the rates; found: what else belongs on the line.
    """
    words = [f"{name} {metrics[name]:.4f}" for name in names if metrics.get(name, float("nan")) == metrics.get(name)]
    words += [found] if found else []
    rates = {
        word: Rate(**details["factory"][key]) for word, key in NUMBERS.items() if key in details.get("factory", {})
    }
    hollow = verdict_of(*rates.values()) if len(rates) == len(NUMBERS) else ""
    told = [f"{word} {rate.count} of {rate.total}" for word, rate in rates.items() if rate.total]
    # where nobody knows which parts are good, there is nothing to count but pictures
    return "  ".join(
        [
            *words,
            *(told or [f"({counted(int(metrics.get('pictures', 0)), 'picture')})"]),
            *([f"(no finding: {hollow})"] if hollow else []),
        ]
    )


def two_numbers(details: Mapping[str, Any]) -> list[str]:
    """The lines that a run ends with: each rate with its 95 % interval, or why there is none."""
    rates = details.get("factory") or {}
    if not all(key in rates for key in NUMBERS.values()):
        return [
            "escapes, false alarms: not counted; no class is known to mean a good part (name it: -o evaluator.kwargs.good.0=NAME)"
        ]
    both = {word: Rate(**rates[key]) for word, key in NUMBERS.items()}
    lines = [f"{word + ':':<13} {_told(word, rate)}" for word, rate in both.items()]
    hollow = verdict_of(*both.values())
    return [*lines, f"no finding: {hollow}"] if hollow else lines


def _told(word: str, rate: Rate) -> str:
    if rate.total:
        return rate.text()
    return f"none counted; these pictures hold no {'bad' if word == 'escapes' else 'good'} part"


def judged_at(point: Mapping[str, Any]) -> str:
    """What turned scores into the verdicts that were counted, and who set it. point: an evaluator's `operating_point`."""
    told, by = [], point.get("set_by", {})
    for name, value in point.items():
        if name in ("set_by", "bad_classes") or value is None or value == {}:
            continue
        text = " and ".join(f"{k} {v:g}" for k, v in value.items()) if isinstance(value, Mapping) else f"{value:g}"
        told.append(f"{name} {text}" + (f" ({by[name]})" if name in by else ""))
    return f"judged at {', '.join(told)}" if told else "judged at the defaults: no threshold was set"
