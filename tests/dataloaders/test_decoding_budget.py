"""Large pictures take turns on a machine's memory; ordinary ones ask nobody."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from dao.dataloaders import survey
from dao.dataloaders.check import check_dataset
from dao.dataloaders.datasets.folder import FolderDataset
from dao.dataloaders.det_reader import DetReader
from dao.dataloaders.reader import ClsReader
from dao.images import decoding_budget
from dao.images.decoding_budget import shared, take
from dao.images.image_io import read_image

pytestmark = pytest.mark.skipif(os.name != "posix", reason="files are locked on POSIX systems alone")
ONE = decoding_budget.LARGE + 1  # pixels of a picture that takes two places


@pytest.fixture(autouse=True)
def four_places(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding_budget, "_folder", lambda: tmp_path)
    monkeypatch.setattr(decoding_budget, "places", lambda: 4)
    monkeypatch.setattr(decoding_budget, "PATIENCE", 0.0)


def test_large_pictures_have_places_until_their_block_ends_and_no_more_than_there_are():
    with shared():
        assert take(ONE)
        with shared():
            assert take(ONE)
            with shared():
                assert not take(ONE)
        with shared():
            assert take(ONE)
    with shared():
        assert take(100 * ONE)  # more than all: alone
        with shared():
            assert not take(ONE)


def test_ordinary_pictures_a_pictures_mask_and_what_no_loader_decodes_ask_nobody(monkeypatch):
    with shared():
        assert take(4 * decoding_budget.LARGE)
        assert take(ONE)  # its mask
        monkeypatch.setattr(decoding_budget, "_folder", None)  # would fail
        with shared():
            assert take(decoding_budget.LARGE)
        assert take(decoding_budget.LARGE)
    assert take(ONE)


def test_who_comes_later_waits_until_places_are_given_back(monkeypatch):
    monkeypatch.setattr(decoding_budget, "PATIENCE", 60.0)
    monkeypatch.setattr(decoding_budget, "LOOK_AGAIN", 0.001)
    at_once, most, guard = 0, 0, threading.Lock()

    def decode():
        nonlocal at_once, most
        for _ in range(5):
            with shared():
                assert take(ONE)
                with guard:
                    at_once += 1
                    most = max(most, at_once)
                threading.Event().wait(0.002)
                with guard:
                    at_once -= 1

    threads = [threading.Thread(target=decode) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2  # of two places each


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_is_killed_gives_its_places_back():
    here, there = os.pipe()
    child = os.fork()
    if not child:
        with shared():
            os.write(there, b"y" if take(100 * ONE) else b"n")
            signal.pause()
    assert os.read(here, 1) == b"y"
    with shared():
        assert not take(ONE)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with shared():
        assert take(ONE)


def test_where_files_cannot_be_locked_nobody_waits(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding_budget, "_folder", lambda: tmp_path / "gone")
    with shared():
        assert take(ONE)


@pytest.fixture
def asked(monkeypatch):
    """(pixels, whether a block held its places) of every picture that was decoded; all count as large."""
    seen = []

    def note(pixels):
        seen.append((pixels, getattr(decoding_budget._here, "held", None) is not None))
        return True

    monkeypatch.setattr(decoding_budget, "take", note)
    return seen


@pytest.mark.parametrize("training", [True, False])
def test_loaders_and_checks_decode_within_the_budget_and_a_single_reading_without(
    folder_set, preprocess, asked, training
):
    data = FolderDataset(str(folder_set))
    ClsReader(data, preprocess, None, training, 0, True, False).read_one(2)
    check_dataset(FolderDataset(str(folder_set), split="val"), "val")
    assert asked == [(22 * 30, True)] + [(20 * 30, True)] * 3
    read_image(data.records[0].path)
    assert asked[-1] == (20 * 30, False)


def test_pictures_with_boxes_are_decoded_within_the_budget_too(tmp_path, preprocess, make_picture, asked):
    from dao.dataloaders.datasets.detection import YoloDetection

    make_picture(tmp_path / "images" / "a.png", (20, 30))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images\nnames: [dent]\n")
    data = YoloDetection(data_yaml=str(tmp_path / "data.yaml"))
    DetReader(data, preprocess, None, True, 0, True, False).read_one(0)
    assert asked == [(600, True)]


def test_the_warning_of_memory_counts_no_more_than_the_budget(monkeypatch):
    monkeypatch.setenv("AICORE_MAX_PIXELS", str(decoding_budget.LARGE * 2))
    budget = 4 * decoding_budget.LARGE * 3
    assert survey.memory_note(100, free_bytes=budget) == ""
    assert "100 processes" in survey.memory_note(100, free_bytes=budget - 1)


def test_the_budget_is_a_share_of_the_memory_and_never_nothing(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(decoding_budget, "total_memory", lambda: 24 * 2**30)
    assert decoding_budget.places() == 32  # 6 GiB of 192 MiB each
    monkeypatch.setattr(decoding_budget, "total_memory", lambda: 2**28)
    assert decoding_budget.places() == 1
