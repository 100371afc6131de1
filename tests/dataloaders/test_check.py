from __future__ import annotations

import hashlib
import shutil

import cv2
import numpy as np
import pytest

from dao.dataloaders.check import check_dataset, cross_split_duplicates
from dao.dataloaders.datasets.anomaly_own import AnomalyFolderDataset
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


def test_judging_by_the_training_pictures_is_said_in_one_sentence(folder_set):
    reports = [check_dataset(FolderDataset(str(folder_set)), name) for name in ("train", "evaluated")]
    assert cross_split_duplicates(reports) == ["all 13 pictures of evaluated are in train"]


def test_equal_names_are_no_equal_pictures(folder_set):
    """Every folder has its 0.png, 1.png, ...; what they show differs."""
    reports = [check_dataset(FolderDataset(str(folder_set), split), split) for split in ("train", "val")]
    names = [{path.rsplit("/", 1)[1] for path in report.fingerprints} for report in reports]
    assert names[0] & names[1] and cross_split_duplicates(reports) == []


def test_the_same_pixels_in_another_file_are_the_same_picture(folder_set):
    """Written anew, as another format, and as a grey picture in three channels: other bytes, the same picture."""
    source, grey = folder_set / "train" / "dent" / "3.png", folder_set / "train" / "dent" / "grey.png"
    image = cv2.imread(str(source))
    cv2.imwrite(str(folder_set / "val" / "dent" / "again.bmp"), image)
    cv2.imwrite(str(folder_set / "val" / "dent" / "light.png"), image, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    cv2.imwrite(str(grey), image[:, :, 0])
    cv2.imwrite(str(folder_set / "val" / "dent" / "grey3.png"), cv2.cvtColor(image[:, :, 0], cv2.COLOR_GRAY2BGR))
    first, second = (check_dataset(FolderDataset(str(folder_set), split), split) for split in ("train", "val"))
    assert [[p.rsplit("/", 1)[1] for p in twins] for twins in second.duplicates] == [["again.bmp", "light.png"]]
    found = cross_split_duplicates([first, second])
    assert len(found) == 3 and sum(str(source) in line for line in found) == 2


def test_pictures_of_16_bits_are_told_apart_by_all_of_them(folder_set):
    """A 12-bit camera's dark pictures are black in the upper eight bits, and not the same for that."""
    for number, value in enumerate((7, 9)):
        cv2.imwrite(str(folder_set / "train" / "dent" / f"dark{number}.png"), np.full((8, 8), value, np.uint16))
    report = check_dataset(FolderDataset(str(folder_set)), "train")
    assert report.duplicates == [] and len(report.fingerprints) == 15


def test_what_anomaly_detection_learns_from_is_no_problem(tmp_path, make_picture):
    """Good parts alone, and of few of them several views."""
    for number in range(6):
        make_picture(tmp_path / "good" / f"{number}.png")
    dataset = AnomalyFolderDataset(str(tmp_path), "train", shots=4)
    assert len(dataset) > 4 and check_dataset(dataset, "train").problems == []
    assert check_dataset(dataset, "judging", judges=True).problems == ["classes without a picture: bad"]
