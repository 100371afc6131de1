"""Inputs that decode well and mean something else: read as their tools mean them, or refused, or named. Never in silence."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from dao.dataloaders.datasets.anomaly import MVTecDataset
from dao.dataloaders.datasets.anomaly_own import AnomalyFolderDataset
from dao.dataloaders.datasets.detection import CocoDetection, LabelMeDetection, VocDetection, YoloDetection
from dao.dataloaders.datasets.seg_folder import SegFolderDataset
from dao.errors import DataError

HW = (96, 96)
MARKED = np.zeros(HW, np.uint8)
MARKED[10:30, 10:30] = 1  # 400 pixels
CLASSES = ["background", "scratch"]


def write(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((*HW, 3), np.uint8) if pixels is None else pixels
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())


def found(data):
    """Boxes of each picture, by the picture's path."""
    return {record.path: record.boxes_xyxy.round(3).tolist() for record in data.records}


# -- which picture a label file is of --------------------------------------------------------------------------------


def labelme(path, name, label="dent"):
    shape = {"label": label, "shape_type": "rectangle", "points": [[10, 10], [30, 30]]}
    content = {"shapes": [shape], "imagePath": name, "imageData": None, "imageHeight": 96, "imageWidth": 96}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(("top", "named"), [("a.png", "a.png"), ("a.jpg", "renamed.png")])
def test_a_labelme_file_takes_the_picture_of_its_own_folder_first(tmp_path, top, named):
    write(tmp_path / "img" / top)
    write(tmp_path / "img" / "cam1" / "a.png")
    labelme(tmp_path / "ann" / "cam1" / "a.json", named)
    boxes = found(LabelMeDetection(str(tmp_path / "ann"), str(tmp_path / "img")))
    assert boxes == {
        str(tmp_path / "img" / top): [],
        str(tmp_path / "img" / "cam1" / "a.png"): [[10.0, 10.0, 30.0, 30.0]],
    }


def test_a_voc_file_takes_the_picture_of_its_own_folder_first(tmp_path):
    write(tmp_path / "img" / "a.jpg")
    write(tmp_path / "img" / "cam1" / "a.png")
    (tmp_path / "ann" / "cam1").mkdir(parents=True)
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>"
    text = f"<annotation><filename>renamed.png</filename><object><name>dent</name>{box}</object></annotation>"
    (tmp_path / "ann" / "cam1" / "a.xml").write_text(text)
    boxes = found(VocDetection(str(tmp_path / "ann"), str(tmp_path / "img")))
    assert boxes == {str(tmp_path / "img" / "cam1" / "a.png"): [[1.0, 2.0, 9.0, 8.0]]}


def test_a_picture_of_which_all_is_unlabelled_is_no_good_part_of_a_detector(tmp_path):
    for name, label in (("a", "__ignore__"), ("b", "dent"), ("c", "_background_")):
        write(tmp_path / f"{name}.png")
        labelme(tmp_path / f"{name}.json", f"{name}.png", label)
    data = LabelMeDetection(str(tmp_path))
    assert list(found(data)) == [str(tmp_path / "b.png"), str(tmp_path / "c.png")]
    assert [str(tmp_path / "a.png")] in data.census.omitted.values()


@pytest.mark.parametrize("read", ["voc", "masks"])
def test_a_split_list_that_names_a_picture_twice_is_refused(tmp_path, read):
    write(tmp_path / "JPEGImages" / "a.png")
    write(tmp_path / "SegmentationClass" / "a.png", MARKED)
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    listed = tmp_path / "ImageSets" / "Segmentation" / "train.txt"
    listed.write_text("a\r\na\r\n")
    with pytest.raises(DataError, match=r"train\.txt lists names more than once: a"):
        if read == "voc":
            (tmp_path / "Annotations").mkdir()
            VocDetection(str(tmp_path / "Annotations"), list_file=str(listed))
        else:
            SegFolderDataset(str(tmp_path), image_set="train", classes=CLASSES)


