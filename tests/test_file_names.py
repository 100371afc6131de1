"""File names whose bytes are no UTF-8: read, shown escaped, written so that they can be opened again."""

from __future__ import annotations

import csv
import io
import json
import os
import sys

import cv2
import numpy as np
import pytest
import torch

import main
from dao.dataloaders.annotations.placing import write_text
from dao.dataloaders.datasets.folder import FolderDataset
from dao.dataloaders.datasets.images import ImageFiles
from dao.dataloaders.fingerprint import changes, fingerprint
from dao.dataloaders.splits import assign_splits
from dao.drawing.text import put_text
from dao.evaluators.files import write_csv
from dao.files import run_folder
from dao.loggers import logger as log

NAME = b"teil_\xfc\xff.png"  # Latin-1, as an old line PC writes it


@pytest.fixture
def path(tmp_path) -> str:
    folder = tmp_path / "train" / "ok"
    folder.mkdir(parents=True)
    path = os.fsdecode(os.fsencode(folder) + b"/" + NAME)
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(cv2.imencode(".png", np.full((4, 6, 3), 70, np.uint8))[1].tobytes())
    return path


def test_such_pictures_are_found_read_divided_and_compared(path, tmp_path):
    for data in (
        FolderDataset(str(tmp_path)),
        ImageFiles(f"{tmp_path}/**/*.png"),
        ImageFiles(str(tmp_path / "train" / "ok")),
    ):
        assert [record.path for record in data.records] == [path]
        assert data.read(0).image.shape == (4, 6, 3)
        assert changes(fingerprint(data.records), fingerprint(data.records)) == ""
    names = [os.fsdecode(b"%d\xff.png" % i) for i in range(10)]
    assert sorted(assign_splits(names, [(0,)] * 10, {"train": 0.8, "val": 0.2})) == ["train"] * 8 + ["val"] * 2


def test_results_in_json_are_valid_utf8_and_give_the_name_back(path, tmp_path):
    run_folder.write_json(tmp_path / "results.json", {"path": path, "class": "Kratzer ü 划痕"})
    text = (tmp_path / "results.json").read_bytes().decode("utf-8")
    assert "\\udcfc\\udcff" in text and "Kratzer ü 划痕" in text
    again = json.loads(text)["path"]
    assert again == path and os.fsencode(again).endswith(NAME)


def test_csv_and_lists_hold_the_names_bytes_as_they_are(path, tmp_path):
    write_csv(tmp_path / "predictions.csv", ["path", "label"], [[path, "ok"]])
    data = (tmp_path / "predictions.csv").read_bytes()
    assert os.fsencode(path) in data
    (row,) = csv.DictReader(io.StringIO(data.decode("utf-8", "surrogateescape")))
    assert row["path"] == path
    write_text(tmp_path / "list.txt", f"{path}\n")
    assert (tmp_path / "list.txt").read_bytes() == os.fsencode(path) + b"\n"


def test_log_and_terminal_show_it_escaped(path, tmp_path, monkeypatch):
    sink = log._LogFile(tmp_path / "log.txt")
    sink.write(f"skipped {path}\n")
    sink.stop()
    assert "teil_\\udcfc\\udcff.png" in (tmp_path / "log.txt").read_text(encoding="utf-8")
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    assert main.main(["--version"]) == 0
    out.write(path)
    out.flush()
    assert b"teil_\\udcfc\\udcff.png" in out.buffer.getvalue()


def test_a_checkpoint_can_hold_it_and_a_picture_can_bear_it(path, tmp_path):
    torch.save({"path": path}, tmp_path / "x.ckpt")
    assert torch.load(tmp_path / "x.ckpt", weights_only=True)["path"] == path
    put_text(np.zeros((30, 200, 3), np.uint8), path[-20:], (5, 5), 12, (255, 255, 255))
