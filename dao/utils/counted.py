"""Counts in sentences: "1 picture", "2 pictures"."""

from __future__ import annotations

import re


def counted(count: int, word: str, words: str = "") -> str:
    """The number and what is counted, in the singular or the plural; words: the plural, where it isn't a regular one."""
    return f"{count} {of_number(count, word, words)}"


def of_number(count: int, word: str, words: str = "") -> str:
    """The word alone, as the number wants it."""
    return word if count == 1 else words or plural(word)


def plural(word: str) -> str:
    """The regular plural: class, classes; box, boxes; copy, copies; picture, pictures."""
    if re.search(r"(s|x|z|ch|sh)$", word):
        return f"{word}es"
    return re.sub(r"(?<![aeiou])y$", "ie", word) + "s"
