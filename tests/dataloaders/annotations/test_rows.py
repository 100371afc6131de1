"""Inputs of the world that were misread without a word, one test each, against numbers counted by hand.

Pictures are 96 x 96; PAIRS encloses 30 x 20 = 600 pixels.
"""

import base64
import json
import unicodedata

import cv2
import numpy as np
import pytest

from dao.dataloaders.annotations.coco import read_coco
from dao.dataloaders.annotations.labelme import read_labelme
from dao.dataloaders.annotations.voc_xml import read_voc
from dao.dataloaders.annotations.yolo_txt import read_yolo
from dao.dataloaders.check import check_dataset
from dao.dataloaders.datasets.detection import CocoDetection, LabelMeDetection, YoloDetection
from dao.dataloaders.datasets.seg_annotations import CocoSegmentation, LabelMeSegmentation
from dao.errors import ConfigError, DataError

PAIRS = [[20, 20], [50, 20], [50, 40], [20, 40]]
RING = [20, 20, 50, 20, 50, 40, 20, 40]
LOST = "pictures left out, as everything marked in them was lost"


def picture(path, hw=(96, 96)):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, np.zeros((*hw, 3), np.uint8))[1].tobytes())
    return path


def coco(root, shape=None, box=(20, 20, 30, 20), hw=(96, 96), **changes):
    """Two pictures: one object as given, and a box of 5 x 5 pixels."""
    picture(root / "a.png")
    picture(root / "b.png")
    first = {"id": 1, "image_id": 1, "category_id": 1} | ({"bbox": list(box)} if box else {})
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "height": hw[0], "width": hw[1]},
            {"id": 2, "file_name": "b.png", "height": 96, "width": 96},
        ],
        "categories": [{"id": 1, "name": "scratch"}, {"id": 2, "name": "dent"}],
        "annotations": [
            first | ({} if shape is None else {"segmentation": shape}),
            {"id": 2, "image_id": 2, "category_id": 1, "bbox": [1, 1, 5, 5]},
        ],
    }
    (root / "a.json").write_text(json.dumps(content | changes))
    return str(root / "a.json")


def pixels(data):
    return [int((data.read(index).mask == 1).sum()) for index in range(len(data))]


# -- COCO ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [[RING], PAIRS, [PAIRS], RING, [[float(v) for v in RING]]],
    ids=["rings", "pairs", "nested", "flat", "floats"],
)
def test_coco_outlines_as_pairs_and_flat_lists_are_one_ring(tmp_path, shape):
    data = CocoSegmentation(coco(tmp_path, shape, box=None))
    assert pixels(data) == [600, 25] and not data.census.omitted and not data.census.adjusted
    assert CocoDetection(coco(tmp_path, shape, box=None)).records[0].boxes_xyxy.tolist() == [[20, 20, 50, 40]]


@pytest.mark.parametrize("shape", [[[]], {"size": [96, 96], "counts": [96 * 96]}], ids=["ring", "mask"])
def test_an_empty_coco_outline_is_its_box_and_said(tmp_path, shape):
    data = CocoSegmentation(coco(tmp_path, shape))
    assert pixels(data) == [600, 25] and list(data.census.adjusted) == ["empty outlines, taken for their box"]
    data = CocoSegmentation(coco(tmp_path, shape, box=None))
    assert pixels(data) == [25] and [len(names) for names in data.census.omitted.values()] == [1, 1]


@pytest.mark.parametrize(
    ("shape", "count"), [([[20, 20, 50, 20]], 31), ([[20, 20, 50, 20, 50, 20.2, 20, 20.2]], 31), ([[7, 7]], 1)]
)
def test_outlines_thinner_than_a_pixel_are_drawn_and_said(tmp_path, shape, count):
    data = CocoSegmentation(coco(tmp_path, shape, box=None))
    assert pixels(data) == [count, 25]
    assert list(data.census.adjusted) == ["outlines thinner than a pixel, drawn one pixel wide"]


def test_an_outline_outside_its_picture_is_no_good_part(tmp_path):
    data = CocoSegmentation(coco(tmp_path, [[96, 20, 120, 20, 120, 40]], box=None))
    assert pixels(data) == [25]
    assert list(data.census.omitted) == ["outlines outside their picture left out", LOST]
    assert any("a.png" in line for line in check_dataset(data, "train").problems)


