"""Pictures whose names are no UTF-8: read from every format, written as they are, shown escaped."""

import os

import cv2
import numpy as np
import pytest

from dao.dataloaders.annotations.coco import read_coco
from dao.dataloaders.annotations.labelme import read_labelme
from dao.dataloaders.annotations.placing import Place
from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Annotations
from dao.dataloaders.annotations.voc_xml import read_voc
from dao.dataloaders.annotations.writers import WRITERS
from dao.dataloaders.annotations.yolo_txt import read_yolo
from dao.dataloaders.datasets.csvfile import CsvDataset
from dao.dataloaders.datasets.detection import LabelMeDetection
from dao.dataloaders.datasets.listfile import ListDataset
from dao.errors import DataError

STRANGE = os.fsdecode(b"schei\xdfe.png")  # ISO 8859-1
READERS = {
    "coco": lambda root: read_coco(root / "annotations/instances_train.json", root / "images/train"),
    "voc": lambda root: read_voc(root / "Annotations/train", root / "JPEGImages/train"),
    "yolo": lambda root: read_yolo(root / "data.yaml"),
    "labelme": lambda root: read_labelme(root / "train"),
}


@pytest.fixture
def picture(tmp_path):
    def make(folder):
        path = tmp_path / folder / STRANGE
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", np.zeros((10, 10, 3), np.uint8))[1].tobytes())
        except (OSError, UnicodeError):
            pytest.skip("this file system has no such names")
        return path

    return make


@pytest.mark.parametrize("kind", list(READERS))
def test_names_that_are_no_utf_8_are_written_as_they_are_and_read_again(kind, tmp_path, picture):
    path = picture({"labelme": "train", "voc": "JPEGImages/train"}.get(kind, "images/train"))
    image = AnnotatedImage(str(path), (10, 10), [AnnotatedObject("dent", (1, 1, 5, 5))])
    WRITERS[kind][0](Annotations([image], ["dent"], "made up"), tmp_path, "train", [Place(path, STRANGE)])
    (found,) = READERS[kind](tmp_path).images
    assert found.path == str(path) and [marked.box_xyxy for marked in found.objects] == [pytest.approx((1, 1, 5, 5))]


def test_lists_name_such_files_by_their_bytes_and_labels_must_be_text(tmp_path, picture):
    path = picture(".")
    table, listed = tmp_path / "rows.csv", tmp_path / "rows.txt"
    table.write_bytes(b"image,label\nschei\xdfe.png,dent\n")
    listed.write_bytes(b"schei\xdfe.png dent\n")
    for data in (CsvDataset(str(table)), ListDataset(str(listed))):
        assert [record.path for record in data.records] == [str(path)] and data.read(0).label == 0
    table.write_bytes(b"image,label\nschei\xdfe.png,d\xe9faut\n")
    listed.write_bytes(b"schei\xdfe.png d\xe9faut\n")
    with pytest.raises(DataError, match="line 2: its cell in column 'label' is no UTF-8 text"):
        CsvDataset(str(table))
    with pytest.raises(DataError, match=r"line 1: its label is no UTF-8 text: 'd\\udce9faut'"):
        ListDataset(str(listed))


def test_such_names_divide_by_ratio(picture):
    path = picture("set")
    data = LabelMeDetection(str(path.parent), split="train", split_ratio={"train": 1.0}, classes=["dent"])
    assert len(data) == 1
