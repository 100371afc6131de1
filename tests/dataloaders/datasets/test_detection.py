"""Boxes of four formats, one order of names, and every way in which boxes can be wrong."""

import json

import cv2
import numpy as np
import pytest

from dao.dataloaders.check import check_dataset
from dao.dataloaders.datasets.detection import CocoDetection, LabelMeDetection, VocDetection, YoloDetection
from dao.errors import ConfigError, DataError
from dao.register import Registers

WANTED = [("dent", (2, 3, 12, 9)), ("scratch", (20, 10, 30, 30))]


def picture(path, hw=(40, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*hw, 3), 90, np.uint8))


def coco(tmp_path, boxes=WANTED, **extra):
    picture(tmp_path / "a.png")
    picture(tmp_path / "empty.png")
    ids = {"dent": 90, "scratch": 7}
    content = {
        "images": [{"id": 5, "file_name": "a.png", "height": 40, "width": 50}, {"id": 6, "file_name": "empty.png"}],
        "categories": [{"id": k, "name": name} for name, k in ids.items()],
        "annotations": [
            {"image_id": 5, "category_id": ids[name], "bbox": [x0, y0, x1 - x0, y1 - y0], **extra} for name, (x0, y0, x1, y1) in boxes
        ],
    }  # fmt: skip
    (tmp_path / "all.json").write_text(json.dumps(content))
    return CocoDetection(str(tmp_path / "all.json"))


def voc(tmp_path, boxes=WANTED, difficult=0, one_based=False):
    picture(tmp_path / "JPEGImages" / "a.png")
    first = 1 if one_based else 0
    objects = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x0 + first}</xmin><ymin>{y0 + first}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, (x0, y0, x1, y1) in boxes
    )
    folder = tmp_path / "Annotations"
    folder.mkdir(exist_ok=True)
    size = "<size><width>50</width><height>40</height><depth>3</depth></size>"
    (folder / "a.xml").write_text(f"<annotation><filename>a.png</filename>{size}{objects}</annotation>")
    return VocDetection(str(folder), one_based=one_based)


def yolo(tmp_path, lines=None):
    picture(tmp_path / "images" / "train" / "a.png")
    picture(tmp_path / "images" / "train" / "empty.png")
    names = ["dent", "scratch"]
    rows = [
        f"{names.index(name)} {(x0 + x1) / 100} {(y0 + y1) / 80} {(x1 - x0) / 50} {(y1 - y0) / 40}"
        for name, (x0, y0, x1, y1) in WANTED
    ]
    (tmp_path / "labels" / "train").mkdir(parents=True, exist_ok=True)
    (tmp_path / "labels" / "train" / "a.txt").write_text("\n".join(rows if lines is None else lines))
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: {0: dent, 1: scratch}\n")
    return YoloDetection(str(tmp_path / "data.yaml"))


def labelme(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "empty.png")
    shapes = [
        {"label": name, "shape_type": "rectangle", "points": [[x0, y0], [x1, y1]]} for name, (x0, y0, x1, y1) in WANTED
    ]
    content = {"imagePath": "a.png", "imageHeight": 40, "imageWidth": 50, "shapes": shapes}
    (tmp_path / "a.json").write_text(json.dumps(content))
    return LabelMeDetection(str(tmp_path))


@pytest.mark.parametrize("make", [coco, voc, yolo, labelme])
def test_every_format_gives_the_same_boxes(make, tmp_path):
    data = make(tmp_path)
    sample = data.read(0)
    found = {data.classes[k]: tuple(box) for k, box in zip(sample.box_labels, sample.boxes_xyxy)}
    assert found.keys() == {"dent", "scratch"}
    for name, box in WANTED:
        np.testing.assert_allclose(found[name], box, atol=1e-4)
    assert sorted(data.class_counts()) == [1, 1]
    truth = data.ground_truth(0)
    assert truth.boxes_xyxy.shape == (2, 4) and not truth.ignore.any()
    if len(data) == 2:  # a picture where nothing is to be found is welcome
        assert data.read(1).boxes_xyxy.shape == (0, 4) and len(data.ground_truth(1).labels) == 0


def test_names_go_by_category_ids_and_may_be_ordered_otherwise(tmp_path):
    assert coco(tmp_path).classes == ["scratch", "dent"]
    other = CocoDetection(str(tmp_path / "all.json"), classes=["dent", "extra", "scratch"])
    assert sorted(other.read(0).box_labels.tolist()) == [0, 2]
    with pytest.raises(DataError, match=r"not among the known ones: scratch \(1\)(.|\n)*Classes: dent"):
        CocoDetection(str(tmp_path / "all.json"), classes=["dent"])


