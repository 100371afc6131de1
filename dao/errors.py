"""Every error a user can cause, in one tree.

AICoreError              shown as one message, without a traceback; exit code 2
├── ConfigError          the config file, an override or a command-line argument
├── DataError            pictures, labels, lists: what was read from disk
├── CheckpointError      a checkpoint or an exported file that is missing, torn or of another model
│   └── AnswerError      what a model says of a picture is no answer: NaN or infinity
├── RunError             the run itself can go no further (loss not finite, no memory for the cache)
└── ParityError          an exported file that does not answer as the model does; exit code 1

Whatever is not an AICoreError is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from dao.words.counted import counted


class AICoreError(Exception):
    """Base of all errors that are shown to the user as one message."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a config: where it stands (``loss.kwargs.gama``) and what is wrong with it."""

    where: str
    what: str


class ConfigError(AICoreError):
    """One or more problems of a config, reported together.

    ``source`` is the file they stand in; ``problems`` are printed as an aligned table.
    """

    def __init__(self, problems: Problem | str | Iterable[Problem], source: str = "") -> None:
        if isinstance(problems, str):
            problems = [Problem("", problems)]
        elif isinstance(problems, Problem):
            problems = [problems]
        self.problems: list[Problem] = list(problems)
        self.source = source
        super().__init__(self._render())

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[Problem], str]]:
        """Travels between processes with its problems apart; the default would carry the rendered text only."""
        return type(self), (self.problems, self.source)

    def _render(self) -> str:
        title = f"config error in {self.source}" if self.source else "config error"
        width = max((len(p.where) for p in self.problems), default=0)
        rows = [f"  {p.where:<{width}}  {p.what}" if width else f"  {p.what}" for p in self.problems]
        count = f"{counted(len(self.problems), 'problem')}; nothing was started."
        return "\n".join([title, *rows, count])


class DataError(AICoreError):
    """Pictures or labels that are missing, unreadable or contradictory."""


class CheckpointError(AICoreError):
    """A checkpoint or exported file that cannot be used for what was asked."""


class AnswerError(CheckpointError):
    """Of one picture a model gave numbers that are not finite."""


class RunError(AICoreError):
    """The run can go no further, and going on would hide why."""


class ParityError(AICoreError):
    """The exported file and the model it was made from do not agree within tolerance."""

    exit_code = 1


def like(name: str, known: Sequence[str], limit: int = 3) -> list[str]:
    """The known names that a misspelt one may have been meant for, the nearest first.

    >>> like("gama", ["alpha", "gamma"])
    ['gamma']
    """
    lower = {k.lower(): k for k in sorted(known, reverse=True)}  # of names that differ in case alone, the first
    return [lower[m] for m in get_close_matches(name.lower(), list(lower), n=limit, cutoff=0.6)]


def nearest(name: str, known: Sequence[str], limit: int = 3) -> str:
    """A sentence that helps with a misspelt name: its nearest known names, or all of them when few.

    >>> nearest("resnt18", ["resnet18", "vgg16"])
    'Nearest: resnet18'
    """
    close = like(name, known, limit)
    if close:
        return f"Nearest: {', '.join(close)}"
    if not known:
        return "None are known"
    shown = ", ".join(sorted(known)[:12])
    return f"Known: {shown}{', ...' if len(known) > 12 else ''}"


def reason_of(error: BaseException) -> str:
    """The first line of a reader's own words, without its advice; the error's kind where that is all there is."""
    lines = str(error).strip().splitlines()
    said = lines[0].split(". ")[0][:200] if lines else ""
    advice = any(word in said.lower() for word in ("weights_only", "pickle", "trust", "unsafe"))
    return type(error).__name__ if advice or not said else said
