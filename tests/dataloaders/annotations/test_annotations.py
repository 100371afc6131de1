"""Annotation files of the world, against another library's masks and against figures counted by hand."""

import base64
import json

import cv2
import numpy as np
import pytest

from dao.dataloaders.annotations.coco import read_coco
from dao.dataloaders.annotations.labelme import read_labelme
from dao.dataloaders.annotations.labelme_shapes import circle
from dao.dataloaders.annotations.regions import decode_rle, encode_rle, fill
from dao.dataloaders.annotations.structures import AnnotatedObject
from dao.errors import DataError


def coco(tmp_path, annotations, categories=({"id": 7, "name": "dent"}, {"id": 3, "name": "scratch"})):
    content = {
        "images": [{"id": 10, "file_name": "a.png", "height": 20, "width": 30}, {"id": 11, "file_name": "sub/b.png"}],
        "categories": list(categories),
        "annotations": annotations,
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    return tmp_path / "a.json"


def test_run_lengths_go_down_the_columns_from_background():
    region = decode_rle({"size": [3, 4], "counts": [1, 2, 3, 6]}, (3, 4))
    assert region.T.reshape(-1).tolist() == [False] + [True] * 2 + [False] * 3 + [True] * 6
    assert np.array_equal(decode_rle(encode_rle(region), (3, 4)), region)


@pytest.mark.parametrize(
    "rle", [{"size": [4, 4], "counts": [16]}, {"size": [3, 5], "counts": [14]}, {"size": [3, 5], "counts": "P"}]
)
def test_run_lengths_that_do_not_fit_are_refused(rle):
    with pytest.raises(DataError, match="run-length mask"):
        decode_rle(rle, (3, 5))


def test_a_polygon_on_pixel_corners_fills_exactly_its_pixels():
    square = np.array([[2, 1], [6, 1], [6, 4], [2, 4]], np.float64)
    region = fill([square], (8, 10))
    assert region[1:4, 2:6].all() and region.sum() == 12


def test_coco_is_read_with_ids_of_any_numbering(tmp_path):
    path = coco(
        tmp_path,
        [
            {"id": 1, "image_id": 10, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 1},
            {"id": 2, "image_id": 10, "category_id": 7, "segmentation": [[2, 1, 6, 1, 6, 4, 2, 4]]},
        ],
    )
    found = read_coco(path, tmp_path / "images")
    assert found.classes == ["scratch", "dent"]  # by id
    first, second = found.images
    assert first.path.endswith("images/a.png") and first.hw == (20, 30) and second.hw is None and not second.objects
    crowd, dent = first.objects
    assert crowd.box_xyxy == (1, 2, 4, 6) and crowd.crowd and not dent.crowd
    assert dent.bounds() == (2, 1, 6, 4) and dent.region((20, 30)).sum() == 12
    assert crowd.region((20, 30)).sum() == 12  # a box, for want of an outline


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"image_id": 99, "category_id": 3, "bbox": [0, 0, 1, 1]}, "no image with id 99"),
        ({"image_id": 10, "category_id": 4, "bbox": [0, 0, 1, 1]}, "no category 4; there are: 3 scratch, 7 dent"),
        ({"image_id": 10, "category_id": 3}, "neither a bbox nor a segmentation"),
        ({"image_id": 10, "category_id": 3, "bbox": [1, 2, 3]}, "annotation 0"),
        (17, "not an object"),
    ],
)
def test_wrong_coco_entries_are_named(tmp_path, entry, words):
    with pytest.raises(DataError, match=words):
        read_coco(coco(tmp_path, [entry]))


def test_files_that_are_not_coco_are_refused(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        read_coco(tmp_path / "x.json")
    (tmp_path / "x.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="annotations, categories"):
        read_coco(tmp_path / "x.json")
    with pytest.raises(DataError, match="share a name: a"):
        read_coco(coco(tmp_path, [], [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]))


def labelme(folder, name, shapes):
    content = {"imagePath": f"{name}.png", "imageHeight": 40, "imageWidth": 50, "shapes": shapes}
    (folder / f"{name}.json").write_text(json.dumps(content))
    cv2.imwrite(str(folder / f"{name}.png"), np.zeros((40, 50, 3), np.uint8))


def test_labelme_shapes_of_every_kind(tmp_path):
    patch = np.zeros((4, 6), np.uint8)
    patch[1:3, 2:5] = 255
    packed = base64.b64encode(cv2.imencode(".png", patch)[1].tobytes()).decode()
    shapes = [
        {"label": "a", "shape_type": "polygon", "points": [[2, 1], [6, 1], [6, 4], [2, 4]]},
        {"label": "b", "shape_type": "rectangle", "points": [[10, 8], [4, 2]]},
        {"label": "c", "shape_type": "circle", "points": [[20, 20], [25, 20]]},
        {"label": "d", "shape_type": "mask", "points": [[7, 9], [12, 12]], "mask": packed},
        {"label": "e", "shape_type": "point", "points": [[1, 1]]},
    ]
    labelme(tmp_path, "p", shapes)
    cv2.imwrite(str(tmp_path / "clean.png"), np.zeros((5, 5, 3), np.uint8))
    found = read_labelme(tmp_path)
    assert found.classes == ["a", "b", "c", "d"]
    assert [image.path.rsplit("/", 1)[1] for image in found.images] == ["clean.png", "p.png"]
    areas = {marked.label: int(marked.region((40, 50)).sum()) for marked in found.images[1].objects}
    assert areas["a"] == 12 and areas["b"] == 36 and areas["d"] == 6
    assert areas["c"] == pytest.approx(np.pi * 25, rel=0.06)
    mask = found.images[1].objects[3].region((40, 50))
    assert mask[10:12, 9:12].all()


def test_a_circle_passes_through_its_point():
    points = circle(np.array([3.0, 4.0]), np.array([3.0, 9.0]))
    assert np.allclose(np.linalg.norm(points - [3, 4], axis=1), 5)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"label": "", "points": [[0, 0]]}, "has no label"),
        ({"label": "a", "shape_type": "polygon", "points": [[0, 0], [1, 1]]}, "of 2 points; it needs 3"),
        ({"label": "a", "shape_type": "blob", "points": [[0, 0], [1, 1]]}, "is a 'blob'; known are polygon"),
        ({"label": "a", "shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": "!"}, "cannot be read"),
        ({"label": "a", "shape_type": "rectangle"}, "no list of points"),
    ],
)
def test_wrong_labelme_shapes_are_named_with_their_file(tmp_path, shape, words):
    labelme(tmp_path, "p", [shape])
    with pytest.raises(DataError, match=words) as error:
        read_labelme(tmp_path)
    assert "p.json" in str(error.value)


def test_an_object_without_area_has_no_box():
    assert AnnotatedObject("a").bounds() is None