def test_boxes_are_clipped_and_hopeless_ones_named(tmp_path):
    boxes = [
        ("dent", (-5, 30, 10, 60)),
        ("dent", (3, 3, 3, 9)),
        ("scratch", (60, 0, 70, 10)),
        ("dent", (1, 1, float("nan"), 4)),
    ]
    data = coco(tmp_path, boxes)
    assert data.read(0).boxes_xyxy.tolist() == [[0, 30, 10, 40]]
    left_out = data.census.omitted
    assert [len(names) for names in left_out.values()] == [1, 1, 1]
    assert "object 1 (dent" in left_out["boxes without area left out"][0]
    assert "object 2 (scratch" in left_out["boxes outside their picture left out"][0]
    assert "object 3 (dent" in left_out["boxes that are no numbers left out"][0]


def test_crowds_and_difficult_ones_are_ignored_in_evaluation(tmp_path):
    assert coco(tmp_path, iscrowd=1).ground_truth(0).ignore.all()
    assert voc(tmp_path / "v", difficult=1).ground_truth(0).ignore.all()


def test_the_area_that_coco_states_reaches_the_evaluator(tmp_path):
    data = coco(tmp_path, area=17.5)
    assert data.ground_truth(0).area.tolist() == [17.5, 17.5]  # the boxes have 60 and 200 pixels
    assert data.ground_truth(1).area is None  # no object, nothing stated
    assert coco(tmp_path).ground_truth(0).area is None


def test_an_area_that_one_object_leaves_out_is_that_of_its_box(tmp_path):
    coco(tmp_path)
    content = json.loads((tmp_path / "all.json").read_text())
    content["annotations"][0]["area"] = 31
    (tmp_path / "all.json").write_text(json.dumps(content))
    assert CocoDetection(str(tmp_path / "all.json")).ground_truth(0).area.tolist() == [31, 200]


def test_pixels_counted_from_one(tmp_path):
    np.testing.assert_allclose(voc(tmp_path, one_based=True).read(0).boxes_xyxy, [box for _, box in WANTED])


def test_a_picture_of_another_size_is_refused(tmp_path):
    data = coco(tmp_path)
    picture(tmp_path / "a.png", (50, 40))
    with pytest.raises(DataError, match="40 x 50 pixels .*EXIF.* of one of 50 x 40"):
        data.read(0)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["5 0.5 0.5 0.1 0.1"], "line 1: there is no class 5"),
        (["0 0.5 0.5 0.1"], "got 4 numbers"),
        (["0 25 20 10 10"], "parts of the picture, 0 to 1; got 25"),
        (["0 x 0.5 0.1 0.1"], "expected numbers"),
    ],
)
def test_wrong_yolo_lines_are_named(lines, words, tmp_path):
    with pytest.raises(DataError, match=words):
        yolo(tmp_path, lines)


def test_yolo_outlines_become_boxes(tmp_path):
    data = yolo(tmp_path, ["1 0.4 0.25 0.6 0.25 0.6 0.75"])
    np.testing.assert_allclose(data.read(0).boxes_xyxy, [[20, 10, 30, 30]], atol=1e-4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation><object><bndbox/></object></annotation>", "object 0 has no name"),
        ("<annotation><object><name>a</name></object></annotation>", "has no bndbox"),
        ("<html/>", "its root is <html>"),
        ("<annotation>", "a.xml"),
    ],
)
def test_wrong_xml_is_named(text, words, tmp_path):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DataError, match=words):
        VocDetection(str(tmp_path))


def test_splits_by_name_and_by_ratio(tmp_path):
    coco(tmp_path)
    (tmp_path / "part_val.json").write_text((tmp_path / "all.json").read_text())
    assert len(CocoDetection(str(tmp_path / "part_{split}.json"), split="val")) == 2
    content = json.loads((tmp_path / "all.json").read_text())
    content["images"] = [{"id": i, "file_name": f"{i}.png", "height": 40, "width": 50} for i in range(4)]
    content["annotations"] = [{"image_id": i, "category_id": 7, "bbox": [1, 1, 5, 5]} for i in range(4)]
    (tmp_path / "four.json").write_text(json.dumps(content))
    for i in range(4):
        picture(tmp_path / f"{i}.png")
    ratio = {"train": 0.5, "val": 0.5}
    halves = [CocoDetection(str(tmp_path / "four.json"), split=split, split_ratio=ratio) for split in ratio]
    assert [len(half) for half in halves] == [2, 2]
    assert len({record.path for half in halves for record in half.records}) == 4
    with pytest.raises(ConfigError, match="means nothing without"):
        CocoDetection(str(tmp_path / "all.json"), split="val")
    with pytest.raises(ConfigError, match="is missing"):
        CocoDetection(str(tmp_path / "part_{split}.json"))


