"""The word before what is said of a part: a verdict where nobody knows the truth, and where it is known what mistake that was."""

from __future__ import annotations

from dataclasses import dataclass

from dao.drawing.pictures import FAINT, RIGHT, WRONG
from dao.drawing.text import Color


@dataclass(frozen=True, slots=True)
class Plate:
    """A word, white on a full plate of its colour, or in that colour in an empty frame: told apart in grey as well."""

    word: str
    color: Color
    full: bool = True


NG, OK = Plate("NG", WRONG), Plate("OK", RIGHT, full=False)
NEUTRAL_NG, NEUTRAL_OK = Plate("NG", FAINT), Plate("OK", FAINT, full=False)
# told apart without red and green too; the blue is that of false alarms on a detector's sheet
ESCAPE, FALSE_ALARM = Plate("ESCAPE", (190, 20, 30)), Plate("FALSE ALARM", (0, 114, 178))


def of_verdict(bad: bool | None) -> Plate | None:
    """NG or OK; None: there is no verdict."""
    return None if bad is None else NG if bad else OK


def of_mistake(bad: bool | None, called_bad: bool | None) -> Plate | None:
    """For a sheet of what went wrong: which mistake the verdict is, else the verdict in grey, as a green OK would say that
    all is well. bad: None: nobody knows; called_bad: None: there is no verdict."""
    if called_bad is None or bad is None or bad == called_bad:
        return None if called_bad is None else NEUTRAL_NG if called_bad else NEUTRAL_OK
    return ESCAPE if bad else FALSE_ALARM
