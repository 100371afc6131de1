"""Detection datasets: one order of names, boxes that can be learnt, splits, and what --check says of them."""

import json

import cv2
import numpy as np
import pytest

from dao.dataloaders.check import check_dataset
from dao.dataloaders.datasets.detection import BoxDataset, CocoDetection, LabelMeDetection, VocDetection, YoloDetection
from dao.errors import ConfigError, DataError
from dao.register import Registers


def write(root, boxes, categories=("dent", "hole"), stated=(20, 30), split="train"):
    """boxes: {name: [(class, left, top, right, bottom, extra keys)]}; pictures of 30 x 20."""
    names = list(categories)
    content = {"images": [], "annotations": [], "categories": [{"id": i, "name": n} for i, n in enumerate(names)]}
    (root / split).mkdir(parents=True, exist_ok=True)
    for key, (name, rows) in enumerate(boxes.items()):
        cv2.imwrite(str(root / split / f"{name}.png"), np.full((20, 30, 3), 5 * key, np.uint8))
        size = {"height": stated[0], "width": stated[1]} if stated else {}
        content["images"].append({"id": key, "file_name": f"{name}.png", **size})
        for label, left, top, right, bottom, *more in rows:
            row = {"image_id": key, "category_id": names.index(label), "bbox": [left, top, right - left, bottom - top]}
            content["annotations"].append({**row, **(more[0] if more else {})})
    (root / f"{split}.json").write_text(json.dumps(content))
    return str(root / f"{split}.json"), str(root / split)


ROWS = {
    "a": [("hole", 1, 2, 9, 8), ("dent", -5, 0, 50, 12)],
    "good": [],
    "b": [("hole", 3, 3, 3, 9), ("hole", 0, 0, 2, 2)],
}


def test_records_and_counts(tmp_path):
    data = CocoDetection(*write(tmp_path, ROWS))
    assert isinstance(data, BoxDataset) and data.classes == ["dent", "hole"]
    assert data.class_counts() == [1, 2]  # of boxes: the one without area is none
    assert data.records[0].boxes_xyxy.tolist() == [[1, 2, 9, 8], [0, 0, 30, 12]]
    assert [record.labels for record in data.records] == [(0, 1), (), (1,)]
    sample = data.read(0)
    assert sample.boxes_xyxy.dtype == np.float32 and sample.box_labels.tolist() == [1, 0]
    assert data.read(1).boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize("stated", [(20, 30), None])
def test_boxes_are_clipped_with_or_without_a_stated_size(tmp_path, stated):
    data = CocoDetection(*write(tmp_path, ROWS, stated=stated))
    assert data.records[0].boxes_xyxy[1].tolist() == [0, 0, 30, 12]


def test_dropped_boxes_are_problems_of_the_set(tmp_path):
    data = CocoDetection(*write(tmp_path, ROWS))
    assert len(data.problems) == 1 and "b.png: object 0 (hole) has a box without area" in data.problems[0]
    assert data.problems[0] in check_dataset(data, "train").problems


def test_a_picture_of_another_size_is_named(tmp_path):
    data = CocoDetection(*write(tmp_path, ROWS, stated=(30, 20)))
    with pytest.raises(DataError, match=r"a\.png: the picture is 30 x 20 pixels \(turned upright.*one of 20 x 30"):
        data.read(0)
    report = check_dataset(data, "train")
    assert len(report.unreadable) == 3 and "one of 20 x 30" in report.problems[0]


def test_given_classes_set_the_order_and_refuse_others(tmp_path):
    paths = write(tmp_path, ROWS)
    data = CocoDetection(*paths, classes=["hole", "scratch", "dent"])
    assert data.records[0].box_labels.tolist() == [0, 2] and data.class_counts() == [2, 0, 1]
    with pytest.raises(DataError, match=r"not among the known ones: hole \(3\).*Classes: dent, scratch"):
        CocoDetection(*paths, classes=["dent", "scratch"])


def test_a_category_without_boxes_need_not_be_known(tmp_path):
    paths = write(tmp_path, {"a": [("dent", 0, 0, 5, 5)]})
    assert CocoDetection(*paths, classes=["dent"]).class_counts() == [1]