def test_what_was_left_out_and_pictures_of_another_size_are_problems_of_a_check(tmp_path):
    data = coco(tmp_path, [("dent", (1, 1, 5, 5)), ("dent", (3, 3, 3, 9))])
    assert data.census.omissions()[0] in check_dataset(data, "train").problems
    picture(tmp_path / "a.png", (50, 40))
    report = check_dataset(data, "train")
    assert len(report.unreadable) == 1 and "of one of 50 x 40" in report.unreadable[0][1]


def test_a_category_without_boxes_need_not_be_known(tmp_path):
    coco(tmp_path, WANTED[:1])
    assert CocoDetection(str(tmp_path / "all.json"), classes=["dent"]).class_counts() == [1]


@pytest.mark.parametrize("stated", [True, False])
def test_boxes_are_clipped_with_or_without_a_stated_size(tmp_path, stated):
    coco(tmp_path, [("dent", (-5, 0, 99, 12))])
    content = json.loads((tmp_path / "all.json").read_text())
    if not stated:
        content["images"][0] = {"id": 5, "file_name": "a.png"}
        (tmp_path / "all.json").write_text(json.dumps(content))
    assert CocoDetection(str(tmp_path / "all.json")).records[0].boxes_xyxy.tolist() == [[0, 0, 50, 12]]


def test_a_division_by_ratio_does_not_depend_on_where_the_set_lies(tmp_path):
    divided = []
    for place in (tmp_path / "here", tmp_path / "elsewhere" / "deep"):
        coco(place)
        content = json.loads((place / "all.json").read_text())
        content["images"] = [{"id": i, "file_name": f"{i}.png", "height": 40, "width": 50} for i in range(30)]
        content["annotations"] = []
        (place / "all.json").write_text(json.dumps(content))
        for i in range(30):
            picture(place / f"{i}.png", (4, 4))
        half = CocoDetection(str(place / "all.json"), split="val", split_ratio={"train": 0.5, "val": 0.5})
        divided.append([record.path.rsplit("/", 1)[1] for record in half.records])
    assert divided[0] == divided[1] and len(divided[0]) == 15


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"json_file": "a.json", "split": "val"}, "means nothing without split_ratio or {split}"),
        ({"json_file": "a.json", "data_dir": "b", "split": "val"}, "write {split} for it in json_file or data_dir"),
        ({"json_file": "{split}.json"}, "is missing: what {split} in json_file"),
        ({"json_file": "a.json", "split_ratio": {"train": 1.0}}, "expected a split of split_ratio"),
    ],
)
def test_contradicting_splits_are_found_before_anything_is_read(kwargs, words):
    with pytest.raises(ConfigError) as caught:
        Registers.datasets.build({"type": "CocoDetection", "kwargs": kwargs}, "dataloader.dataset")
    assert (
        caught.value.problems[0].where == "dataloader.dataset.kwargs.split" and words in caught.value.problems[0].what
    )


def test_voc_lists_may_carry_a_flag(tmp_path):
    voc(tmp_path)
    (tmp_path / "val.txt").write_text("a  1\n")
    data = VocDetection(str(tmp_path / "Annotations"), list_file=f"{tmp_path}/{{split}}.txt", split="val")
    assert len(data) == 1 and len(data.records[0].box_labels) == 2


def test_yolo_without_any_label_says_so(tmp_path):
    from loguru import logger

    lines = []
    sink = logger.add(lines.append, format="{message}")
    yolo(tmp_path, [])
    logger.remove(sink)
    assert any("not one picture has a label file with boxes" in line for line in lines)


def test_labelme_boxes_go_round_their_shapes(tmp_path):
    labelme(tmp_path)
    shapes = [
        {"label": "b", "shape_type": "polygon", "points": [[2, 1], [6, 1], [6, 4]]},
        {"label": "a", "shape_type": "circle", "points": [[10, 10], [13, 10]], "flags": {"crowd": True}},
    ]
    content = {"imagePath": "a.png", "imageHeight": 40, "imageWidth": 50, "shapes": shapes}
    (tmp_path / "a.json").write_text(json.dumps(content))
    record = LabelMeDetection(str(tmp_path)).records[0]
    assert record.boxes_xyxy[0].tolist() == [2, 1, 6, 4] and record.crowd.tolist() == [False, True]
    assert record.boxes_xyxy[1] == pytest.approx([7, 7, 13, 13])
