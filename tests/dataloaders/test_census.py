"""What was not taken as written is counted by kind and said once a set."""

from __future__ import annotations

from loguru import logger

from dao.dataloaders.census import Census


def census() -> Census:
    counted = Census()
    for i in range(13):
        counted.omit("boxes without area left out", f"p{i}.png")
    counted.adjust("outlines of two points read as their box", "q.png")
    return counted


def test_a_kind_is_one_sentence_with_its_number_and_up_to_ten_names():
    (text,) = census().omissions()
    assert text.startswith("13 boxes without area left out: p0.png, p1.png") and "p9.png, ... and 3 more" in text
    assert "p10.png" not in text
    assert census().adjustments() == ["1 outline of two points read as its box: q.png"]


def test_it_is_logged_once_a_set():
    lines: list[str] = []
    sink = logger.add(lines.append, format="{level}|{message}")
    census().log("set.json")
    logger.remove(sink)
    assert [line.split(" ")[0] for line in lines] == ["WARNING|set.json:", "INFO|set.json:"]


def test_readers_of_one_set_add_up():
    both = census()
    both.merge(census())
    assert len(both.omitted["boxes without area left out"]) == 26
