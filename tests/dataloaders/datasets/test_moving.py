"""A division by ratio is the same wherever the set lies and however its path is written, in every dataset that divides."""

import json
import shutil

import cv2
import numpy as np
import pytest

from dao.dataloaders.datasets.csvfile import CsvDataset
from dao.dataloaders.datasets.detection import CocoDetection, LabelMeDetection, VocDetection
from dao.dataloaders.datasets.folder import FolderDataset
from dao.dataloaders.datasets.listfile import ListDataset
from dao.dataloaders.datasets.seg_annotations import LabelMeSegmentation
from dao.dataloaders.datasets.seg_csv import SegCsvDataset
from dao.dataloaders.datasets.seg_folder import SegFolderDataset

NAMES = [f"{'ab'[i % 2]}/{i}.png" for i in range(16)]
RATIO = {"split_ratio": {"train": 0.5, "val": 0.5}, "split": "val"}
DATASETS = {
    "folder": lambda root: FolderDataset(f"{root}/pictures", **RATIO),
    "csv": lambda root: CsvDataset(f"{root}/rows.csv", f"{root}/pictures", **RATIO),
    "list": lambda root: ListDataset(f"{root}/rows.txt", data_dir=f"{root}/pictures", **RATIO),
    "seg_csv": lambda root: SegCsvDataset(f"{root}/rows.csv", f"{root}/pictures", mask_format="binary", **RATIO),
    "seg_folder": lambda root: SegFolderDataset(root, "pictures", "masks", mask_format="binary", **RATIO),
    "seg_labelme": lambda root: LabelMeSegmentation(f"{root}/pictures", **RATIO),
    "labelme": lambda root: LabelMeDetection(f"{root}/pictures", **RATIO),
    "coco": lambda root: CocoDetection(f"{root}/coco.json", f"{root}/pictures", **RATIO),
    "voc": lambda root: VocDetection(f"{root}/pictures", **RATIO),
}


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """One set of pictures with the files of every dataset."""
    root = tmp_path_factory.mktemp("first") / "set"
    rows, images, boxes = [], [], []
    for key, name in enumerate(NAMES):
        for place in ("pictures", "masks"):
            (root / place / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / place / name), np.full((8, 8), 255, np.uint8))
        shapes = [{"label": name[0], "shape_type": "rectangle", "points": [[1, 1], [5, 5]]}]
        content = {"imagePath": name[2:], "imageHeight": 8, "imageWidth": 8, "shapes": shapes}
        (root / "pictures" / name).with_suffix(".json").write_text(json.dumps(content))
        sides = "<xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax>"
        marked = f"<object><name>{name[0]}</name><bndbox>{sides}</bndbox></object>"
        text = f"<annotation><filename>{name[2:]}</filename>{marked}</annotation>"
        (root / "pictures" / name).with_suffix(".xml").write_text(text)
        rows.append((name, name[0]))
        images.append({"id": key, "file_name": name})
        boxes.append({"image_id": key, "category_id": int(name[0] == "b"), "bbox": [1, 1, 4, 4]})
    (root / "rows.csv").write_text("image,label,mask\n" + "".join(f"{name},{label},{name}\n" for name, label in rows))
    (root / "rows.txt").write_text("".join(f"{name} {label}\n" for name, label in rows))
    categories = [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]
    (root / "coco.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    return root


@pytest.mark.parametrize("kind", list(DATASETS))
def test_a_division_is_the_same_in_another_folder_and_by_a_relative_path(everything, kind, tmp_path, monkeypatch):
    def taken(root):
        return ["/".join(record.path.rsplit("/", 2)[1:]) for record in DATASETS[kind](root).records]

    here = taken(everything)
    moved = tmp_path / "somewhere" / "else" / "moved"
    shutil.copytree(everything, moved)
    assert len(here) == 8 and taken(moved) == here
    monkeypatch.chdir(moved.parent)
    assert taken("moved") == here and taken("./moved/../moved") == here
