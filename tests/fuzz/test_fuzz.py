"""That the fuzz loop damages, and finds what it is to find; the loop itself is `make fuzz`."""

import argparse
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fuzz
from fuzz_damage import damage
from fuzz_targets import Target

WHOLE = '{"a": [1, 2], "b": {"c": "text"}}'


def made(folder):
    """Files whose readers do, once damaged, what none may do."""
    import os
    import re

    from dao.errors import DataError

    def fails():
        raise KeyError("a")

    def refuses():
        raise DataError("x.json: no")

    def says_nothing():
        raise DataError(" ")

    def hangs():
        """In C code that looks for no signal: a pattern that takes for ever."""
        re.match(r"(a+)+$", "a" * 64 + "b")

    def eats():
        held = []
        while True:
            held.append(b"\1" * 2**24)

    def dies():
        os.kill(os.getpid(), 9)

    def only_damaged(file, act):
        return lambda: None if file.read_text(errors="replace") == WHOLE else act()

    found = []
    for act in (fails, refuses, says_nothing, hangs, eats, dies):
        file = folder / f"{act.__name__}.json"
        file.write_text(WHOLE)
        found.append(Target(act.__name__, file, only_damaged(file, act)))
    return found


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    reader = fuzz.Reader(made, tmp_path_factory.mktemp("fuzz"))
    yield reader
    reader.close()


def test_damage_changes_the_file_and_is_a_function_of_the_seed():
    whole = WHOLE.encode()
    damaged = [damage(whole, random.Random(i), ".json") for i in range(40)]
    assert damaged == [damage(whole, random.Random(i), ".json") for i in range(40)]
    assert len(set(damaged)) > 25
    assert len({damage(whole, random.Random(i), ".bin") for i in range(40)}) > 30


def test_an_exception_of_pythons_own_and_one_without_words_are_findings_and_ours_is_none(reader):
    assert "KeyError: 'a'" in reader.read("fails", b"x")
    assert reader.read("says_nothing", b"x") == "an error without a word"
    assert reader.read("refuses", b"x") == ""
    assert reader.read("fails", WHOLE.encode()) == ""
    assert reader.files["fails"].read_text() == WHOLE  # whole again


def test_what_failed_is_kept_with_the_name_of_the_try(reader, tmp_path):
    assert fuzz.attempt(reader, "7/fails/3", tmp_path / "found") == 1
    kept = {path.suffix: path for path in (tmp_path / "found").iterdir()}
    assert kept[".json"].read_bytes() == damage(WHOLE.encode(), random.Random("7/fails/3"), ".json")
    assert "--again 7/fails/3" in kept[".txt"].read_text()
    assert fuzz.attempt(reader, "7/refuses/3", tmp_path / "none") == 0
    assert not (tmp_path / "none").exists()


def test_every_kind_has_its_turn_and_no_more_tries_than_are_wanted(reader, tmp_path, capsys):
    wanted = argparse.Namespace(targets=["refuses", "fails"], seconds=60, tries=60, seed=3, keep=tmp_path / "found")
    assert fuzz.loop(reader, wanted) == 1
    said = capsys.readouterr().out
    assert "120 damaged files (fails 60, refuses 60)" in said and "findings in" in said
    wanted.targets = ["refuses"]
    assert fuzz.loop(reader, wanted) == 0


@pytest.mark.parametrize(
    "name, said", [("hangs", "took more than 1 seconds"), ("eats", "took more than 0.25 GB"), ("dies", "SIGKILL")]
)
def test_a_hang_in_c_code_too_much_memory_and_a_death_are_findings_and_a_new_process_goes_on(
    reader, monkeypatch, name, said
):
    monkeypatch.setattr(fuzz, "HANG", 1 if name == "hangs" else 20)
    monkeypatch.setattr(fuzz, "MEMORY", 2**28)
    before = reader.process.pid
    why = reader.read(name, b"x")
    assert said in why
    if name == "hangs":
        assert "in hangs" in why  # where it was
    assert reader.process.pid != before
    assert reader.read("refuses", b"x") == ""