def test_a_set_that_lost_every_object_is_refused(tmp_path):
    path = coco(tmp_path, [[96, 20, 120, 20, 120, 40]], box=None)
    content = json.loads((tmp_path / "a.json").read_text())
    del content["annotations"][1]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="Not one of the marked objects"):
        CocoSegmentation(path)
    content["annotations"][0] |= {"bbox": [200, 200, 5, 5], "segmentation": []}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="1 box outside its picture left out"):
        CocoDetection(path)


def test_outlines_far_beyond_the_picture_are_cut_and_cost_no_memory(tmp_path):
    data = CocoSegmentation(coco(tmp_path, [[20, 20, 9e6, 20, 9e6, 40, 20, 40]], box=None))
    assert pixels(data) == [76 * 20, 25]
    with pytest.raises(DataError, match="beyond any picture"):
        read_coco(coco(tmp_path, [[20, 20, 9e9, 20, 9e9, 40, 20, 40]]))


def test_an_outline_without_end_is_refused_with_its_place(tmp_path):
    zigzag = [value for step in range(60_000) for value in (0 if step % 2 else 95, step % 90)]
    with pytest.raises(DataError, match=r"a\.png object 0 \(scratch\): .*pixels long"):
        CocoSegmentation(coco(tmp_path, [zigzag], box=None))


def test_a_coco_size_of_minus_one_is_not_stated(tmp_path):
    path = coco(tmp_path, [RING], hw=(-1, -1))
    assert read_coco(path).images[0].hw is None
    assert pixels(CocoSegmentation(path)) == [600, 25]
    assert CocoSegmentation(path).class_counts()[1] == 2
    assert CocoDetection(path).records[0].boxes_xyxy.tolist() == [[20, 20, 50, 40]]


def test_a_coco_box_of_zeros_is_the_one_round_its_outline(tmp_path):
    data = CocoDetection(coco(tmp_path, PAIRS, box=(0, 0, 0, 0)))
    assert data.records[0].boxes_xyxy.tolist() == [[20, 20, 50, 40]]
    assert list(data.census.adjusted) == ["boxes without area, taken round their outline"]


