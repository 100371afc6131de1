"""Whether a loss can take what a task trains with: asked of the loss itself, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from dao.errors import ConfigError, Problem
from dao.register import Registers

# what a task may ask for, an attribute takes_* of the losses, and what is said where the answer is no
NEEDS = {
    "pictures": "judges no pictures by their class, and this data has one class a picture, or several",
    "multi_label": "is for one label a picture, and this data has several",
    "masks": "judges no masks, and this data has a class for every pixel",
    "unlabelled": "cannot leave out unlabelled pixels, which masks and the borders of filled-up pictures have",
    "boxes": "does not judge boxes, and a detector needs that",
}


def refuse_unfit(loss: nn.Module, needs: Sequence[str]) -> None:
    """Raise ConfigError naming every term of a loss that cannot take what is needed, and the losses that can.

    loss: a `WeightedSum`, or any module. A `Loss` speaks for itself and for all inside it; a module that says nothing is
    asked for its parts, and believed where they say nothing either, but for boxes: no loss judges those by chance.
    """
    problems = [
        Problem("loss.type", message) for term in getattr(loss, "losses", [loss]) for message in objections(term, needs)
    ]
    if problems:
        raise ConfigError(problems)


def objections(term: nn.Module, needs: Sequence[str]) -> list[str]:
    """What a term has against the data, in words."""
    if getattr(term, "takes_boxes", False) and "boxes" not in needs:
        return [f"{type(term).__name__} judges boxes, and this task has none"]
    return [message_of(module, need) for need in needs for module in deniers(term, need)]


def deniers(term: nn.Module, need: str) -> Iterator[nn.Module]:
    """The modules of a term that say no."""
    word = getattr(term, f"takes_{need}", None)
    if word is None and need == "boxes":
        word = False
    if word is False:
        yield term
    elif word is None:
        for part in term.children():
            yield from deniers(part, need)


def message_of(module: nn.Module, need: str) -> str:
    """What is said of a loss that cannot take something: which ones can, and how one says so of one's own."""
    able = [name for name in Registers.losses if getattr(Registers.losses.get(name), f"takes_{need}", None) is True]
    say = f"a loss of your own that can says takes_{need} = True in its class"
    return f"{type(module).__name__} {NEEDS[need]}; use {', '.join(able)} ({say})"
