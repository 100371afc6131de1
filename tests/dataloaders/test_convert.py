"""The converter: every format into every other one and back, compared box by box with what was written by hand."""

import base64
import itertools
import json

import cv2
import numpy as np
import pytest

from dao.dataloaders import convert
from dao.dataloaders.annotations.regions import decode_rle
from dao.dataloaders.annotations.yolo_txt import read_yolo
from dao.dataloaders.datasets.detection import CocoDetection, LabelMeDetection, VocDetection, YoloDetection

CLASSES = ["scratch", "dent", "never"]
BOXES = {  # by picture: class, left, top, right, bottom in pixels of 30 x 20
    "a": [("dent", 1.25, 2, 11, 12.5), ("scratch", 0, 0, 30, 20)],
    "sub/b": [("scratch", 10 / 3, 4, 9, 8)],
    "sub/good": [],
}


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    content = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 9 - i, "name": n} for i, n in enumerate(CLASSES[::-1])],
    }
    for key, (name, rows) in enumerate(BOXES.items()):
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "images" / f"{name}.png"), np.full((20, 30, 3), 40 * key, np.uint8))
        content["images"].append({"id": key, "file_name": f"{name}.png", "width": 30, "height": 20})
        for label, left, top, right, bottom in rows:
            row = {
                "id": len(content["annotations"]) + 1,
                "image_id": key,
                "bbox": [left, top, right - left, bottom - top],
            }
            content["annotations"].append({**row, "category_id": 9 - CLASSES[::-1].index(label)})
    (root / "a.json").write_text(json.dumps(content))
    return root


def edit(source, change):
    content = json.loads((source / "a.json").read_text())
    change(content)
    (source / "a.json").write_text(json.dumps(content))


def run(capsys, *arguments):
    code = convert.main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def args_of(kind, root, split="train"):
    """How to read what the converter wrote in a format."""
    return {
        "coco": [root / f"annotations/instances_{split}.json", "--images", root / "images" / split],
        "voc": [root / "Annotations" / split, "--images", root / "JPEGImages" / split],
        "yolo": [root / "data.yaml"],
        "labelme": [root / split],
    }[kind]


def dataset(kind, root, split="train"):
    return {
        "coco": lambda: CocoDetection(
            f"{root}/annotations/instances_{{split}}.json", f"{root}/images/{{split}}", split
        ),
        "voc": lambda: VocDetection(
            f"{root}/Annotations", list_file=f"{root}/ImageSets/Main/{{split}}.txt", split=split
        ),
        "yolo": lambda: YoloDetection(f"{root}/data.yaml", split),
        "labelme": lambda: LabelMeDetection(f"{root}/{{split}}", split=split, classes=CLASSES),
    }[kind]()


def rows_of(data):
    """{picture: sorted rows of class and box}, comparable over formats."""
    found = {}
    for record in data.records:
        name = "sub/" * ("sub" in record.path.split("/")) + record.path.rsplit("/", 1)[1][:-4]
        boxes = np.round(record.boxes_xyxy.astype(float), 4).tolist()
        found[name] = sorted((data.classes[label], *box) for label, box in zip(record.box_labels, boxes))
    return found


WANTED = {name: sorted((label, *np.round(box, 4).tolist()) for label, *box in rows) for name, rows in BOXES.items()}
FORMATS = ("coco", "voc", "yolo", "labelme")


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(FORMATS, 2)))
def test_boxes_survive_every_chain_of_two(tmp_path, source, capsys, first, second):
    one, two = tmp_path / "one", tmp_path / "two"
    start = ["--from", "coco", source / "a.json", "--images", source / "images"]
    assert run(capsys, *start, "--to", first, "--out", one)[0] == 0
    names = ["--classes", ",".join(CLASSES)]  # LabelMe has no list of them
    code, said, _ = run(capsys, "--from", first, *args_of(first, one), "--to", second, "--out", two, *names)
    assert code == 0 and "3 pictures with 3 objects of 3 classes" in said
    for kind, root in ((first, one), (second, two)):
        data = dataset(kind, root)
        assert data.classes == CLASSES
        assert rows_of(data) == WANTED
        assert all((data.read(i).image == data.read(i).image[0, 0]).all() for i in range(3))  # the pictures came along