CATEGORIES = [{"id": 1, "name": "scratch"}, {"id": 2, "name": "dent"}]
BOX = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"categories": [*CATEGORIES, {"id": 1, "name": "hole"}]}, "'scratch' and 'hole' share the id 1"),
        ({"categories": [*CATEGORIES, {"id": "1", "name": "hole"}]}, "share the id 1"),
        ({"images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]}, "share the id 1"),
        ({"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "./a.png"}]}, "1 and 2 are the same file"),
        ({"annotations": [{"id": 5, **BOX}, {"id": 5, **BOX}]}, "annotation 0 has the same id"),
    ],
)
def test_coco_keys_that_stand_twice_are_refused(tmp_path, changes, words):
    with pytest.raises(DataError, match=words):
        read_coco(coco(tmp_path, **changes))


def test_a_json_key_that_says_two_things_is_refused(tmp_path):
    path = coco(tmp_path)
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text(text.replace('"bbox": [1, 1, 5, 5]', '"bbox": [1, 1, 5, 5], "bbox": [2, 2, 5, 5]'))
    with pytest.raises(DataError, match="'bbox' stands twice in one object"):
        read_coco(path)
    (tmp_path / "a.json").write_text(text.replace('"bbox": [1, 1, 5, 5]', '"bbox": [1, 1, 5, 5], "bbox": [1, 1, 5, 5]'))
    assert len(read_coco(path).images[1].objects) == 1


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, '{"images": [{"id": 1e400}], "annotations": [], "categories": []}'],
)
def test_json_of_any_depth_and_size_is_our_error(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json"):
        read_coco(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"a\.json"):
        read_labelme(tmp_path)


# -- LabelMe ---------------------------------------------------------------------------------------------------------


def labelme(root, shapes, name="a", **changes):
    content = {"imagePath": f"{name}.png", "imageData": None, "imageHeight": 96, "imageWidth": 96, "shapes": shapes}
    root.mkdir(parents=True, exist_ok=True)
    (root / f"{name}.json").write_text(json.dumps(content | changes))


def shape(label, kind, points, **more):
    return {"label": label, "shape_type": kind, "points": points, **more}


AREA = shape("scratch", "polygon", PAIRS)


@pytest.mark.parametrize(
    ("kind", "points"), [("linestrip", [[10, 10], [60, 10]]), ("line", [[10, 10], [60, 10]]), ("point", [[10, 10]])]
)
def test_labelme_lines_and_points_are_named_and_their_picture_is_no_good_part(tmp_path, kind, points):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    picture(tmp_path / "good.png")
    labelme(tmp_path, [shape("scratch", kind, points)])
    labelme(tmp_path, [AREA], "b")
    for data in (LabelMeSegmentation(str(tmp_path)), LabelMeDetection(str(tmp_path))):
        assert [record.path.rsplit("/", 1)[1] for record in data.records] == ["b.png", "good.png"]
        assert f"shapes without an area ({kind}) left out; line_width draws them" in data.census.omitted
        assert len(data.census.omitted[LOST]) == 1


def test_labelme_lines_are_drawn_with_a_line_width(tmp_path):
    picture(tmp_path / "a.png")
    labelme(tmp_path, [shape("scratch", "line", [[10, 10], [60, 10]])])
    data = LabelMeSegmentation(str(tmp_path), line_width=4)
    assert pixels(data)[0] == pytest.approx(50 * 4 + np.pi * 4, rel=0.03)  # a bar with round ends
    assert LabelMeDetection(str(tmp_path), line_width=4).records[0].boxes_xyxy[0] == pytest.approx(
        [8, 8, 62, 12], abs=0.1
    )
    labelme(tmp_path, [shape("scratch", "point", [[30, 30]])])
    assert pixels(LabelMeSegmentation(str(tmp_path), line_width=10))[0] == pytest.approx(np.pi * 25, rel=0.06)
    with pytest.raises(ConfigError, match="line_width"):
        LabelMeSegmentation(str(tmp_path), line_width=0)


def test_labelme_shapes_of_one_group_are_one_object(tmp_path):
    picture(tmp_path / "a.png")
    second = [[60, 60], [70, 60], [70, 70], [60, 70]]
    both = [shape("scratch", "polygon", PAIRS, group_id=3), shape("scratch", "polygon", second, group_id=3)]
    labelme(
        tmp_path, [*both, shape("scratch", "polygon", second), shape("dent", "rectangle", [[1, 1], [3, 3]], group_id=3)]
    )
    data = LabelMeDetection(str(tmp_path))
    assert data.records[0].boxes_xyxy.tolist() == [[20, 20, 70, 70], [60, 60, 70, 70], [1, 1, 3, 3]]
    marked = read_labelme(tmp_path).images[0].objects[0]
    assert marked.region((96, 96)).sum() == 600 + 100


def test_labelme_keypoints_of_a_group_with_an_area_lose_nothing(tmp_path):
    picture(tmp_path / "a.png")
    labelme(tmp_path, [{**AREA, "group_id": 1}, shape("tip", "point", [[30, 30]], group_id=1)])
    found = read_labelme(tmp_path)
    assert len(found.images[0].objects) == 1 and not found.census.omitted and len(found.census.adjusted) == 1


def test_labelme_ignore_and_background_are_255_and_0(tmp_path):
    picture(tmp_path / "a.png")
    corner = [[0, 0], [10, 0], [10, 10], [0, 10]]
    inside = [[20, 20], [25, 20], [25, 25], [20, 25]]
    labelme(tmp_path, [AREA, shape("__ignore__", "polygon", corner), shape("_background_", "polygon", inside)])
    data = LabelMeSegmentation(str(tmp_path))
    mask = data.read(0).mask
    assert data.classes == ["background", "scratch"]
    assert [(mask == value).sum() for value in (1, 255)] == [600 - 25, 100] and set(np.unique(mask)) == {0, 1, 255}
    boxes = LabelMeDetection(str(tmp_path))
    assert boxes.classes == ["scratch"] and len(boxes.records[0].boxes_xyxy) == 1 and len(boxes.census.adjusted) == 2


@pytest.mark.parametrize(
    "named", ["C:\\Users\\x\\pictures\\a.png", "/home/x/a.png", "before.png", "../pictures/before.png"]
)
def test_labelme_pictures_of_another_pc_or_name_are_found_by_the_files_own(tmp_path, named):
    picture(tmp_path / "a.png")
    labelme(tmp_path, [AREA], imagePath=named)
    found = read_labelme(tmp_path)
    assert [(image.path, len(image.objects)) for image in found.images] == [(str(tmp_path / "a.png"), 1)]


def test_labelme_without_its_picture_is_refused(tmp_path):
    picture(tmp_path / "other.png")
    labelme(tmp_path, [AREA])
    with pytest.raises(DataError, match=r"its picture a\.png does not exist, nor one of the file's own name"):
        read_labelme(tmp_path)


def test_two_labelme_files_of_one_picture_take_their_own_or_are_refused(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    labelme(tmp_path, [AREA])
    labelme(tmp_path, [AREA], "b", imagePath="a.png")  # copied and renamed
    assert [image.path[-5:] for image in read_labelme(tmp_path).images] == ["a.png", "b.png"]
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match="are of one picture"):
        read_labelme(tmp_path)


def test_a_labelme_picture_that_is_in_the_json_alone_is_read_from_it(tmp_path):
    image = np.zeros((96, 96, 3), np.uint8)
    image[:, :, 2] = 200  # red
    labelme(tmp_path, [AREA], imageData=base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode())
    data = LabelMeSegmentation(str(tmp_path))
    sample = data.read(0)
    assert (sample.image == (200, 0, 0)).all() and pixels(data) == [600]
    boxes = LabelMeDetection(str(tmp_path))
    assert boxes.read(0).boxes_xyxy.tolist() == [[20, 20, 50, 40]] and not check_dataset(boxes, "train").problems


# -- YOLO ------------------------------------------------------------------------------------------------------------


def yolo(root, names="[dent]", picture_name="a.png", label="labels/train/a.txt", text="0 0.5 0.5 0.5 0.25\n"):
    picture(root / "images" / "train" / picture_name)
    (root / label).parent.mkdir(parents=True, exist_ok=True)
    (root / label).write_text(text)
    (root / "data.yaml").write_text(f"train: images/train\nnames: {names}\n", encoding="utf-8")
    return root / "data.yaml"


COMPOSED, APART = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")


@pytest.mark.parametrize(
    ("picture_name", "label"),
    [
        ("a.png", "images/train/a.txt"),
        ("a.png", "labels/train/a.TXT"),
        (f"{COMPOSED}.png", f"labels/train/{APART}.txt"),
        (f"{APART}.png", f"labels/train/{COMPOSED}.txt"),
        ("a b.png", "labels/train/a%20b.txt"),
        ("a%20b.png", "labels/train/a b.txt"),
    ],
)
def test_yolo_labels_beside_in_another_unicode_form_or_ending_are_taken(tmp_path, picture_name, label):
    (tmp_path / "labels" / "train").mkdir(parents=True)
    found = read_yolo(yolo(tmp_path, picture_name=picture_name, label=label))
    assert [len(image.objects) for image in found.images] == [1] and not found.census.omitted


def test_yolo_label_files_that_no_picture_claims_are_counted_and_named(tmp_path):
    file = yolo(tmp_path)
    picture(tmp_path / "images" / "train" / "b.png")
    picture(tmp_path / "images" / "val" / "v.png")
    for name in ("train/gone", "val/v", "val/lost", "old/x"):
        (tmp_path / "labels" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.5 0.25\n")
    (tmp_path / "labels" / "train" / "empty.txt").write_text("")
    (tmp_path / "labels" / "classes.txt").write_text("dent\n")
    data = YoloDetection(str(file))
    (names,) = data.census.omitted.values()
    assert [name.split("labels/")[1] for name in names] == ["old/x.txt", "train/gone.txt", "val/lost.txt"]
    assert any("3 label files that belong to no picture" in line for line in check_dataset(data, "train").problems)


def test_yolo_pictures_that_all_lost_their_labels_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"no picture of split 'train' has a label file, and 1 label file"):
        read_yolo(yolo(tmp_path, label="labels/a.txt"))


def test_a_yolo_label_is_given_to_one_picture_alone(tmp_path):
    picture(tmp_path / "images" / "train" / "a%20b.png")
    found = read_yolo(yolo(tmp_path, picture_name="a b.png", label="labels/train/a b.txt"))
    assert {image.path.rsplit("/", 1)[1]: len(image.objects) for image in found.images} == {
        "a b.png": 1,
        "a%20b.png": 0,
    }


def test_yolo_names_are_text_as_written(tmp_path):
    file = yolo(tmp_path, "[NO, OK, 010, 1e3, ~, on, 0x10]", text="2 0.5 0.5 0.5 0.25\n")
    found = read_yolo(file)
    assert found.classes == ["NO", "OK", "010", "1e3", "~", "on", "0x10"] and found.images[0].objects[0].label == "010"
    assert read_yolo(yolo(tmp_path, "{0: NO, 1: yes}")).classes == ["NO", "yes"]


@pytest.mark.parametrize("names", ["{0: a, 0: b}", "{0: a, 00: b}", "[a, [b]]", "[a, {b: c}]", "[]"])
def test_yolo_names_that_stand_twice_or_are_no_text_are_refused(tmp_path, names):
    with pytest.raises(DataError, match=r"data\.yaml"):
        read_yolo(yolo(tmp_path, names))


def test_yaml_aliases_are_bounded(tmp_path):
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 20))]
    file = yolo(tmp_path)
    file.write_text("\n".join([*lines, "train: images/train", "names: [dent]"]))
    with pytest.raises(DataError, match="more than 100 aliases"):
        read_yolo(file)


