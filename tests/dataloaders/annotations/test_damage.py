"""Properties of every annotation reader: what our writers write is read back equal; a damaged file is refused, or what it
lost is named: never another exception, and never another number of objects without a word."""

import json
import shutil
import xml.etree.ElementTree as ET

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dao.dataloaders.annotations.boxes import box_of
from dao.dataloaders.annotations.coco import read_coco
from dao.dataloaders.annotations.labelme import read_labelme
from dao.dataloaders.annotations.placing import Place
from dao.dataloaders.annotations.regions import encode_rle
from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Annotations
from dao.dataloaders.annotations.voc_xml import read_voc
from dao.dataloaders.annotations.writers import WRITERS
from dao.dataloaders.annotations.yolo_txt import read_yolo
from dao.dataloaders.datasets.csvfile import CsvDataset
from dao.dataloaders.datasets.listfile import ListDataset
from dao.errors import AICoreError

quick = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
CLASSES = ["NO", "dent", "ö scratch"]
SIZES = {"a": (20, 30), "b 1": (16, 16), "c": (9, 40)}
ROOTS = {"coco": "images/train", "voc": "JPEGImages/train", "yolo": "images/train", "labelme": "train"}


def read(kind, root):
    return {
        "coco": lambda: read_coco(root / "annotations/instances_train.json", root / "images/train"),
        "voc": lambda: read_voc(root / "Annotations/train", root / "JPEGImages/train"),
        "yolo": lambda: read_yolo(root / "data.yaml"),
        "labelme": lambda: read_labelme(root / "train"),
    }[kind]()


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """A set's pictures in the folder of each format; their annotations change with every example."""
    found = {}
    for kind, place in ROOTS.items():
        found[kind] = tmp_path_factory.mktemp(kind)
        (found[kind] / place).mkdir(parents=True)
        for name, hw in SIZES.items():
            cv2.imwrite(str(found[kind] / place / f"{name}.png"), np.zeros((*hw, 3), np.uint8))
    return found


def write(kind, root, images):
    for place in ("annotations", "Annotations", "labels", "ImageSets"):
        shutil.rmtree(root / place, ignore_errors=True)
    for file in [root / "data.yaml", root / "labels.txt", *(root / "train").glob("*.json")]:
        file.unlink(missing_ok=True)
    places = [Place(root / ROOTS[kind] / f"{name}.png", f"{name}.png") for name in SIZES]
    for image, place in zip(images, places, strict=True):
        image.path = str(place.path)
    WRITERS[kind][0](Annotations(images, CLASSES, "made up"), root, "train", places)


