"""Pascal VOC files."""

import cv2
import numpy as np
import pytest

from dao.dataloaders.annotations.voc_xml import read_voc
from dao.errors import DataError

OBJECT = "<object><name>{0}</name><difficult>{1}</difficult><bndbox><xmin>{2}</xmin><ymin>{3}</ymin><xmax>{4}</xmax><ymax>{5}</ymax></bndbox></object>"


def voc(folder, stem, *objects, size="<size><width>30</width><height>20</height></size>", filename=None, picture=None):
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{stem}.png" if filename is None else filename
    rows = "".join(OBJECT.format(*row) for row in objects)
    text = f"<annotation><filename>{name}</filename>{size}{rows}</annotation>"
    (folder / f"{stem}.xml").write_text(text)
    if picture is not None:
        picture.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(picture / f"{stem}.png"), np.zeros((20, 30, 3), np.uint8))


def test_objects_flags_and_sizes(tmp_path):
    voc(tmp_path, "b", ("hole", 1, 1, 2, 11, 12), ("dent", 0, 3.5, 4, 9, 8), picture=tmp_path)
    voc(tmp_path, "a", picture=tmp_path, size="")
    found = read_voc(tmp_path)
    assert found.classes == ["dent", "hole"]
    empty, marked = found.images
    assert empty.path.endswith("a.png") and empty.hw is None and not empty.objects
    assert marked.hw == (20, 30)
    hole, dent = marked.objects
    assert hole.difficult and not dent.difficult and dent.box_xyxy == (3.5, 4, 9, 8)


def test_one_based_boxes_include_their_last_pixel(tmp_path):
    voc(tmp_path, "a", ("dent", 0, 1, 1, 30, 20), picture=tmp_path)
    assert read_voc(tmp_path, one_based=True).images[0].objects[0].box_xyxy == (0, 0, 30, 20)


@pytest.mark.parametrize("pictures", ["JPEGImages", "images", "xml"])
def test_pictures_are_found_where_the_field_keeps_them(tmp_path, pictures):
    voc(tmp_path / "xml", "a", picture=tmp_path / pictures)
    assert read_voc(tmp_path / "xml").images[0].path == str(tmp_path / pictures / "a.png")


@pytest.mark.parametrize("filename", ["", "a", "other_name.png"])
def test_a_filename_that_leads_nowhere_gives_way_to_the_files_own_name(tmp_path, filename):
    voc(tmp_path / "xml" / "sub", "a", filename=filename, picture=tmp_path / "pics" / "sub")
    assert read_voc(tmp_path / "xml", tmp_path / "pics").images[0].path == str(tmp_path / "pics" / "sub" / "a.png")


def test_labels_file_keeps_the_order(tmp_path):
    voc(tmp_path / "Annotations", "a", ("hole", 0, 1, 2, 11, 12), picture=tmp_path / "images")
    (tmp_path / "labels.txt").write_text("scratch\nhole\n")
    assert read_voc(tmp_path / "Annotations").classes == ["scratch", "hole"]


def test_a_list_chooses_files_and_their_order(tmp_path):
    for stem in "abc":
        voc(tmp_path, stem, picture=tmp_path)
    assert [image.path[-5] for image in read_voc(tmp_path, stems=["c", "a"]).images] == ["c", "a"]
    with pytest.raises(DataError, match=r"d\.xml does not exist"):
        read_voc(tmp_path, stems=["d"])


def test_pictures_without_a_file_on_demand(tmp_path):
    voc(tmp_path / "xml", "a", picture=tmp_path / "pics")
    cv2.imwrite(str(tmp_path / "pics" / "good.png"), np.zeros((4, 4, 3), np.uint8))
    assert len(read_voc(tmp_path / "xml", tmp_path / "pics").images) == 1
    assert len(read_voc(tmp_path / "xml", tmp_path / "pics", unmarked=True).images) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation><object>", "no element found"),
        ("<boxes/>", "its root is <boxes>"),
        ("<annotation><object><name/></object></annotation>", "object 0 has no name"),
        ("<annotation><object><name>a</name></object></annotation>", "no bndbox"),
        ("<annotation>" + OBJECT.format("a", 0, "x", 1, 2, 3) + "</annotation>", "no numbers"),
    ],
)
def test_broken_files_are_listed(tmp_path, text, words):
    (tmp_path / "q.xml").write_text(text)
    with pytest.raises(DataError, match=words) as error:
        read_voc(tmp_path)
    assert "q.xml" in str(error.value)


def test_missing_folder_and_empty_one(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_voc(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no VOC file"):
        read_voc(tmp_path)
