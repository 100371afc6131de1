"""Counts in sentences."""

import pytest

from dao.utils.counted import counted, of_number


@pytest.mark.parametrize(
    ("count", "word", "expected"),
    [
        (0, "picture", "0 pictures"), (1, "picture", "1 picture"), (2, "picture", "2 pictures"), (2, "class", "2 classes"),
        (1, "class", "1 class"), (3, "box", "3 boxes"), (2, "copy", "2 copies"), (2, "key", "2 keys"),
        (2, "false alarm", "2 false alarms"), (1, "batch", "1 batch"), (5, "batch", "5 batches"),
    ],
)  # fmt: skip
def test_one_is_one_and_all_others_are_many(count, word, expected):
    assert counted(count, word) == expected


def test_an_irregular_plural_is_given():
    assert (counted(1, "is", "are"), of_number(2, "is", "are")) == ("1 is", "are")
