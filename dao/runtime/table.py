"""The lines of ``python -m dao.runtime``: one a picture, and what they come to."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dao.answers.card import ModelCard
from dao.answers.verdicts import REVIEW
from dao.structures import Prediction
from dao.words.good_names import good_names
from dao.words.printable import one_line

VERDICT, NUMBER = 8, 9  # letters of the first two columns
CLASS = 5, 24  # of the third, least and most
NAMED = 6  # classes that an example names


class Table:
    """Counts what it prints.

    A picture has the badness that its verdict rests on; where nobody knows which classes mean a bad part, the score of the class.
    """

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self.unknown = "bad_classes" in card.facts and not card.facts["bad_classes"]
        self.width = min(max([CLASS[0], *(len(one_line(name)) for name in card.classes)]), CLASS[1])
        self.verdicts: Counter[str] = Counter()
        self.unreadable: dict[str, str] = {}

    def head(self) -> str:
        """The columns' names."""
        return self._line("verdict", "score" if self.unknown else "badness", "class", "picture")

    def line(self, one: Prediction) -> str:
        """Of a picture, which is counted."""
        told = one.to_dict()
        if one.error:
            self.unreadable[one.path] = one.error
            return self._line(REVIEW, "-", "-", f"{one_line(one.path)}  ({one_line(one.error)})")
        self.verdicts[told["verdict"]] += 1
        return self._line(told["verdict"], f"{told['score']:.3f}", _class(told), one_line(one.path))

    def total(self) -> str:
        """How many of each verdict, and of those without an answer; in a second line why verdicts are missing."""
        counts = [f"{count} {verdict}" for verdict, count in sorted(self.verdicts.items())]
        if self.unreadable:
            counts.append(f"{len(self.unreadable)} without an answer")
        why = f"\n{name_the_bad(self.card.classes)}" if self.unknown and self.verdicts[REVIEW] else ""
        return (", ".join(counts) or "no picture was answered") + why

    def _line(self, verdict: str, number: str, name: str, picture: str) -> str:
        return f"{verdict:<{VERDICT}}{number:>{NUMBER}}  {name:<{self.width}}  {picture}"


def name_the_bad(classes: list[str]) -> str:
    """Why a model's pictures are all for review, and what to do about it."""
    good = good_names(classes) or classes[-1:]
    bad = [name for name in classes if name not in good]
    example = ",".join(bad[:NAMED]) + (",..." if len(bad) > NAMED else "")
    return one_line(
        f"review: the model does not know which of its classes mean a bad part ({', '.join(classes)}). "
        f"Name those, and all others mean a good one; if {', '.join(good)} alone did: --set bad_classes={example}"
    )


def _class(told: dict[str, Any]) -> str:
    """The class, or all of them; of boxes none where every one is below the threshold."""
    if told["boxes"] and told["verdict"] == "good":
        return "-"
    return one_line(", ".join(told["labels"])) or "-"