# -- numbers that are no box or outline ------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "points"), [("[2, 3]", "0.9 0.9 2 0.1 0.1 2"), ("[2, 2]", "0.9 0.9 0.1 0.1")])
def test_keypoints_of_a_yolo_pose_set_are_no_outline(tmp_path, shape, points):
    write(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(f"0 0.5 0.5 0.25 0.25 {points}\n")
    (tmp_path / "data.yaml").write_text(f"train: images\nnames: [part]\nkpt_shape: {shape}\n")
    data = YoloDetection(str(tmp_path / "data.yaml"))
    assert found(data) == {str(tmp_path / "images" / "a.png"): [[36.0, 36.0, 60.0, 60.0]]}
    assert "objects with keypoints, which are passed over" in data.census.adjusted
    (tmp_path / "labels" / "a.txt").write_text("0 0.1 0.1 0.2 0.2 0.3 0.3\n")
    with pytest.raises(DataError, match="expected a box and"):
        YoloDetection(str(tmp_path / "data.yaml"))


def coco(folder, size=True, **annotation):
    write(folder / "a.png")
    image = {"id": 1, "file_name": "a.png", **({"height": 96, "width": 96} if size else {})}
    row = {"id": 1, "image_id": 1, "category_id": 1, **annotation}
    content = {"images": [image], "annotations": [row], "categories": [{"id": 1, "name": "dent"}]}
    (folder / "a.json").write_text(json.dumps(content))
    return str(folder / "a.json")


@pytest.mark.parametrize(("points", "words"), [([[1, 1, 0]] * 4, "points of 3 numbers"), ([1, 1, 9], "no list of")])
def test_labelme_points_of_other_than_two_numbers_are_refused(tmp_path, points, words):
    write(tmp_path / "a.png")
    shape = {"label": "dent", "shape_type": "polygon", "points": points}
    (tmp_path / "a.json").write_text(json.dumps({"shapes": [shape], "imagePath": "a.png"}))
    with pytest.raises(DataError, match=words):
        LabelMeDetection(str(tmp_path))


@pytest.mark.parametrize("size", [True, False])
def test_a_coco_mask_of_another_size_gives_no_box(tmp_path, size):
    rle = {"size": [48, 48], "counts": [0, 100, 48 * 48 - 100]}
    with pytest.raises(DataError, match=r"a\.png object 0 \(dent\): a run-length mask is 48x48 .* its picture 96x96"):
        CocoDetection(coco(tmp_path, size, segmentation=rle))


def test_coco_boxes_in_parts_of_the_sides_are_refused(tmp_path):
    with pytest.raises(DataError, match="every bbox lies between 0 and 1"):
        CocoDetection(coco(tmp_path, bbox=[0.2, 0.2, 0.3, 0.3]))
    assert len(CocoDetection(coco(tmp_path, bbox=[0, 0, 1, 1]))) == 1  # a single pixel in the corner


# -- masks -----------------------------------------------------------------------------------------------------------


def one_bit(path):
    Image.fromarray(MARKED * 255).convert("1").save(path)


def black_and_white(path):
    picture = Image.fromarray(MARKED, "P")
    picture.putpalette([0, 0, 0, 255, 255, 255] + [9, 9, 9] * 254)
    picture.save(path)


@pytest.mark.parametrize("kind", ["png", "bmp", "tif"])
@pytest.mark.parametrize("save", [one_bit, black_and_white])
def test_class_indices_of_one_bit_and_of_any_palette_are_not_their_colours(tmp_path, kind, save):
    for name in "ab":
        write(tmp_path / "JPEGImages" / f"{name}.png")
    write(tmp_path / "SegmentationClass" / f"b.{kind}", MARKED)
    save(tmp_path / "SegmentationClass" / f"a.{kind}")
    data = SegFolderDataset(str(tmp_path), mask_suffix=f".{kind}", classes=CLASSES)
    assert [np.bincount(data.mask_of(i).reshape(-1)).tolist() for i in (0, 1)] == [[8816, 400]] * 2


@pytest.mark.parametrize("kind", ["png", "bmp", "tif"])
def test_binary_masks_of_one_bit_mark_what_is_white(tmp_path, kind):
    write(tmp_path / "JPEGImages" / "a.png")
    (tmp_path / "SegmentationClass").mkdir()
    one_bit(tmp_path / "SegmentationClass" / f"a.{kind}")
    data = SegFolderDataset(str(tmp_path), mask_suffix=f".{kind}", classes=CLASSES, mask_format="binary")
    assert data.mask_of(0).sum() == 400


def test_a_mask_of_0_and_255_among_others_of_class_indices_is_said(tmp_path):
    for name, value in (("a", 255), ("b", 1)):
        write(tmp_path / "JPEGImages" / f"{name}.png")
        write(tmp_path / "SegmentationClass" / f"{name}.png", MARKED * value)
    said = SegFolderDataset(str(tmp_path), classes=CLASSES).census.adjusted
    assert list(said.values()) == [[str(tmp_path / "JPEGImages" / "a.png")]]


def test_a_folder_of_masks_that_is_no_class_is_refused(tmp_path):
    for name in "ab":
        write(tmp_path / "JPEGImages" / f"{name}.png")
    write(tmp_path / "SegmentationClass" / "scratch" / "a.png", MARKED * 255)
    write(tmp_path / "SegmentationClass" / "Crack" / "b.png", MARKED * 255)
    with pytest.raises(DataError, match=r"not among the classes: Crack\. Nearest: crack"):
        SegFolderDataset(str(tmp_path), mask_per_class=True, classes=[*CLASSES, "crack"])
    assert len(SegFolderDataset(str(tmp_path), mask_per_class=True)) == 2


# -- masks of anomaly sets -------------------------------------------------------------------------------------------


def anomaly(folder, masks, kind="dent", own=False):
    """Two bad pictures of one name in two folders; masks by their names."""
    test, truth = (folder, folder / "masks") if own else (folder / "test", folder / "ground_truth")
    write(folder / ("good" if own else "train/good") / "0.png")
    write(test / "good" / "0.png")
    for name in ("cam1/1.png", "cam2/1.png"):
        write(test / "dent" / name)
    for name, pixels in masks.items():
        write(truth / kind / name, pixels)
    if own:
        return AnomalyFolderDataset(str(folder), split="test", mask_dir=str(truth), test_ratio=0.0)
    return MVTecDataset(str(folder), split="test")


def marked(data):
    masks = [data.read_mask(i, HW) for i, record in enumerate(data.records) if record.kind == "dent"]
    return [None if mask is None else int(mask.sum()) for mask in masks]


@pytest.mark.parametrize("own", [False, True])
def test_masks_of_pictures_with_one_name_lie_in_the_same_folders(tmp_path, own):
    other = np.zeros(HW, np.uint8)
    other[50:60, 50:60] = 255
    masks = {"cam1/1_mask.png": MARKED * 255, "cam2/1.png": other}
    assert marked(anomaly(tmp_path, masks, own=own)) == [400, 100]


def test_a_mask_that_may_be_of_two_pictures_is_given_to_none_and_named(tmp_path):
    data = anomaly(tmp_path, {"1_mask.png": MARKED * 255})
    assert marked(data) == [None, None]
    assert data.census.omitted == {
        "mask files that belong to no picture": [str(tmp_path / "ground_truth" / "dent" / "1_mask.png")]
    }


def test_two_masks_of_one_picture_are_refused(tmp_path):
    with pytest.raises(DataError, match="are masks of one picture"):
        anomaly(tmp_path, {"cam1/1_mask.png": MARKED * 255, "cam1/1.png": MARKED * 255})


@pytest.mark.parametrize("own", [False, True])
def test_masks_of_a_kind_without_pictures_are_named(tmp_path, own):
    data = anomaly(tmp_path, {"cam1/1.png": MARKED * 255}, kind="Dent", own=own)
    assert marked(data) == [None, None]
    assert "mask files that belong to no picture" in data.census.omitted


@pytest.mark.parametrize("value", [2, 100])
def test_an_anomaly_mask_that_marks_below_128_alone_is_refused(tmp_path, value):
    data = anomaly(tmp_path, {"cam1/1.png": MARKED * value})
    with pytest.raises(DataError, match=rf"values up to {value}.*Save its marks as 255"):
        marked(data)
