from __future__ import annotations

import hashlib
import shutil

import pytest

from dao.dataloaders.check import check_dataset, cross_split_duplicates
from dao.dataloaders.datasets.csvfile import CsvDataset
from dao.dataloaders.datasets.folder import FolderDataset


def state(folder) -> dict[str, tuple[str, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p): (hashlib.md5(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in files}


def test_a_sound_set(folder_set):
    report = check_dataset(FolderDataset(str(folder_set)), "dataloader")
    assert report.problems == [] and report.total == 13 and report.class_counts == [9, 4]
    assert report.smallest_hw == (24, 18) and report.largest_hw == (28, 30)
    text = "\n".join(report.render())
    assert "dataloader: 13 pictures, 2 classes" in text and "dent" in text and "no problems" in text


def test_everything_wrong_is_listed_and_nothing_is_written(folder_set):
    train = folder_set / "train"
    (train / "dent" / "1.png").write_bytes((train / "dent" / "1.png").read_bytes()[:99])
    shutil.copy(train / "dent" / "4.png", train / "dent" / "copy.png")
    shutil.copy(train / "dent" / "5.png", train / "scratch" / "other label.png")
    (train / "hole").mkdir()
    (folder_set / "list.csv").write_text("image,label\n" + "".join(
        f"{p.relative_to(folder_set)},{p.parent.name}\n" for p in sorted(train.glob("*/*.png"))
    ) + "train/gone.png,dent\n")  # fmt: skip
    before = state(folder_set)
    dataset = CsvDataset(str(folder_set / "list.csv"), classes=["dent", "hole", "scratch"])
    report = check_dataset(dataset, "train set")
    assert state(folder_set) == before
    assert [(path.split("/")[-1], "truncated" in reason) for path, reason in report.unreadable] == [("1.png", True)]
    assert [path.split("/")[-1] for path in report.missing] == ["gone.png"]
    assert [[p.split("/")[-1] for p in paths] for paths in report.duplicates] == [
        ["4.png", "copy.png"],
        ["5.png", "other label.png"],
    ]
    assert [[p.split("/")[-1] for p in paths] for paths in report.contradictions] == [["5.png", "other label.png"]]
    assert len(report.problems) == 5
    text = "\n".join(report.render())
    for words in ("unreadable: ", "missing: ", "without a picture: hole", "different labels: ", "more than once: "):
        assert words in text


@pytest.mark.parametrize("rename", [False, True])
def test_files_that_lie_in_two_splits(folder_set, rename):
    reports = [check_dataset(FolderDataset(str(folder_set), split), split) for split in ("train", "val")]
    assert cross_split_duplicates(reports) == []
    source = folder_set / "train" / "dent" / "3.png"
    shutil.copy(source, folder_set / "val" / "dent" / ("renamed.png" if rename else "3.png"))
    reports[1] = check_dataset(FolderDataset(str(folder_set), "val"), "val")
    (problem,) = cross_split_duplicates(reports)
    assert problem.startswith("in train and in val: ") and str(source) in problem


def test_a_set_is_not_compared_with_itself(folder_set):
    reports = [check_dataset(FolderDataset(str(folder_set)), name) for name in ("train", "evaluated")]
    assert cross_split_duplicates(reports) == []
