"""What is written in a format and read again is what was there, as far as the format can hold it."""

import itertools

import cv2
import numpy as np
import pytest

from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Annotations, encode_rle
from dao.dataloaders.annotations.writers import WRITERS
from dao.dataloaders.convert import main, picture_names, read

FORMATS = ("coco", "voc", "yolo", "labelme")


@pytest.fixture
def found(tmp_path):
    """Boxes at fractions of a pixel, a difficult one, a picture in a folder of its own, and one without objects."""
    images = []
    for name, boxes in (
        ("a", [("dent", (1.25, 2, 10.5, 9)), ("scratch", (20, 10, 30, 30))]),
        ("sub/b", [("dent", (0, 0, 50, 40))]),
        ("c", []),
    ):
        path = tmp_path / "pictures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((40, 50, 3), np.uint8))
        images.append(AnnotatedImage(str(path), (40, 50), [AnnotatedObject(label, box) for label, box in boxes]))
    return Annotations(images, ["scratch", "dent"], "made up")


def write(found, kind, out):
    import shutil

    names = picture_names(found, out, True)
    for image in found.images:
        (out / names[image.path]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image.path, out / names[image.path])
    return WRITERS[kind](found, out, names)


def source(kind, out):
    return {"coco": out / "annotations.json", "voc": out / "Annotations", "yolo": out / "data.yaml", "labelme": out}[
        kind
    ]


def again(kind, out):
    images = {"coco": str(out), "voc": str(out), "yolo": None, "labelme": None}[kind]
    return read(kind, str(source(kind, out)), images, "train")


def content(found):
    """Name of the picture -> its labels and boxes, in order."""
    rows = {}
    for image in found.images:
        boxes = [(o.label, *np.round(o.bounds(), 5)) for o in image.objects]
        rows[image.path.rsplit("/", 1)[1]] = sorted(boxes)
    return rows


@pytest.mark.parametrize("kind", FORMATS)
def test_boxes_survive(kind, found, tmp_path):
    lost = write(found, kind, tmp_path / "out")
    back = again(kind, tmp_path / "out")
    expected = content(found)
    if kind == "voc":
        expected.pop("c.png", None) if "c.png" not in content(back) else None
    assert content(back) == expected and not any(lost.values())
    assert set(back.classes) == {"dent", "scratch"}
    if kind in ("coco", "voc", "yolo"):
        assert back.classes == ["scratch", "dent"]


def test_outlines_masks_and_marks_survive_where_a_format_holds_them(found, tmp_path):
    region = np.zeros((40, 50), bool)
    region[5:9, 7:20] = True
    triangle = np.array([[1, 1], [9, 1], [5, 8]], np.float64)
    found.images[0].objects = [
        AnnotatedObject("dent", polygons=[triangle]),
        AnnotatedObject("dent", rle=encode_rle(region)),
        AnnotatedObject("scratch", (1, 1, 5, 5), difficult=True),
        AnnotatedObject("scratch", (2, 2, 6, 6), crowd=True),
    ]
    counts = {kind: write(found, kind, tmp_path / kind) for kind in FORMATS}
    assert {k: v for k, v in counts["coco"].items() if v} == {"difficult marks": 1}
    assert {k: v for k, v in counts["voc"].items() if v} == {"outlines": 1, "drawn masks": 1, "crowd marks": 1}
    assert {k: v for k, v in counts["yolo"].items() if v} == {"drawn masks": 1, "crowd marks": 1, "difficult marks": 1}
    assert {k: v for k, v in counts["labelme"].items() if v} == {"crowd marks": 1}
    coco, labelme = (
        next(i for i in again(k, tmp_path / k).images if i.path.endswith("a.png")) for k in ("coco", "labelme")
    )
    for image in (coco, labelme):
        np.testing.assert_allclose(image.objects[0].polygons[0], triangle)
        assert np.array_equal(image.objects[1].region((40, 50)), region)
    assert coco.objects[3].crowd and labelme.objects[2].difficult
    yolo = next(i for i in again("yolo", tmp_path / "yolo").images if i.path.endswith("a.png"))
    np.testing.assert_allclose(yolo.objects[0].polygons[0], triangle, atol=1e-6)


def test_the_command_from_each_format_to_each(found, tmp_path, capsys):
    for kind in FORMATS:
        write(found, kind, tmp_path / kind)
    for first, second in itertools.permutations(FORMATS, 2):
        out = tmp_path / f"{first}-{second}"
        images = ["--images", str(tmp_path / first)] if first in ("coco", "voc") else []
        assert (
            main(["--from", first, str(source(first, tmp_path / first)), *images, "--to", second, "--out", str(out)])
            == 0
        )
        assert "3 objects in 2 classes" in capsys.readouterr().out
        assert content(again(second, out)) == content(found)


def test_mistakes_end_in_one_message(found, tmp_path, capsys):
    write(found, "coco", tmp_path / "coco")
    start = ["--from", "coco", str(tmp_path / "coco" / "annotations.json")]
    assert main([*start, "--to", "voc", "--out", str(tmp_path / "coco")]) == 2
    assert "is not an empty folder; nothing was touched" in capsys.readouterr().err
    assert main([*start, "--to", "voc", "--images", "/nowhere", "--out", str(tmp_path / "x")]) == 2
    assert "3 of 3 pictures do not exist" in capsys.readouterr().err
    assert main([*start, "--to", "yolo", "--leave-pictures", "--out", str(tmp_path / "x")]) == 2
    assert "must be copied" in capsys.readouterr().err
    assert main(["--from", "voc", "nowhere", "--to", "yolo", "--out", str(tmp_path / "x")]) == 2
    assert not (tmp_path / "x").exists()
    assert main([*start, "--to", "coco", "--leave-pictures", "--out", str(tmp_path / "left")]) == 0
    left = read("coco", str(tmp_path / "left" / "annotations.json"), None, "train")
    assert content(left) == content(found) and not (tmp_path / "left" / "images").exists()