@st.composite
def objects(draw, hw):
    """A box of an eighth of a pixel's precision, and perhaps an outline or a mask of it."""
    (height, width), eighth = hw, 8
    left, top = draw(st.integers(0, 8 * width - 9)), draw(st.integers(0, 8 * height - 9))
    right, bottom = draw(st.integers(left + 8, 8 * width)), draw(st.integers(top + 8, 8 * height))
    box = tuple(value / eighth for value in (left, top, right, bottom))
    marked = AnnotatedObject(draw(st.sampled_from(CLASSES)), box, difficult=draw(st.booleans()))
    shape = draw(st.sampled_from(["box", "outline", "mask"]))
    if shape == "outline":
        marked.polygons = [np.array([box[:2], (box[2], box[1]), box[2:], (box[0], box[3])])]
    if shape == "mask":
        region = np.zeros(hw, bool)
        region[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = True
        marked.rle = encode_rle(region) if region.any() else None
        if region.any():
            marked.box_xyxy = tuple(map(float, (int(box[0]), int(box[1]), int(box[2]), int(box[3]))))
    return marked


pictures = st.tuples(*(st.lists(objects(hw), max_size=3) for hw in SIZES.values())).map(
    lambda lists: [AnnotatedImage("", hw, found) for hw, found in zip(SIZES.values(), lists, strict=True)]
)


def facts(images, outlines, difficult):
    """What a format keeps of every object, by picture: sorted, as grouping and order are not of interest."""
    rows = {}
    for image in images:
        found = [marked for marked in image.objects if difficult or not marked.difficult]
        rows[image.path] = [
            (
                marked.label,
                tuple(round(value, 6) for value in box_of(marked)),
                outlines and int(marked.region(image.hw).sum()),
                difficult and marked.difficult,
            )
            for marked in found
        ]
    return rows


@pytest.mark.parametrize("kind", list(ROOTS))
@quick
@given(images=pictures)
def test_what_our_writers_write_is_read_back_equal(kind, roots, images):
    write(kind, roots[kind], images)
    found = read(kind, roots[kind])
    keeps_outlines, keeps_difficult = kind in ("coco", "labelme"), kind != "yolo"
    wanted = facts(images, keeps_outlines, keeps_difficult)
    assert facts(found.images, keeps_outlines, keeps_difficult) == wanted
    assert not found.census.omitted and not found.census.adjusted
    assert kind == "labelme" or found.classes == CLASSES


# -- damage ----------------------------------------------------------------------------------------------------------

FILES = {
    "coco": "annotations/instances_train.json",
    "voc": "Annotations/train/a.xml",
    "yolo": "labels/train/a.txt",
    "labelme": "train/a.json",
}
COUNT = 4


def whole_set(kind, root):
    """Three pictures with COUNT objects."""
    ring = np.array([[2.0, 2], [9, 2], [9, 8]])
    mask = np.zeros((20, 30), bool)
    mask[3:6, 4:9] = True
    first = [
        AnnotatedObject("dent", (1, 2, 8, 9)),
        AnnotatedObject("NO", (2, 2, 9, 8), polygons=[ring]),
        AnnotatedObject("dent", (4, 3, 9, 6), rle=encode_rle(mask)),
    ]
    second = [AnnotatedObject("ö scratch", (1, 1, 5, 6))]
    write(
        kind,
        root,
        [AnnotatedImage("", (20, 30), first), AnnotatedImage("", (16, 16), second), AnnotatedImage("", (9, 40))],
    )
    return root / FILES[kind]


def check(kind, root):
    """The set is refused by an error of ours, or every object is there or named."""
    try:
        found = read(kind, root)
    except AICoreError as error:
        assert str(root) in str(error)
        return
    named = sum(len(names) for kinds in (found.census.omitted, found.census.adjusted) for names in kinds.values())
    assert sum(len(image.objects) for image in found.images) + named >= COUNT
    assert sum(len(image.objects) + image.lost for image in found.images) == COUNT or found.census.adjusted


def damaged_bytes(data, flips, cut):
    """Some bytes replaced, and perhaps the end cut off within the last line: without whole lines a text looks whole."""
    changed = bytearray(data)
    for place, value in flips:
        changed[place % len(data)] = value
    end = cut % len(data) if cut is not None else len(data)
    assume(cut is None or (end and data[end - 1 : end + 1].count(b"\n") == 0 and data[end:].count(b"\n") <= 1))
    return bytes(changed[:end])


INSTEAD = (b" ", b"\n", b"0", b'"', b"\xff")


@pytest.mark.parametrize("kind", list(ROOTS))
def test_bytes_replaced_one_by_one_lose_no_object_in_silence(kind, roots):
    file = whole_set(kind, roots[kind])
    data = file.read_bytes()
    short = len(data) < 200
    for place in range(0, len(data), 1 if short else 3):
        for turn in range(len(INSTEAD) if short else 1):
            file.write_bytes(data[:place] + INSTEAD[(place + turn) % len(INSTEAD)] + data[place + 1 :])
            check(kind, roots[kind])


flips = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3)
cuts = st.none() | st.integers(1, 10**6)


@pytest.mark.parametrize("kind", list(ROOTS))
@quick
@given(flips=flips, cut=cuts)
def test_flipped_bytes_and_torn_files_lose_no_object_in_silence(kind, roots, flips, cut):
    file = whole_set(kind, roots[kind])
    file.write_bytes(damaged_bytes(file.read_bytes(), flips, cut))
    check(kind, roots[kind])


odd_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([10**400, -1, 2**63, 1e308, "\0", "\udc80", "\ud800", "x" * 5000, "7", [[]], [[1, 2]], {"": None}]),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places_of(content, path=()):
    """Paths to every value below."""
    keys = content.keys() if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield (*path, key)
        yield from places_of(content[key], (*path, key))


def changed_at(content, way, value):
    """A copy with another value in one place."""
    copy = json.loads(json.dumps(content))
    inside = copy
    for key in way[:-1]:
        inside = inside[key]
    inside[way[-1]] = value
    return copy


def whole_list(way):
    """Whether a file without anything in this place is one where nothing is marked, as it may be."""
    return way[-1] in ("annotations", "shapes")


@pytest.mark.parametrize("kind", ["coco", "labelme"])
def test_every_json_value_replaced_dropped_or_repeated_loses_no_object_in_silence(kind, roots):
    file = whole_set(kind, roots[kind])
    content = json.loads(file.read_text(encoding="utf-8"))
    for way in places_of(content):
        values = [value for value in (None, True, -1, 1e400, "x", {}, [], [[]]) if value != [] or not whole_list(way)]
        texts = [json.dumps(changed_at(content, way, value)) for value in values]
        if isinstance(way[-1], str):
            key = json.dumps(way[-1])
            marked = json.dumps(changed_at(content, way, "\x07"))
            texts.append(marked.replace(f'{key}: "\\u0007"', '"\\u0007": 0'))  # dropped: another key in its place
            inside = content
            for step in way:
                inside = inside[step]
            short = inside[:-1] if isinstance(inside, list) else 7
            both = f"{key}: {json.dumps(inside)}, {key}: {json.dumps(short)}"
            texts.append(marked.replace(f'{key}: "\\u0007"', both))
        for text in texts:
            file.write_text(text, encoding="utf-8")
            check(kind, roots[kind])


