"""YOLO data: a data.yaml, pictures, and text files found by the pictures' paths."""

import cv2
import numpy as np
import pytest
from PIL import Image

from dao.dataloaders.annotations.yolo_labels import labels_path
from dao.dataloaders.annotations.yolo_txt import read_yolo
from dao.errors import DataError
from dao.images.image_io import read_hw, read_image


def yolo(root, names="[dent, hole]", yaml="train: images/train\n", **labels):
    """Pictures of 30 x 20 pixels; labels: their text, or None for no file."""
    (root / "images" / "train").mkdir(parents=True, exist_ok=True)
    (root / "labels" / "train").mkdir(parents=True, exist_ok=True)
    for name, text in labels.items():
        cv2.imwrite(str(root / "images" / "train" / f"{name}.png"), np.zeros((20, 30, 3), np.uint8))
        if text is not None:
            (root / "labels" / "train" / f"{name}.txt").write_text(text)
    (root / "data.yaml").write_text(f"{yaml}names: {names}\n")
    return root / "data.yaml"


def test_boxes_become_pixels(tmp_path):
    found = read_yolo(yolo(tmp_path, a="1 0.5 0.5 0.2 0.5\n\n0 0.1 0.1 0.2 0.2\n", b="", c=None))
    assert found.classes == ["dent", "hole"] and [len(image.objects) for image in found.images] == [2, 0, 0]
    hole, dent = found.images[0].objects
    assert (hole.label, dent.label) == ("hole", "dent")
    assert hole.box_xyxy == pytest.approx((12, 5, 18, 15)) and dent.box_xyxy == pytest.approx((0, 0, 6, 4))


def test_outlines_are_kept_and_boxed(tmp_path):
    marked = read_yolo(yolo(tmp_path, a="0 0.1 0.1 0.5 0.1 0.5 0.6\n")).images[0].objects[0]
    assert marked.box_xyxy is None and marked.bounds() == pytest.approx((3, 2, 15, 12))


def test_numbered_names_may_have_holes(tmp_path):
    found = read_yolo(yolo(tmp_path, names="{7: hole, 2: dent}", a="7 0.5 0.5 0.2 0.5\n"))
    assert found.classes == ["dent", "hole"] and found.images[0].objects[0].label == "hole"


@pytest.mark.parametrize(
    "yaml", ["path: .\ntrain: list.txt\n", "train: [images/train/a.png]\n", "train: ../images/train\n"]
)
def test_pictures_by_list_by_name_and_one_folder_too_high(tmp_path, yaml):
    file = yolo(tmp_path / "set", yaml=yaml, a="0 0.5 0.5 0.2 0.5\n")
    (tmp_path / "set" / "list.txt").write_text("./images/train/a.png\n")
    found = read_yolo(file)
    assert len(found.images) == 1 and len(found.images[0].objects) == 1


def test_only_the_last_images_folder_becomes_labels():
    assert labels_path("/images/set/images/x/a.jpg").as_posix() == "/images/set/labels/x/a.txt"


def test_sizes_are_those_of_the_upright_picture(tmp_path):
    file = yolo(tmp_path, a="0 0.5 0.5 0.5 0.5\n")
    turned = Image.new("RGB", (30, 20))
    exif = turned.getexif()
    exif[0x0112] = 6
    path = tmp_path / "images" / "train" / "a.jpg"
    turned.save(path, exif=exif)
    (tmp_path / "images" / "train" / "a.png").unlink()
    assert read_hw(path) == read_image(path).shape[:2] == (30, 20)
    assert read_yolo(file).images[0].objects[0].box_xyxy == pytest.approx((5, 7.5, 15, 22.5))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.2", "got 4 numbers"),
        ("0 0.5 0.5 0.2 0.2 0.9", "got 6 numbers"),
        ("2 0.5 0.5 0.2 0.2", "there is no class 2"),
        ("0.5 0.5 0.5 0.2 0.2", "there is no class 0.5"),
        ("0 120 88 20 20", "parts of the picture, 0 to 1; got 120"),
        ("dent 0.5 0.5 0.2 0.2", "expected numbers"),
    ],
)
def test_wrong_lines_are_listed_with_their_place(tmp_path, line, words):
    with pytest.raises(DataError, match=words) as error:
        read_yolo(yolo(tmp_path, a=f"0 0.5 0.5 0.1 0.1\n{line}\n"))
    assert "a.txt line 2" in str(error.value) and "0 dent, 1 hole" in str(error.value)


@pytest.mark.parametrize(
    ("names", "yaml", "words"),
    [
        ("dent", "train: images/train\n", "'names' must be a list"),
        ("[a, a]", "train: images/train\n", "share a name: a"),
        ("[a, b]", "nc: 3\ntrain: images/train\n", "nc is 3, but there are 2 names"),
        ("[a, b]", "val: images/train\n", "no split 'train'"),
        ("[a, b]", "train: nowhere\n", "neither a folder nor a list"),
    ],
)
def test_wrong_yaml(tmp_path, names, yaml, words):
    with pytest.raises(DataError, match=words):
        read_yolo(yolo(tmp_path, names, yaml, a="0 0.5 0.5 0.1 0.1\n"))
