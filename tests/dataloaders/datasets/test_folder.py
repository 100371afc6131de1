from __future__ import annotations

import shutil

import pytest

from dao.dataloaders.datasets.folder import FolderDataset
from dao.errors import ConfigError, DataError
from dao.register import Registers

HALF = {"train": 0.75, "val": 0.25}


def names(dataset: FolderDataset) -> set[str]:
    return {"/".join(record.path.split("/")[-2:]) for record in dataset.records}


def test_split_folders(folder_set):
    dataset = FolderDataset(str(folder_set))
    assert dataset.classes == ["dent", "scratch"]
    assert dataset.class_counts() == [9, 4]
    assert {r.label for r in dataset.records if "/scratch/" in r.path} == {1}
    sample = dataset.read(len(dataset) - 1, in_channels=1)
    assert sample.image.shape == (24, 21, 1) and sample.original_hw == (24, 21) and sample.label == 1


def test_a_split_that_lacks_a_class_keeps_the_numbering_of_train(folder_set):
    shutil.move(folder_set / "val" / "dent", folder_set / "val" / "scratch")
    dataset = FolderDataset(str(folder_set), split="val")
    assert dataset.classes == ["dent", "scratch"] and dataset.class_counts() == [0, 3]


def test_given_classes_set_the_order_and_refuse_others_by_name(folder_set):
    assert FolderDataset(str(folder_set), classes=["scratch", "hole", "dent"]).class_counts() == [4, 0, 9]
    with pytest.raises(DataError, match="not among the classes: scratch"):
        FolderDataset(str(folder_set), classes=["dent"])


def test_ratio_splits_are_disjoint_complete_and_stratified(folder_set):
    root = folder_set / "train"
    parts = {split: FolderDataset(str(root), split, HALF) for split in HALF}
    assert names(parts["train"]) | names(parts["val"]) == names(FolderDataset(str(folder_set)))
    assert not names(parts["train"]) & names(parts["val"])
    assert parts["val"].class_counts() == [2, 1]  # a quarter of 9 and of 4
    assert names(FolderDataset(str(root), "val", HALF, split_seed=1)) != names(parts["val"])


def test_ratio_split_does_not_depend_on_where_the_set_lies(folder_set, tmp_path):
    moved = shutil.copytree(folder_set / "train", tmp_path / "elsewhere")
    assert names(FolderDataset(str(moved), "val", HALF)) == names(FolderDataset(str(folder_set / "train"), "val", HALF))


def test_subfolders_are_read_and_hidden_files_are_not(folder_set, make_picture):
    make_picture(folder_set / "train" / "dent" / "line 2" / "a.png")
    make_picture(folder_set / "train" / "dent" / ".trash.png")
    make_picture(folder_set / "train" / "dent" / ".thumbnails" / "b.png")
    (folder_set / "train" / "dent" / "notes.txt").write_text("not a picture")
    assert FolderDataset(str(folder_set)).class_counts() == [10, 4]
    assert FolderDataset(str(folder_set), extensions=["PNG"]).class_counts() == [10, 4]


@pytest.mark.parametrize(
    ("change", "kwargs", "message"),
    [
        (None, {"split": "test"}, "no folder 'test'; it has: train, val"),
        (None, {"split": "test"}, r'data_dir ".*train" with split_ratio\.train=0\.8 split_ratio\.val=0\.2'),
        (None, {"data_dir": "nowhere"}, "nowhere is not a folder"),
        (None, {"split_ratio": HALF}, "divided already.*train, val"),
        ("flat", {}, "look like classes.*split_ratio"),
        ("stray", {}, "outside a class folder have no label: lost.png"),
        ("empty", {}, "no picture found in"),
        ("no classes", {}, "has no class folders"),
    ],
)
def test_mistakes_are_explained(folder_set, make_picture, change, kwargs, message):
    root = folder_set
    if change == "flat":
        root = folder_set / "train"
    elif change == "stray":
        make_picture(folder_set / "train" / "lost.png")
    elif change == "empty":
        for path in (folder_set / "train").glob("*/*.png"):
            path.unlink()
    elif change == "no classes":
        shutil.rmtree(folder_set / "train")
        (folder_set / "train").mkdir()
    with pytest.raises(DataError, match=message):
        FolderDataset(**{"data_dir": str(root), **kwargs})


@pytest.mark.parametrize(
    ("kwargs", "where"),
    [
        ({"split_ratio": {"train": 0.8, "val": 0.1}}, "kwargs.split_ratio"),
        ({"split_ratio": {"train": 1.5, "val": -0.5}}, "kwargs.split_ratio"),
        ({"split_ratio": HALF, "split": "test"}, "kwargs.split"),
    ],
)
def test_split_settings_are_checked_before_anything_is_read(kwargs, where):
    problems = FolderDataset.check_config({"data_dir": "nowhere", **kwargs}, "kwargs")
    assert [p.where for p in problems] == [where]
    with pytest.raises(ConfigError):
        FolderDataset("nowhere", **kwargs)


def test_it_is_built_by_name(folder_set):
    section = {"type": "FolderDataset", "kwargs": {"data_dir": str(folder_set)}}
    assert Registers.datasets.build(section, classes=["scratch", "dent"]).classes == ["scratch", "dent"]
