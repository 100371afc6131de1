"""What a division leaves out is counted, and "all" takes every picture, whatever split it belongs to."""

import json

import cv2
import numpy as np
import pytest
from loguru import logger

from dao.dataloaders.datasets.csvfile import CsvDataset
from dao.dataloaders.datasets.folder import FolderDataset
from dao.dataloaders.datasets.listfile import ListDataset
from dao.dataloaders.datasets.seg_csv import SegCsvDataset
from dao.dataloaders.datasets.seg_folder import SegFolderDataset
from dao.register import Registers, import_all_modules_for_register
from dao.trainers.answering import say_left_out

RATIO = {"train": 0.8, "val": 0.2}


@pytest.fixture(scope="module")
def week(tmp_path_factory):
    """20 pictures in two class folders, and every other layout of the same pictures."""
    root = tmp_path_factory.mktemp("week")
    (root / "masks").mkdir()
    rows, lines, images = ["image,label,mask,split"], [], []
    for i in range(20):
        name = f"{('ok', 'dent')[i % 2]}/{i}.png"
        (root / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "flat").mkdir(exist_ok=True)
        for path in (root / "pictures" / name, root / "flat" / f"{i}.png"):
            cv2.imwrite(str(path), np.full((8, 8, 3), 10 * i, np.uint8))
        cv2.imwrite(str(root / "masks" / f"{i}.png"), np.full((8, 8), i % 2, np.uint8))
        rows.append(f"pictures/{name},{i % 2},masks/{i}.png,{'val' if i < 4 else 'train'}")
        lines.append(f"pictures/{name} {i % 2}")
        images.append({"id": i, "file_name": f"flat/{i}.png", "height": 8, "width": 8})
    (root / "parts.csv").write_text("\n".join(rows) + "\n")
    (root / "parts.txt").write_text("\n".join(lines) + "\n")
    boxes = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0} for i in range(20)
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "dent"}]}
    (root / "boxes.json").write_text(json.dumps(content))
    return root


DATASETS = {
    "folders": lambda root, **split: FolderDataset(str(root / "pictures"), **split),
    "csv": lambda root, **split: CsvDataset(str(root / "parts.csv"), **split),
    "list": lambda root, **split: ListDataset(str(root / "parts.txt"), **split),
    "masks by csv": lambda root, **split: SegCsvDataset(str(root / "parts.csv"), classes=["ok", "dent"], **split),
    "masks by folder": lambda root, **split: SegFolderDataset(str(root), image_dir="flat", mask_dir="masks", classes=["ok", "dent"], **split),
    "boxes": lambda root, **split: Registers.datasets.get("CocoDetection")(str(root / "boxes.json"), data_dir=str(root), **split),
}  # fmt: skip


@pytest.mark.parametrize("kind", DATASETS)
def test_a_split_knows_how_many_pictures_it_was_divided_from_and_all_takes_them_all(week, kind):
    import_all_modules_for_register()
    made = DATASETS[kind]
    part, everything = (made(week, split_ratio=RATIO, split=split) for split in ("val", "all"))
    assert (len(part), part.of_all) == (4, 20) and (len(everything), everything.of_all) == (20, 20)


def test_a_split_column_can_be_left_aside_too(week):
    part, everything = (CsvDataset(str(week / "parts.csv"), split_column="split", split=s) for s in ("val", "all"))
    assert (len(part), part.of_all, len(everything)) == (4, 20, 20)


def test_class_folders_without_splits_are_taken_whole(week):
    assert len(FolderDataset(str(week / "pictures"), split="all")) == 20


@pytest.fixture
def said():
    lines = []
    handler = logger.add(lambda message: lines.append((message.record["level"].name, message.record["message"])))
    yield lines
    logger.remove(handler)


def test_an_inherited_division_that_leaves_pictures_out_is_said_with_the_way_out(week, said):
    dataset = FolderDataset(str(week / "pictures"), split="val", split_ratio=RATIO)
    trained = {"data_dir": "training", "split": "val", "split_ratio": RATIO}
    known = {"evaluator": {"dataloader": {"dataset": {"kwargs": trained}}}}
    say_left_out(dataset, {"kwargs": {**trained, "data_dir": "week"}}, known)
    level, text = said[-1]
    assert level == "WARNING" and "16 of 20 pictures belong to another split" in text and ".kwargs.split=all" in text
    say_left_out(dataset, {"kwargs": trained}, known)  # the set that the division was made for
    assert said[-1][0] == "INFO" and "16 of 20" in said[-1][1]
    before = len(said)
    say_left_out(FolderDataset(str(week / "pictures"), split="all"), {"kwargs": {"split": "all"}}, known)
    assert len(said) == before