def test_yolo_files_that_mix_boxes_and_outlines_are_said(tmp_path):
    found = read_yolo(yolo(tmp_path, text="0 0.5 0.5 0.5 0.25\n0 0.1 0.1 0.5 0.1 0.5 0.6\n"))
    assert len(found.images[0].objects) == 2 and len(found.census.adjusted) == 1


# -- VOC -------------------------------------------------------------------------------------------------------------


def voc(root, name="a", filename="a.png", difficult="0", box=(20, 20, 50, 40), label="scratch", encoding=None, more=""):
    sides = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    text = (
        f"<annotation><filename>{filename}</filename><size><width>96</width><height>96</height></size>{more}<object>"
        f"<name>{label}</name><difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object></annotation>"
    )
    declaration = f'<?xml version="1.0" encoding="{encoding}"?>\n' if encoding else ""
    (root / f"{name}.xml").write_bytes((declaration + text).encode(encoding or "utf-8"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("Unspecified", False), ("False", False), ("No", False), ("", False), ("1", True), ("True", True)],
)
def test_voc_difficult_in_words(tmp_path, text, wanted):
    picture(tmp_path / "a.png")
    voc(tmp_path, difficult=text)
    assert read_voc(tmp_path).images[0].objects[0].difficult is wanted


def test_voc_difficult_of_no_meaning_is_refused(tmp_path):
    voc(tmp_path, difficult="perhaps")
    with pytest.raises(DataError, match="difficult: 'perhaps'; expected 0 or 1"):
        read_voc(tmp_path)