def test_what_has_no_place_is_said(tmp_path, source, capsys):
    def change(content):
        rows = content["annotations"]
        rows[0]["iscrowd"] = 1
        rows[1]["difficult"] = 1
        rows[2]["segmentation"] = [[10 / 3, 4, 9, 4, 9, 8, 10 / 3, 8]]

    edit(source, change)
    start = ["--from", "coco", source / "a.json", "--images", source / "images"]
    said = {kind: run(capsys, *start, "--to", kind, "--out", tmp_path / kind)[1] for kind in FORMATS}
    assert "1 object is marked 'difficult', a key that only AICore reads" in said["coco"]
    assert "1 outline or mask: VOC has boxes alone" in said["voc"] and "1 box of several objects" in said["voc"]
    assert "2 boxes that need not be found (crowd, difficult): left out" in said["yolo"]
    assert "never" in said["labelme"] and "order of the classes" in said["labelme"]
    counts = {kind: [r.crowd.sum() for r in dataset(kind, tmp_path / kind).records] for kind in FORMATS}
    assert [sum(counts[kind]) for kind in FORMATS] == [1, 0, 0, 1]
    difficult = {kind: sum(r.difficult.sum() for r in dataset(kind, tmp_path / kind).records) for kind in FORMATS}
    assert [difficult[kind] for kind in FORMATS] == [1, 2, 0, 1]


def test_outlines_and_masks_survive_labelme(tmp_path, source, capsys):
    ring = [2, 3, 12, 3, 12, 10]
    region = np.zeros((20, 30), bool)
    region[4:8, 5:9] = region[5, 9:12] = True
    runs = np.flatnonzero(np.diff(np.concatenate([[False], region.ravel(order="F")]))) + 0
    lengths = np.diff(np.concatenate([[0], runs, [600]])).tolist()

    def change(content):
        for row, shape in zip(content["annotations"], ([ring], {"size": [20, 30], "counts": lengths}), strict=False):
            row["segmentation"] = shape
            row.pop("bbox")

    edit(source, change)
    start = ["--from", "coco", source / "a.json", "--images", source / "images"]
    assert run(capsys, *start, "--to", "labelme", "--out", tmp_path / "l")[0] == 0
    back = ["--from", "labelme", *args_of("labelme", tmp_path / "l"), "--to", "coco", "--out", tmp_path / "c"]
    assert "nothing was lost" in run(capsys, *back, "--classes", ",".join(CLASSES))[1]
    found = json.loads((tmp_path / "c/annotations/instances_train.json").read_text())["annotations"]
    assert found[0]["segmentation"] == [ring] and found[0]["bbox"] == [2, 3, 10, 7]
    assert np.array_equal(decode_rle(found[1]["segmentation"], (20, 30)), region)
    assert found[1]["bbox"] == [5, 4, 7, 4] and found[1]["area"] == region.sum()


def test_yolo_keeps_outlines_on_demand(tmp_path, source, capsys):
    ring = [2, 3, 12, 3, 12.5, 10]

    def change(content):
        content["annotations"][0] = {**content["annotations"][0], "bbox": None, "segmentation": [ring]}

    edit(source, change)
    start = ["--from", "coco", source / "a.json", "--images", source / "images", "--to", "yolo"]
    assert "1 outline or mask: the box round each was written" in run(capsys, *start, "--out", tmp_path / "b")[1]
    assert "nothing was lost" in run(capsys, *start, "--out", tmp_path / "o", "--outlines")[1]
    found = read_yolo(tmp_path / "o" / "data.yaml").images[0].objects
    assert found[0].polygons[0].reshape(-1) == pytest.approx(ring)
    assert len(found[1].polygons[0]) == 4 and found[1].bounds() == pytest.approx((0, 0, 30, 20))
    assert rows_of(dataset("yolo", tmp_path / "b"))["a"][0] == ("dent", 2, 3, 12.5, 10)
    code, _, error = run(capsys, *start[:-1], "voc", "--out", tmp_path / "v", "--outlines")
    assert code == 2 and "is for yolo" in error


def test_broken_boxes_are_named_and_left_out(tmp_path, source, capsys):
    edit(source, lambda content: content["annotations"][1].update(bbox=[3, 3, 0, 5]))
    start = ["--from", "coco", source / "a.json", "--images", source / "images"]
    code, said, _ = run(capsys, *start, "--to", "yolo", "--out", tmp_path / "y")
    assert code == 0 and "3 pictures with 2 objects" in said


