"""What must be known of an evaluation's rates before anybody believes them: sentences for logs and reports.

A rate of 0 % is a finding only where it could have been another: a set without good parts says nothing of escapes, as
calling everything bad has none; and so for false alarms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dao.dataloaders.census import sentence
from dao.evaluators.factory import Rate, wilson
from dao.words.counted import counted

FEW = 20  # parts of a side, below which a rate may be almost anything
Rates = Mapping[str, Any]


def rates_text(rates: Rates, escapes: str = "escapes", alarms: str = "false alarms") -> str:
    """Both rates for a line of a log, with what takes their meaning away: ``escapes 0.0 % (...)  false alarms ...``."""
    escape, alarm = (Rate(**rates[key]) for key in ("escape_rate", "false_alarm_rate"))
    hollow = verdict_of(escape, alarm)
    return f"{escapes} {escape.text()}  {alarms} {alarm.text()}" + (f"  (no finding: {hollow})" if hollow else "")


def verdict_of(escape: Rate, alarm: Rate) -> str:
    """Why a rate of 0 is none in a few words, "" where it is one.

    escape: of bad parts; alarm: of good ones.
    """
    if not escape.total or not alarm.total:
        missing = "good" if escape.total else "bad"
        return f"no {missing} part in the set" if escape.total or alarm.total else ""
    if escape.count == 0 and alarm.count == alarm.total:
        return "every part was called bad"
    if alarm.count == 0 and escape.count == escape.total:
        return "every part was called good"
    return ""


def of_rates(rates: Rates) -> list[str]:
    """What is to be said of the two rates of a set, a sentence each; nothing where they mean what they say."""
    escape, alarm = (Rate(**rates[key]) for key in ("escape_rate", "false_alarm_rate"))
    said = {
        "no good part in the set": "the set holds no good part, so its escape rate is no finding: a model that calls "
        "everything bad would have none. Add good parts, and the false alarms can be counted too",
        "no bad part in the set": "the set holds no bad part, so its false-alarm rate is no finding: a model that calls "
        "everything good would have none. Add bad parts, and the escapes can be counted too",
        "every part was called bad": "every part was called bad, the good ones too: that none escapes is no finding. Look "
        "at the scores and the threshold",
        "every part was called good": "every part was called good, the bad ones too: that there is no false alarm is no "
        "finding. Look at the scores and the threshold",
        "": "",
    }[verdict_of(escape, alarm)]
    return [*([said] if said else []), *_few(escape, "bad", "escape"), *_few(alarm, "good", "false-alarm")]


def _few(rate: Rate, side: str, name: str) -> list[str]:
    if not 0 < rate.total < FEW:
        return []
    most = wilson(0, rate.total).high * 100
    only = f"only {counted(rate.total, f'{side} part')}"
    return [
        f"{only}: with so few a counted {name} rate of 0 % may be anything up to {most:.0f} %; judge by the interval, and "
        f"by {FEW} and more"
    ]


def of_undecided(paths: Sequence[str], min_area: int) -> list[str]:
    """Why pictures with marks are in neither rate of masks. paths: of those whose marks are all smaller than ``min_area``."""
    if not paths:
        return []
    kind = "pictures with nothing but marks smaller than min_area"
    return [
        f"{sentence(kind, paths)}. Neither good nor bad, so they are not among the escapes and false alarms: marks count from "
        f"{counted(min_area, 'pixel')} on, which evaluator.kwargs.min_area sets"
    ]


def of_unlabelled(count: int) -> list[str]:
    """Why pictures without a labelled pixel are counted nowhere."""
    return [f"{counted(count, 'picture')} without a labelled pixel in the mask: counted nowhere"] if count else []


def no_known_good(classes: Sequence[str]) -> str:
    """Why a classifier's report has no escapes, and what to do about it."""
    shown = ", ".join(classes[:8]) + (f", ... ({len(classes)} in all)" if len(classes) > 8 else "")
    return (
        f"escapes and false alarms are not counted, as no class is known to mean a good part (the classes: {shown}). Name "
        "those that do by -o evaluator.kwargs.good.0=NAME, or those that mean a defect by evaluator.kwargs.positive.0=NAME"
    )


def crowded(most_true: int, pictures: int, counted: int) -> list[str]:
    """Where pictures hold more objects of a class than are counted, no answer reaches an AP of 1.

    most_true: objects of one class in one picture; pictures: how many hold more than ``counted``.
    """
    if not pictures:
        return []
    hold = "1 picture holds" if pictures == 1 else f"{pictures} pictures hold"
    return [
        f"{hold} more objects of a class (up to {most_true}) than the {counted} best boxes that AP counts, so no answer "
        "reaches an AP of 1: set evaluator.kwargs.max_detections, and the model's max_detections where it answers fewer"
    ]