def test_two_voc_files_of_one_picture_take_their_own_or_are_refused(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    voc(tmp_path)
    voc(tmp_path, "b")
    assert [image.path[-5:] for image in read_voc(tmp_path).images] == ["a.png", "b.png"]
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match="are of one picture"):
        read_voc(tmp_path)


def test_swapped_voc_corners_are_sorted_and_said(tmp_path):
    picture(tmp_path / "a.png")
    voc(tmp_path, box=(50, 40, 20, 20))
    found = read_voc(tmp_path)
    assert found.images[0].objects[0].box_xyxy == (20, 20, 50, 40) and len(found.census.adjusted) == 1


@pytest.mark.parametrize("encoding", ["gb2312", "gbk", "utf-16", "shift_jis", "utf-8"])
def test_voc_files_are_read_in_the_encoding_that_they_declare(tmp_path, encoding):
    picture(tmp_path / "a.png")
    voc(tmp_path, label="缺陷" if encoding != "shift_jis" else "傷", encoding=encoding)
    assert read_voc(tmp_path).classes == ["缺陷" if encoding != "shift_jis" else "傷"]


def test_voc_entities_are_refused_and_not_unfolded(tmp_path):
    rows = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    text = f'<!DOCTYPE annotation [<!ENTITY e0 "ha">{rows}]><annotation><filename>&e11;</filename></annotation>'
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DataError, match="defines entities"):
        read_voc(tmp_path)


def test_a_voc_box_outside_every_object_is_refused(tmp_path):
    picture(tmp_path / "a.png")
    voc(tmp_path, more="<objekt><name>x</name><bndbox><xmin>1</xmin></bndbox></objekt>")
    with pytest.raises(DataError, match="a bndbox stands outside an object"):
        read_voc(tmp_path)


def test_a_voc_object_with_two_names_is_refused(tmp_path):
    voc(tmp_path)
    text = (tmp_path / "a.xml").read_text()
    (tmp_path / "a.xml").write_text(text.replace("<name>scratch</name>", "<name>scratch</name><name>dent</name>"))
    with pytest.raises(DataError, match="has 2 elements name"):
        read_voc(tmp_path)
