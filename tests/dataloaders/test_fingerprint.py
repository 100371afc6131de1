"""A data set's fingerprint tells how many pictures came, went or changed, wherever the set lies."""

import os
import shutil

import pytest

from dao.dataloaders.datasets.base import Record
from dao.dataloaders.datasets.segmentation import SegRecord
from dao.dataloaders.fingerprint import changes, fingerprint


@pytest.fixture
def pictures(tmp_path):
    for i in range(6):
        (tmp_path / "a" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / str(i % 2) / f"{i}.png").write_bytes(b"x" * (10 + i))
    return tmp_path / "a"


def records(folder, labels=(0, 1)):
    return [Record(str(path), label=labels[int(path.parent.name)]) for path in sorted(folder.glob("*/*.png"))]


def test_nothing_changes_when_nothing_did_nor_when_all_is_moved(pictures, tmp_path):
    before = fingerprint(records(pictures))
    assert before.shape == (6, 3) and len(set(before[:, 0].tolist())) == 6
    assert changes(before, fingerprint(records(pictures)[::-1])) == ""
    shutil.copytree(pictures, tmp_path / "elsewhere")  # with the files' dates
    assert changes(before, fingerprint(records(tmp_path / "elsewhere"))) == ""


def test_what_came_went_and_changed_is_counted(pictures):
    before = fingerprint(records(pictures))
    (pictures / "0" / "0.png").unlink()
    (pictures / "1" / "7.png").write_bytes(b"new")
    (pictures / "1" / "8.png").write_bytes(b"new")
    (pictures / "0" / "2.png").write_bytes(b"larger than before")
    os.utime(pictures / "0" / "4.png", (1, 1))
    told = changes(before, fingerprint(records(pictures)))
    assert told == "of 6 pictures 2 came, 1 went, 1 changed in size or label, 1 of another date (now 7)"


def test_labels_and_masks_belong_to_it(pictures):
    before = fingerprint(records(pictures))
    assert changes(before, fingerprint(records(pictures, labels=(0, 2)))).startswith(
        "of 6 pictures 3 changed in size or label"
    )
    masked = [SegRecord(record.path, mask=record.path.replace("0.png", "2.png")) for record in records(pictures)]
    before = fingerprint(masked)
    (pictures / "0" / "2.png").write_bytes(b"larger than before")
    assert "2 changed in size or label" in changes(
        before, fingerprint(masked)
    )  # the picture, and the one it is the mask of
