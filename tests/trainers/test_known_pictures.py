"""What a run says of its pictures before it starts."""

from __future__ import annotations

import shutil

import pytest
import torch
from loguru import logger

from dao.dataloaders.datasets.anomaly import AnomalyDataset, AnomalyRecord
from dao.dataloaders.datasets.folder import FolderDataset
from dao.errors import DataError
from dao.trainers.known_pictures import KnownPictures, note_of_taught, require_every_class, say_unjudged


@pytest.fixture
def said():
    lines: list[str] = []
    number = logger.add(lambda line: lines.append(str(line)), level="WARNING", format="{message}")
    yield lines
    logger.remove(number)


@pytest.fixture
def split(tiny_data, tmp_path):
    """A copy of train and val that a test may change."""
    return shutil.copytree(tiny_data, tmp_path / "set")


def test_training_and_validation_that_share_pictures_are_said_at_the_start(split, said):
    shutil.copy(split / "train" / "red" / "0.png", split / "val" / "blue" / "renamed.png")
    shutil.copy(split / "train" / "red" / "1.png", split / "val" / "red" / "1.png")
    known = KnownPictures(FolderDataset(str(split)), validation=FolderDataset(str(split), "val"), calibration=None)
    (line,) = said
    assert line.startswith("2 of the 13 validation pictures are training pictures too") and "renamed.png" in line
    assert known.sets["training"]["pictures"] == 24 and known.sets["validation"]["pictures"] == 13


def test_sets_that_share_nothing_are_not_spoken_of(split, said):
    KnownPictures(FolderDataset(str(split)), validation=FolderDataset(str(split), "val"))
    assert said == []


def test_a_checkpoint_knows_its_training_pictures_again_elsewhere_under_other_names(split, tmp_path):
    known = KnownPictures(FolderDataset(str(split)))
    assert known.taught.dtype == torch.int64 and known.taught.shape == (24,)  # 8 bytes a picture
    new = tmp_path / "this week" / "val" / "red"
    new.mkdir(parents=True)
    for i in range(3):
        shutil.copy(split / "train" / "red" / f"{i}.png", new / f"part {i}.png")
    shutil.copy(split / "val" / "red" / "0.png", new / "unseen.png")
    note = note_of_taught(known.taught, FolderDataset(str(tmp_path / "this week"), "val"))
    assert note.startswith("3 of the 4 pictures trained this model") and "part 0.png" in note
    assert note_of_taught(known.taught, FolderDataset(str(split), "val")) == ""
    assert note_of_taught(None, FolderDataset(str(split))) == ""  # a checkpoint of an older version cannot tell


def test_held_out_pictures_did_not_teach(split):
    paths = sorted(str(path) for path in (split / "train" / "red").iterdir())
    records = [AnomalyRecord(path, held_out=i < 3) for i, path in enumerate(paths)]
    assert len(KnownPictures(AnomalyDataset(records, "x")).taught) == len(paths) - 3


def test_a_class_with_no_training_picture_ends_training_unless_asked_for(split, said):
    for path in (split / "train" / "red").iterdir():
        path.unlink()
    data = FolderDataset(str(split))
    with pytest.raises(DataError, match=r"no training picture shows red \(of 3 classes.*allow_empty_classes"):
        require_every_class(data, allowed=False)
    require_every_class(data, allowed=True)
    assert len(said) == 1 and "shows red" in said[0]


def test_a_class_missing_in_validation_is_said(split, said):
    for path in (split / "val" / "green").iterdir():
        path.unlink()
    say_unjudged(FolderDataset(str(split), "val"))
    assert len(said) == 1 and said[0].startswith("no validation picture shows green")


def test_a_set_of_good_pictures_alone_lacks_no_class(split, said):
    paths = [str(path) for path in (split / "train" / "red").iterdir()]
    require_every_class(AnomalyDataset([AnomalyRecord(path) for path in paths], "x"), allowed=False)
    assert said == []
