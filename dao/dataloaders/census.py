"""What a set's files held and what of it was taken: the difference, by kind and number, said once a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from loguru import logger

from dao.words.counted import of_one

MAX_NAMED = 10  # how many names a sentence shows


@dataclass(slots=True)
class Census:
    """Counts of what a reader did not take as it was written. Kinds read well after a number ("boxes without area").

    omitted: kind -> names of what was left out: a problem, which `--check` fails by.
    adjusted: kind -> names of what was taken otherwise than as written (clipped, read as its box): said, no problem.
    """

    omitted: dict[str, list[str]] = field(default_factory=dict)
    adjusted: dict[str, list[str]] = field(default_factory=dict)

    def omit(self, kind: str, name: str) -> None:
        """Count something that was in the files and was left out."""
        self.omitted.setdefault(kind, []).append(name)

    def adjust(self, kind: str, name: str) -> None:
        """Count something that was taken otherwise than as it was written."""
        self.adjusted.setdefault(kind, []).append(name)

    def merge(self, other: Census) -> None:
        """Add what another reader of the same set counted."""
        for mine, theirs in ((self.omitted, other.omitted), (self.adjusted, other.adjusted)):
            for kind, names in theirs.items():
                mine.setdefault(kind, []).extend(names)

    def omissions(self) -> list[str]:
        """One sentence a kind of what was left out."""
        return [sentence(kind, names) for kind, names in self.omitted.items()]

    def adjustments(self) -> list[str]:
        """One sentence a kind of what was taken otherwise."""
        return [sentence(kind, names) for kind, names in self.adjusted.items()]

    def log(self, origin: str) -> None:
        """Say it once for a set: what was left out as a warning, the rest as a note."""
        for text in self.omissions():
            logger.warning("{}: {}", origin, text)
        for text in self.adjustments():
            logger.info("{}: {}", origin, text)


def sentence(kind: str, names: Sequence[str]) -> str:
    """A number, what of, and up to ten names: "3 boxes without area left out: a.png object 2, ..."."""
    shown = ", ".join(names[:MAX_NAMED])
    more = f", ... and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{len(names)} {of_one(kind) if len(names) == 1 else kind}: {shown}{more}"
