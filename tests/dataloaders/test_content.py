"""Pictures known again by content: literal comparison of bytes is the truth."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from dao.dataloaders import content


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "f.sqlite"


def write(path, data: bytes, age: float = 100) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - age,) * 2)
    return str(path)


def test_equal_files_have_equal_prints_wherever_they_lie_and_others_do_not(tmp_path, cache):
    rng = np.random.default_rng(0)
    sizes = [0, 1, 100, content.WHOLE - 1, content.WHOLE, content.WHOLE + 1, 3 * content.WHOLE]
    paths = [write(tmp_path / f"{size}.bin", rng.bytes(size)) for size in sizes]
    copies = [shutil.copy(path, tmp_path / f"copy {i}") for i, path in enumerate(paths)]
    one, other = content.of_files(paths, cache), content.of_files(copies, cache)
    assert np.array_equal(one, other) and len(set(one)) == len(sizes) and content.UNREADABLE not in one
    assert content.shared(one, other) == [(i, i) for i in range(len(sizes))]
    assert content.of_set(one) == content.of_set(other[::-1]) != content.of_set(one[1:])


@pytest.mark.parametrize("size", [1000, content.WHOLE * 2])
@pytest.mark.parametrize("place", [0, -1])
def test_one_other_byte_at_the_ends_is_another_picture(tmp_path, cache, size, place):
    data = bytearray(np.random.default_rng(1).bytes(size))
    first = write(tmp_path / "a", bytes(data))
    data[place] ^= 1
    prints = content.of_files([first, write(tmp_path / "b", bytes(data))], cache)
    assert prints[0] != prints[1]


def test_long_files_that_differ_between_the_pieces_are_told_apart_before_anything_is_said(tmp_path, cache):
    data = bytearray(content.WHOLE * 4)
    first = write(tmp_path / "a", bytes(data))
    data[content.PIECE + 5] = 1
    second = write(tmp_path / "b", bytes(data))
    assert len(set(content.of_files([first, second], cache))) == 1
    assert not content.same_bytes(first, second) and content.same_bytes(first, first)


def test_a_second_time_nothing_is_read_and_a_changed_file_is_read_anew(tmp_path, cache, monkeypatch):
    paths = [write(tmp_path / f"{i}", bytes([i])) for i in range(5)]
    first = content.of_files(paths, cache)
    read = []
    really = content.open_file
    monkeypatch.setattr(content, "open_file", lambda path: read.append(path) or really(path))
    assert np.array_equal(content.of_files(paths, cache), first) and read == []
    write(tmp_path / "3", b"longer", age=50)
    again = content.of_files(paths, cache)
    assert read == [paths[3]] and [i for i in range(5) if again[i] != first[i]] == [3]


def test_a_file_that_was_just_written_is_not_remembered(tmp_path, cache):
    """It may be written again within the tick of the clock that its date has."""
    path = write(tmp_path / "a", b"one", age=0)
    state = Path(path).stat()
    before = content.of_files([path], cache)
    (tmp_path / "a").write_bytes(b"two")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert content.of_files([path], cache) != before


@pytest.mark.parametrize("spoil", ["damaged", "a folder", "in a file"])
def test_a_cache_that_cannot_be_used_costs_time_and_nothing_else(tmp_path, cache, spoil):
    path = write(tmp_path / "a", b"x")
    want = content.of_files([path], tmp_path / "other.sqlite")
    if spoil == "damaged":
        write(cache, b"no database" * 500)
    elif spoil == "a folder":
        cache.mkdir(parents=True)
    else:
        cache = write(tmp_path / "file", b"") and tmp_path / "file" / "f.sqlite"
    assert np.array_equal(content.of_files([path], cache), want)


def test_what_cannot_be_read_equals_nothing(tmp_path, cache):
    os.mkfifo(tmp_path / "pipe")
    prints = content.of_files([str(tmp_path / "gone"), str(tmp_path / "pipe"), str(tmp_path)], cache)
    assert prints.tolist() == [content.UNREADABLE] * 3 and content.shared(prints, prints) == []


def test_names_that_are_no_utf8_are_remembered_too(tmp_path, cache):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    write(Path(path), b"x")
    assert content.of_files([path], cache)[0] == content.of_files([path], cache)[0] != content.UNREADABLE
