"""A large table of float32 as text: the same numbers again, whatever their size."""

import numpy as np
import pytest

from dao.words import number_text


@pytest.fixture
def always_by_the_block(monkeypatch):
    monkeypatch.setattr(number_text, "MANY", 0)
    monkeypatch.setattr(number_text, "BLOCK", 12)


def test_every_number_reads_as_the_same_float32_and_as_pythons_nine_digits(always_by_the_block):
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 0x7F800000, 3990).astype(np.uint32).view(np.float32)  # all that is finite, denormals too
    edges = [0.0, 1.0, 0.1, 0.99999997, 1e-45, 3.4e38, 9.9999999e-5, 1e9, 0.5, 1.1754944e-38]
    numbers = np.concatenate([anything, np.float32(edges)]).reshape(-1, 5)
    rows = [bytes(row).decode().split(",") for row in number_text.number_rows(numbers)]
    assert (np.array(rows, np.float32) == numbers).all() and len(rows) == 800
    assert rows == [[f"{value:.8e}" for value in row] for row in numbers.tolist()]


def test_small_tables_and_numbers_below_zero_are_written_as_people_write_them(always_by_the_block, monkeypatch):
    assert list(number_text.number_rows(np.float32([[0.25, -1.5]]))) == [b"0.25,-1.5"]
    assert list(number_text.number_rows(np.float32([[0.25, np.inf]]))) == [b"0.25,inf"]
    monkeypatch.setattr(number_text, "MANY", 3)
    assert list(number_text.number_rows(np.float32([[0.25, 1]]))) == [b"0.25,1"]