def test_splits_share_one_set_and_one_order_of_names(tmp_path, source, capsys):
    start = ["--from", "coco", source / "a.json", "--images", source / "images"]
    for kind in ("yolo", "voc", "coco", "labelme"):
        for split in ("train", "val"):
            assert run(capsys, *start, "--to", kind, "--out", tmp_path / kind, "--split", split)[0] == 0
        for split in ("train", "val"):
            assert rows_of(dataset(kind, tmp_path / kind, split)) == WANTED
    for kind in ("yolo", "voc"):
        other = ["--to", kind, "--out", tmp_path / kind, "--split", "test", "--classes", "dent,scratch"]
        code, _, error = run(capsys, *start, *other)
        assert code == 2 and "one order of names" in error
        assert not list((tmp_path / kind).rglob("test"))


def test_mistakes_end_in_one_message(tmp_path, source, capsys):
    start = ["--from", "coco", source / "a.json", "--images", source / "images", "--out", tmp_path / "o"]
    for more, words in (
        (["--to", "voc", "--classes", "dent"], "scratch (2)"),
        (["--to", "yolo", "--pictures", "none"], "copy or link"),
        (["--to", "yolo", "--split", "a/b"], "expected a name such as train"),
    ):
        code, out, error = run(capsys, *start, *more)
        assert code == 2 and words in error and not out and "Traceback" not in error
    assert not (tmp_path / "o").exists()
    assert run(capsys, *start, "--to", "yolo")[0] == 0
    code, _, error = run(capsys, *start, "--to", "yolo")
    assert code == 2 and "nothing is written over" in error
    (source / "images" / "a.png").unlink()
    code, _, error = run(capsys, *start, "--to", "coco")
    assert code == 2 and "a.png does not exist" in error


def test_pictures_can_stay_or_be_linked(tmp_path, source, capsys):
    start = ["--from", "coco", source / "a.json", "--images", source / "images"]
    run(capsys, *start, "--to", "coco", "--out", tmp_path / "c", "--pictures", "none")
    assert not (tmp_path / "c" / "images").exists()
    data = CocoDetection(str(tmp_path / "c/annotations/instances_train.json"))
    assert rows_of(data) == WANTED and data.read(0).image.shape == (20, 30, 3)
    for kind in ("labelme", "voc"):
        run(capsys, *start, "--to", kind, "--out", tmp_path / kind, "--pictures", "none")
        data = dataset(kind, tmp_path / kind)
        assert rows_of(data) == WANTED and data.read(0).image.shape == (20, 30, 3)
    run(capsys, *start, "--to", "yolo", "--out", tmp_path / "y", "--pictures", "link")
    assert (tmp_path / "y/images/train/sub/b.png").samefile(source / "images/sub/b.png")


def labelme_file(folder, name, shapes, **more):
    folder.mkdir(exist_ok=True)
    content = {"imagePath": f"{name}.png", "imageHeight": 20, "imageWidth": 30, "shapes": shapes}
    (folder / f"{name}.json").write_text(json.dumps(content | more))


def shape(label, kind, points):
    return {"label": label, "shape_type": kind, "points": points}


def test_labelme_pictures_inside_their_files_lines_and_its_own_labels_are_converted(tmp_path, capsys):
    packed = base64.b64encode(cv2.imencode(".png", np.full((20, 30, 3), 7, np.uint8))[1].tobytes()).decode()
    area = shape("dent", "rectangle", [[2, 2], [9, 8]])
    source = tmp_path / "in"
    labelme_file(source, "a", [area, shape("__ignore__", "rectangle", [[0, 0], [1, 1]])], imageData=packed)
    labelme_file(source, "b", [shape("dent", "line", [[5, 5], [20, 5]])], imageData=packed)
    arguments = ["--from", "labelme", source, "--to", "coco"]
    code, out, err = run(capsys, *arguments, "--out", tmp_path / "x")
    assert code == 0 and "1 picture with 1 object" in out, err  # b lost its only object: it is no good part
    image = cv2.imread(str(tmp_path / "x/images/train/a.png"))
    assert image.shape == (20, 30, 3) and (image == 7).all()
    code, out, err = run(capsys, *arguments, "--out", tmp_path / "y", "--line-width", 4)
    assert code == 0 and "2 pictures with 2 objects" in out, err
    boxes = [
        row["bbox"] for row in json.loads((tmp_path / "y/annotations/instances_train.json").read_text())["annotations"]
    ]
    assert boxes == [[2, 2, 7, 6], pytest.approx([3, 3, 19, 4], abs=0.01)]
    assert run(capsys, *arguments, "--out", tmp_path / "z", "--line-width", -1)[0] == 2
