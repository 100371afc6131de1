"""Counts in sentences."""

import pytest

from dao.words.counted import counted, of_number, of_one


@pytest.mark.parametrize(
    ("count", "word", "expected"),
    [
        (0, "picture", "0 pictures"), (1, "picture", "1 picture"), (2, "picture", "2 pictures"), (2, "class", "2 classes"),
        (1, "class", "1 class"), (3, "box", "3 boxes"), (2, "copy", "2 copies"), (2, "key", "2 keys"),
        (2, "false alarm", "2 false alarms"), (1, "batch", "1 batch"), (5, "batch", "5 batches"), (3, "epoch", "3 epochs"),
    ],
)  # fmt: skip
def test_one_is_one_and_all_others_are_many(count, word, expected):
    assert counted(count, word) == expected


def test_an_irregular_plural_is_given():
    assert (counted(1, "is", "are"), of_number(2, "is", "are")) == ("1 is", "are")


@pytest.mark.parametrize(
    ("many", "one"),
    [
        ("boxes without area left out", "box without area left out"),
        ("label files that belong to no picture", "label file that belongs to no picture"),
        ("bad pictures of the train split, which teach nothing, left out", "bad picture of the train split, which teaches nothing, left out"),
        ("boxes without area, taken round their outline", "box without area, taken round its outline"),
        ("objects are marked 'difficult'", "object is marked 'difficult'"),
        ("outlines or masks: VOC has boxes alone", "outline or mask: VOC has boxes alone"),
        ("areas labelled x, which boxes have no place for", "area labelled x, which boxes have no place for"),
        ("boxes that differ from their outline", "box that differs from its outline"),
        ("classes without an object, not mentioned: x", "class without an object, not mentioned: x"),
        ("things that nobody knows", "things that nobody knows"),
    ],
)  # fmt: skip
def test_what_a_reader_says_of_many_is_said_of_one(many, one):
    assert of_one(many) == one
