"""Counts in sentences: "1 picture", "2 pictures"."""

from __future__ import annotations

import re

# of the phrases in which the reader of a set says what it left out, and what it took otherwise
NOUNS = {
    "areas": "area", "boxes": "box", "classes": "class", "files": "file", "folders": "folder", "masks": "mask",
    "objects": "object", "outlines": "outline", "pictures": "picture", "shapes": "shape",
}  # fmt: skip
VERBS = {
    "are": "is",
    "belong": "belongs",
    "differ": "differs",
    "have": "has",
    "hold": "holds",
    "mark": "marks",
    "mix": "mixes",
    "teach": "teaches",
}


def counted(count: int, word: str, words: str = "") -> str:
    """The number and what is counted, in the singular or the plural; words: the plural, where it isn't a regular one."""
    return f"{count} {of_number(count, word, words)}"


def of_number(count: int, word: str, words: str = "") -> str:
    """The word alone, as the number wants it."""
    return word if count == 1 else words or plural(word)


def plural(word: str) -> str:
    """The regular plural: class, classes; box, boxes; copy, copies; picture, pictures; batch, batches, but epoch, epochs."""
    if re.search(r"(s|x|z|[^o]ch|sh)$", word):
        return f"{word}es"
    return re.sub(r"(?<![aeiou])y$", "ie", word) + "s"


def of_one(phrase: str) -> str:
    """A phrase about many things as of one: "boxes that are empty, taken round their outline" for a single box.

    Its first noun of `NOUNS`, and verbs and pronouns that go with it.
    """
    nouns, verbs = "|".join(NOUNS), "|".join(VERBS)
    noun = re.search(rf"\b({nouns})( or ({nouns}))?\b", phrase)
    if noun is None:
        return phrase
    rest = re.sub(rf"(^| that| which) ({verbs})\b", lambda m: f"{m[1]} {VERBS[m[2]]}", phrase[noun.end() :])
    one = NOUNS[noun[1]] + (f" or {NOUNS[noun[3]]}" if noun[3] else "")
    return phrase[: noun.start()] + one + re.sub(r"\btheir\b", "its", rest)