def test_crowds_and_difficult_ones_are_ignored_in_truth(tmp_path):
    rows = [("dent", 0, 0, 5, 5, {"iscrowd": 1}), ("dent", 5, 5, 9, 9, {"difficult": 1}), ("hole", 1, 1, 4, 4)]
    data = CocoDetection(*write(tmp_path, {"a": rows}))
    truth = data.ground_truth(0)
    assert truth.ignore.tolist() == [True, True, False] and truth.labels.tolist() == [0, 0, 1]
    assert data.records[0].crowd.tolist() == [True, False, False]


def test_split_in_paths(tmp_path):
    for split in ("train", "val"):
        write(tmp_path, {split: []}, split=split)
    data = CocoDetection(f"{tmp_path}/{{split}}.json", f"{tmp_path}/{{split}}", split="val", classes=["dent"])
    assert data.records[0].path == str(tmp_path / "val" / "val.png")


def test_split_by_ratio_divides_without_overlap_and_wherever_the_set_lies(tmp_path):
    rows = {f"p{i}": [("dent" if i % 3 else "hole", 0, 0, 5, 5)] for i in range(30)}
    ratio = {"train": 0.7, "val": 0.3}
    divided = {}
    for place in ("here", "elsewhere/deep"):
        paths = write(tmp_path / place, rows)
        for split in ratio:
            data = CocoDetection(*paths, split=split, split_ratio=ratio)
            divided[place, split] = {record.path.rsplit("/", 1)[1] for record in data.records}
    assert len(divided["here", "train"]) == 21 and not divided["here", "train"] & divided["here", "val"]
    assert divided["here", "val"] == divided["elsewhere/deep", "val"]


@pytest.mark.parametrize(
    ("kwargs", "where", "words"),
    [
        ({"json_file": "a.json", "split": "val"}, "split", "means nothing without split_ratio or {split}"),
        ({"json_file": "{split}.json"}, "split", "is missing: what {split} in json_file"),
        ({"json_file": "a.json", "split_ratio": {"train": 1.0}}, "split", "expected a split of split_ratio"),
    ],
)
def test_contradicting_settings(kwargs, where, words):
    with pytest.raises(ConfigError) as caught:
        Registers.datasets.build({"type": "CocoDetection", "kwargs": kwargs}, "dataloader.dataset")
    assert caught.value.problems[0].where == f"dataloader.dataset.kwargs.{where}"
    assert words in caught.value.problems[0].what


def test_voc_lists_may_carry_a_flag(tmp_path):
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    for stem in "ab":
        text = f"<annotation><filename>{stem}.png</filename><object><name>dent</name>{box}</object></annotation>"
        (tmp_path / f"{stem}.xml").write_text(text)
        cv2.imwrite(str(tmp_path / f"{stem}.png"), np.zeros((20, 30, 3), np.uint8))
    (tmp_path / "val.txt").write_text("b  1\n")
    data = VocDetection(str(tmp_path), list_file=f"{tmp_path}/{{split}}.txt", split="val")
    assert len(data) == 1 and data.records[0].boxes_xyxy.tolist() == [[1, 1, 9, 9]]


def test_yolo_without_any_label_says_so(tmp_path):
    from loguru import logger

    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((20, 30, 3), np.uint8))
    (tmp_path / "data.yaml").write_text("names: [a]\ntrain: images\n")
    lines = []
    sink = logger.add(lines.append, format="{message}")
    data = YoloDetection(str(tmp_path / "data.yaml"))
    logger.remove(sink)
    assert len(data) == 1 and any("not one picture has a label file" in line for line in lines)


def test_labelme_boxes_go_round_their_shapes(tmp_path):
    shapes = [
        {"label": "b", "shape_type": "polygon", "points": [[2, 1], [6, 1], [6, 4]]},
        {"label": "a", "shape_type": "circle", "points": [[10, 10], [13, 10]], "flags": {"crowd": True}},
    ]
    content = {"imagePath": "p.png", "imageHeight": 20, "imageWidth": 30, "shapes": shapes}
    (tmp_path / "p.json").write_text(json.dumps(content))
    cv2.imwrite(str(tmp_path / "p.png"), np.zeros((20, 30, 3), np.uint8))
    record = LabelMeDetection(str(tmp_path)).records[0]
    assert record.boxes_xyxy[0].tolist() == [2, 1, 6, 4] and record.crowd.tolist() == [False, True]
    assert record.boxes_xyxy[1] == pytest.approx([7, 7, 13, 13])
