"""Files that others may read are whole or not there."""

import csv
import json
import os
from pathlib import Path

import pytest

from dao.errors import RunError
from dao.evaluators import report
from dao.files import atomic, run_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("of ours"), KeyboardInterrupt()])
def test_what_fails_in_mid_write_leaves_the_old_file_and_no_other(tmp_path, error):
    (tmp_path / "a.json").write_text("old")
    with (
        pytest.raises(RunError if isinstance(error, OSError) else type(error)),
        atomic.replacing(tmp_path / "a.json") as temporary,
    ):
        temporary.write_text("ne")
        raise error
    assert (tmp_path / "a.json").read_text() == "old" and names(tmp_path) == ["a.json"]


def test_nothing_lies_under_the_final_name_before_the_block_ends(tmp_path):
    with atomic.replacing(tmp_path / "new" / "a.csv") as temporary:
        temporary.write_text("half")
        assert names(tmp_path / "new") == [temporary.name] and temporary.name.startswith(".")
    assert names(tmp_path / "new") == ["a.csv"]


@pytest.mark.parametrize("refused", ["fsync", "replace"])
def test_every_report_survives_a_disk_that_refuses_late(tmp_path, monkeypatch, refused):
    def no(*_):
        raise OSError(5, "Input/output error")

    writers = {
        "m.json": lambda path: run_folder.write_json(path, {"a": 1}),
        "t.csv": lambda path: report.write_csv(path, ["a"], [["b"]]),
        "p.png": lambda path: report.save_figure(report.new_figure(1, 1), path),
    }
    for name in writers:
        (tmp_path / name).write_text("old")
    monkeypatch.setattr(*((os, "fsync", no) if refused == "fsync" else (Path, "replace", no)))
    for name, write in writers.items():
        with pytest.raises(RunError, match=f"{name} could not be written.*Input/output"):
            write(tmp_path / name)
    assert names(tmp_path) == sorted(writers) and all((tmp_path / name).read_text() == "old" for name in writers)


def test_a_name_that_is_no_utf8_comes_back_from_json_as_it_is(tmp_path):
    name = os.fsdecode(b"teil_\xff.png")
    run_folder.write_json(tmp_path / "a.json", {"path": name, "ä": 1})
    text = (tmp_path / "a.json").read_bytes().decode("utf-8")
    assert json.loads(text) == {"path": name, "ä": 1} and "ä" in text


FORMULAS = ["=1+1", "=cmd|'/c calc'!A1", "+SUM(A1)", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "-a.png"]
HARMLESS = ["a=b", "-", "", "-0.25", "+1e-05", "-inf", "äö", "a\tb", 3, -4.5, None]


def test_no_cell_of_a_csv_is_a_formula(tmp_path):
    rows = [[cell, "x"] for cell in FORMULAS + HARMLESS]
    report.write_csv(tmp_path / "a.csv", ["=class", "b"], rows)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        header, *read = [row[0] for row in csv.reader(file)]
    assert header == "'=class"
    assert read[: len(FORMULAS)] == [r"\r=1" if cell == "\r=1" else f"'{cell}" for cell in FORMULAS]
    assert read[len(FORMULAS) :] == ["" if cell is None else str(cell) for cell in HARMLESS]