@pytest.mark.parametrize("kind", ["coco", "labelme"])
@quick
@given(data=st.data())
def test_odd_json_values_lose_no_object_in_silence(kind, roots, data):
    file = whole_set(kind, roots[kind])
    content = json.loads(file.read_text(encoding="utf-8"))
    *way, last = data.draw(st.sampled_from(list(places_of(content))))
    inside = content
    for key in way:
        inside = inside[key]
    change = data.draw(st.sampled_from(["replace", "drop", "repeat"]))
    if change == "repeat" and isinstance(last, str):  # a key twice in one object, which dicts cannot hold
        inside[f"{last}\x07"] = data.draw(odd_values)
        assume(inside[f"{last}\x07"] != [] or last not in ("annotations", "shapes"))
    elif change == "drop" and isinstance(last, str):
        del inside[last]
    else:
        inside[last] = data.draw(odd_values)
        assume(inside[last] != [] or last not in ("annotations", "shapes"))  # a file where nothing is marked
    file.write_text(json.dumps(content).replace("\\u0007", ""), encoding="utf-8")
    check(kind, roots[kind])


@quick
@given(data=st.data())
def test_odd_xml_loses_no_object_in_silence(roots, data):
    file = whole_set("voc", roots["voc"])
    root = ET.parse(file).getroot()
    pairs = [(node, child) for node in root.iter() for child in node if child.tag != "object"]
    node, child = data.draw(st.sampled_from(pairs))
    change = data.draw(st.sampled_from(["replace", "drop", "repeat", "move"]))
    if change == "drop":
        node.remove(child)
    elif change == "repeat":
        node.append(child)
    elif change == "move":
        root.append(child)
        node.remove(child)
    else:
        child.text = data.draw(
            st.sampled_from(["", "nan", "inf", "-1", "1e400", "x", "9" * 5000, "../../b", "é", "a\tb"])
        )
    file.write_text(ET.tostring(root, encoding="unicode"), encoding="utf-8")
    check("voc", roots["voc"])


def test_every_byte_of_data_yaml_replaced_is_refused_or_harmless(roots):
    whole_set("yolo", roots["yolo"])
    file = roots["yolo"] / "data.yaml"
    data = file.read_bytes()
    for place in range(len(data)):
        for new in (b" ", b"\n", b"#", b"&", b"\xff"):
            file.write_bytes(data[:place] + new + data[place + 1 :])
            check("yolo", roots["yolo"])


@quick
@given(flips=flips, cut=cuts)
def test_a_damaged_data_yaml_is_refused_or_harmless(roots, flips, cut):
    whole_set("yolo", roots["yolo"])
    file = roots["yolo"] / "data.yaml"
    file.write_bytes(damaged_bytes(file.read_bytes(), flips, cut))
    check("yolo", roots["yolo"])


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """Six pictures, and the text of a file of each kind that lists them."""
    root = tmp_path_factory.mktemp("listed")
    rows = [(f"{i}.png", "dent" if i % 2 else "good") for i in range(6)]
    for name, _ in rows:
        cv2.imwrite(str(root / name), np.zeros((4, 4), np.uint8))
    table = "image,label\n" + "".join(f"{name},{label}\n" for name, label in rows)
    return root, {"csv": table.encode(), "list": "".join(f"{name} {label}\n" for name, label in rows).encode()}


def check_listed(kind, root, data):
    file = root / f"all.{kind}"
    file.write_bytes(data)
    try:
        found = CsvDataset(str(file)) if kind == "csv" else ListDataset(str(file))
    except AICoreError as error:
        assert str(root) in str(error)
        return
    # two lines that became one name a picture that is not there, which every reader of pictures says
    assert len(found) == 6 or any(not (root / record.path).is_file() for record in found.records)


@pytest.mark.parametrize("kind", ["csv", "list"])
def test_every_byte_of_a_list_replaced_loses_no_picture_in_silence(kind, listed):
    root, texts = listed
    data = texts[kind]
    for place in range(len(data)):
        for new in INSTEAD:
            check_listed(kind, root, data[:place] + new + data[place + 1 :])


@pytest.mark.parametrize("kind", ["csv", "list"])
@quick
@given(flips=flips, cut=cuts)
def test_damaged_lists_of_pictures_lose_none_in_silence(kind, listed, flips, cut):
    root, texts = listed
    assume(not any(value in b"#" for _, value in flips))  # a line made a remark
    check_listed(kind, root, damaged_bytes(texts[kind], flips, cut))
