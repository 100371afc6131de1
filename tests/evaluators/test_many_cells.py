"""A table of many scores is written a row at a time and reads as it did cell by cell."""

import csv

import numpy as np

from dao.evaluators.files import write_csv


def test_numbers_written_a_row_at_a_time_read_as_the_same_float32_beside_quoted_names(tmp_path):
    scores = np.random.default_rng(0).random((3, 7)).astype(np.float32)
    rows = [['a "b", c.png', "x"], ["=SUM(A1)", ""], ["ä", "y"]]
    path = write_csv(tmp_path / "t.csv", ["path", "label", *map(str, range(7))], rows, scores)
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.reader(file))
    assert [row[:2] for row in found[1:]] == [rows[0], ["'=SUM(A1)", ""], rows[2]]
    assert (np.array([row[2:] for row in found[1:]], np.float32) == scores).all()
    assert found[1][2:] == [f"{value:.9g}" for value in scores[0]]
