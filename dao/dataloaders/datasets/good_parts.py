"""Which folder or label of an anomaly set holds the good parts: the one that was named, else the one known name there."""

from __future__ import annotations

from collections.abc import Iterable

from loguru import logger

from dao.dataloaders.datasets.base import some
from dao.errors import DataError
from dao.words.good_names import good_names

GOOD = "good"  # what good pictures are called in reports and cards, whatever the data calls them


def known_good(names: Iterable[str], origin: str, what: str) -> str | None:
    """The one of these names that means a good part (dao/words/good_names.py); None where there is none.

    what: "folder" or "label", for the message. Raises DataError where several mean it.
    """
    found = good_names(sorted(set(names)))
    if len(found) > 1:
        raise DataError(
            f"{origin}: {len(found)} {what}s mean a good part by their names: {some(found)}. Expected one: say which by "
            f"dataset.kwargs.good (every other {what} is a kind of defect), or make them one"
        )
    if not found:
        return None
    if found[0] != GOOD:
        logger.info(
            "{}: the {} '{}' holds the good parts, by its name (dataset.kwargs.good names another)",
            origin, what, found[0],
        )  # fmt: skip
    return found[0]


def need_good(names: Iterable[str], origin: str, what: str, hint: str = "") -> str:
    """`known_good`, where there must be one. Raises DataError naming what there is."""
    names = sorted(set(names))
    found = known_good(names, origin, what)
    if found is None:
        raise DataError(
            f"{origin}: no {what} means a good part by its name, as good, ok, normal or 合格 do; there is: "
            f"{some(names) or f'no {what}'}. Say which one does by dataset.kwargs.good{hint}"
        )
    return found


def refuse_other_good(kinds: Iterable[str], good: str, origin: str, what: str) -> None:
    """Raise DataError where a kind of defect is called "good": reports could not tell it from the good parts."""
    if good != GOOD and GOOD in kinds:
        raise DataError(
            f"{origin}: dataset.kwargs.good says '{good}', so the {what} '{GOOD}' would be a kind of defect, and reports "
            f"call good parts so; rename that {what}, or leave it out"
        )
