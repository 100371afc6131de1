"""That the fuzz loop damages, and finds what it is to find; the loop itself is `make fuzz`."""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import fuzz

from dao.errors import DataError


def target(tmp_path, read):
    file = tmp_path / "x.json"
    file.write_text('{"a": [1, 2], "b": {"c": "text"}}')
    return fuzz.Target("x", file, read)


def test_damage_changes_the_file_and_is_a_function_of_the_seed():
    whole = b'{"a": [1, 2], "b": {"c": "text"}}'
    damaged = [fuzz.damage(whole, random.Random(i), ".json") for i in range(40)]
    assert damaged == [fuzz.damage(whole, random.Random(i), ".json") for i in range(40)]
    assert len(set(damaged)) > 25
    assert len({fuzz.damage(whole, random.Random(i), ".bin") for i in range(40)}) > 30


def test_an_exception_of_pythons_own_is_a_finding_and_ours_is_none(tmp_path):
    def fails():
        raise KeyError("a")

    def refuses():
        raise DataError("x.json: no")

    until = float("inf")
    assert fuzz.in_process(target(tmp_path, fails), "0", tmp_path / "found", until) > 0
    kept = {path.suffix for path in (tmp_path / "found").iterdir()}
    assert kept == {".json", ".txt"}
    assert fuzz.in_process(target(tmp_path, refuses), "0", tmp_path / "none", until) == 0
    assert not (tmp_path / "none").exists()
    assert (tmp_path / "x.json").read_text() == '{"a": [1, 2], "b": {"c": "text"}}'  # whole again


def test_a_death_of_the_process_and_a_hang_are_findings(tmp_path, monkeypatch):
    import os
    import time

    assert (
        fuzz.in_process(target(tmp_path, lambda: os.kill(os.getpid(), 9)), "0", tmp_path / "found", float("inf")) == 1
    )
    assert "SIGKILL" in next((tmp_path / "found").glob("*.txt")).read_text()
    monkeypatch.setattr(fuzz, "HANG", 1)
    monkeypatch.setattr(fuzz, "A_PROCESS", 1)
    assert fuzz.in_process(target(tmp_path, lambda: time.sleep(9)), "0", tmp_path / "hung", float("inf")) == 1
    assert "seconds" in next((tmp_path / "hung").glob("*.txt")).read_text()
