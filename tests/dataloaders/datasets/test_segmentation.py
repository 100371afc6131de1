"""Masks in every layout, and every way in which they can be wrong."""

import csv
import json
import unicodedata

import cv2
import numpy as np
import pytest
from PIL import Image

from dao.dataloaders.datasets.masks import MaskCodec, read_raw_mask
from dao.dataloaders.datasets.seg_annotations import CocoSegmentation, LabelMeSegmentation
from dao.dataloaders.datasets.seg_csv import SegCsvDataset
from dao.dataloaders.datasets.seg_folder import SegFolderDataset
from dao.errors import ConfigError, DataError

CLASSES = ["background", "scratch", "dent"]
HW = (12, 16)


def mask(*squares):
    out = np.zeros(HW, np.uint8)
    for value, y, x in squares:
        out[y : y + 3, x : x + 3] = value
    return out


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
    return path


def picture(path, hw=HW):
    return write(path, np.full((*hw, 3), 90, np.uint8))


def table(folder, rows, header=("image", "mask", "class", "split", "group")):
    with (folder / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(folder / "t.csv")


@pytest.fixture
def binary(tmp_path):
    """Three pictures: a scratch and a dent in 0/255 masks with grey edges, and a good part."""
    for name in "abc":
        picture(tmp_path / f"{name}.png")
    soft = mask((255, 2, 2))
    soft[5, 2:5] = 90
    write(tmp_path / "m" / "a.png", soft)
    write(tmp_path / "m" / "b.png", mask((255, 6, 8)))
    rows = [
        ("a.png", "m/a.png", "scratch", "train", "1"),
        ("b.png", "m/b.png", "dent", "val", "2"),
        ("c.png", "", "good", "train", "3"),
    ]
    return tmp_path, rows


def test_csv_of_binary_masks_with_a_class_column(binary):
    folder, rows = binary
    options = {"class_column": "class", "mask_format": "binary"}
    whole = SegCsvDataset(table(folder, rows), **options)
    assert whole.classes == ["background", "dent", "scratch"] and len(whole) == 3
    assert np.array_equal(whole.read(0).mask, mask((2, 2, 2))) and np.array_equal(whole.read(1).mask, mask((1, 6, 8)))
    assert not whole.read(2).mask.any() and whole.read(2).mask.shape == HW
    assert whole.class_counts() == [3, 1, 1]
    assert whole.picture_labels() == [(2,), (1,), ()]
    assert whole.loss_counts() == [3 * 12 * 16 - 18, 9, 9]
    assert whole.loss_total() == 3 * 12 * 16
    train = SegCsvDataset(table(folder, rows), split_column="split", split="train", classes=whole.classes, **options)
    assert len(train) == 2 and "1 of them without a mask" in train.summary()
    with pytest.raises(DataError, match="no row has 'test' in column 'split'; it has: train, val"):
        SegCsvDataset(table(folder, rows), split_column="split", split="test", **options)


def test_a_row_that_names_a_defect_and_whose_mask_marks_nothing_is_left_out_and_named_and_no_good_part(binary):
    folder, rows = binary
    for name in "defg":
        picture(folder / f"{name}.png")
    write(folder / "m" / "d.png", mask())
    write(folder / "m" / "e.jpg", mask() + 9)  # what JPEG makes of black
    write(folder / "m" / "f.png", mask((100, 2, 2)))  # below the threshold: refused when it is read
    write(folder / "m" / "g.png", mask())
    more = [("d.png", "m/d.png", "uneven", "train", "4"), ("e.png", "m/e.jpg", "uneven", "train", "5"),
            ("f.png", "m/f.png", "dent", "train", "6"), ("g.png", "m/g.png", "dent", "val", "7")]  # fmt: skip
    options = {"class_column": "class", "mask_format": "binary", "split_column": "split"}
    data = SegCsvDataset(table(folder, rows + more), split="train", **options)
    assert [record.path for record in data.records] == [str(folder / name) for name in ("a.png", "c.png", "f.png")]
    assert data.classes == ["background", "dent", "scratch", "uneven"]
    assert data.census.omissions() == [
        "2 pictures named for a defect with nothing marked in the mask left out: "
        f"{folder / 'd.png'} (uneven), {folder / 'e.png'} (uneven)"
    ]
    assert "values up to 100" in data.picture_problem(2, HW)
    ratio = SegCsvDataset(
        table(folder, rows + more),
        split_ratio={"train": 0.5, "val": 0.5},
        split="train",
        **{**options, "split_column": None},
    )
    assert ratio.of_all == 7 - sum(map(len, ratio.census.omitted.values()))
    with pytest.raises(DataError, match="every picture is named for a defect, and no mask marks anything"):
        SegCsvDataset(table(folder, more[:2]), split="train", **options)


def test_an_empty_mask_without_a_word_for_a_defect_is_a_good_part(binary):
    folder, rows = binary
    write(folder / "m" / "b.png", mask())
    data = SegCsvDataset(table(folder, rows), mask_format="binary")
    assert len(data) == 3 and not data.census.omitted and not data.read(1).mask.any()


def test_a_picture_among_the_masks_of_one_class_that_marks_nothing_is_left_out(tmp_path):
    """One with an empty mask for every class was written by a tool that writes them all, and is a good part."""
    for name, scratch, dent in (("a", mask((255, 2, 2)), mask()), ("b", mask(), mask()), ("c", None, mask())):
        picture(tmp_path / "images" / f"{name}.png")
        for folder, pixels in (("scratch", scratch), ("dent", dent)):
            if pixels is not None:
                write(tmp_path / "masks" / folder / f"{name}.png", pixels)
    data = SegFolderDataset(str(tmp_path), image_dir="images", mask_dir="masks", mask_per_class=True, classes=CLASSES)
    assert data.picture_labels() == [(1,), ()]
    assert list(data.census.omitted.values()) == [[f"{tmp_path / 'images' / 'c.png'} (dent)"]]


def test_binary_masks_cannot_tell_kinds_apart(binary):
    folder, rows = binary
    with pytest.raises(DataError, match="cannot tell scratch, dent apart"):
        SegCsvDataset(table(folder, rows), mask_format="binary", classes=CLASSES)
    assert SegCsvDataset(table(folder, rows), mask_format="binary").classes == ["background", "defect"]


def test_masks_of_0_and_255_as_class_indices_are_refused(binary):
    folder, rows = binary
    write(folder / "m" / "a.png", mask((255, 2, 2)))
    with pytest.raises(DataError, match=r'0 and 255 and nothing else(.|\n)*"mask_format": "binary"'):
        SegCsvDataset(table(folder, rows), classes=CLASSES)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("c.png", "m/missing.png", "dent", "", ""), r"missing.png \(of .*c.png\)(.|\n)*do not exist"),
        (("a.png", "", "", "", ""), "a.png is listed already in line 2"),
        (("", "", "", "", ""), "no picture in column 'image'"),
        (("c.png", "m/a.png", "", "", ""), "has a mask and no class"),
        (("c.png", "m/a.png", "bump", "", ""), "'bump' is not a class. Known"),
    ],
)
def test_wrong_rows_are_named(binary, row, words):
    folder, rows = binary
    classes = ["background", "dent", "scratch"]
    with pytest.raises(DataError, match=words):
        SegCsvDataset(table(folder, [*rows[:2], row]), class_column="class", mask_format="binary", classes=classes)


def test_a_row_that_names_a_defect_and_has_no_mask_is_no_good_part(binary):
    folder, rows = binary
    path = table(folder, [*rows[:2], ("c.png", "", "scratch", "train", "3")])
    with pytest.raises(DataError, match="line 4: c.png shows 'scratch' and has no mask"):
        SegCsvDataset(path, class_column="class", mask_format="binary")


def test_a_row_that_ends_before_its_mask_is_no_good_part(binary):
    folder, rows = binary
    path = table(folder, [rows[0][:2], ("b.png",)], ("image", "mask"))
    with pytest.raises(DataError, match="line 3: it ends before the column 'mask'"):
        SegCsvDataset(path, mask_format="binary")
    path = table(folder, [rows[0][:2], ("./a.png", "")], ("image", "mask"))
    with pytest.raises(DataError, match=r"line 3: ./a.png is listed already in line 2"):
        SegCsvDataset(path, mask_format="binary")


def test_a_mask_of_another_size_is_refused_when_its_turn_comes(binary):
    folder, rows = binary
    picture(folder / "a.png", (20, 20))
    data = SegCsvDataset(table(folder, rows), class_column="class", mask_format="binary")
    with pytest.raises(DataError, match="the mask is 16x12 pixels, its picture .* 20x20"):
        data.read(0)


def test_damaged_masks_are_named(binary):
    folder, rows = binary
    (folder / "m" / "a.png").write_bytes(b"\x89PNG torn")
    data = SegCsvDataset(table(folder, rows), class_column="class", mask_format="binary")
    with pytest.raises(DataError, match=r"a.png: the mask cannot be decoded"):
        data.read(0)
    assert data.class_counts() == [2, 1, 0]  # what cannot be read is not counted


def voc(tmp_path, values=(1, 2)):
    """Palette masks and a list for each split."""
    for name, value in zip("ab", values):
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
        (tmp_path / "SegmentationClass").mkdir(exist_ok=True)
        indexed = Image.fromarray(mask((value, 2, 2)), mode="P")
        indexed.putpalette([i * 40 % 256 for i in range(768)])
        indexed.save(tmp_path / "SegmentationClass" / f"{name}.png")
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "train.txt").write_text("b\na\n")
    (lists / "val.txt").write_text("a\n")
    return str(tmp_path)


def test_voc_with_palettes(tmp_path):
    data = SegFolderDataset(voc(tmp_path), image_set="train", classes=CLASSES)
    assert [record.path[-5] for record in data.records] == ["b", "a"]
    assert np.array_equal(data.read(0).mask, mask((2, 2, 2)))
    assert len(SegFolderDataset(voc(tmp_path), image_set="val", classes=CLASSES)) == 1
    halves = [
        SegFolderDataset(voc(tmp_path), split=s, split_ratio={"train": 0.5, "val": 0.5}, classes=CLASSES)
        for s in ("train", "val")
    ]
    assert [len(half) for half in halves] == [1, 1]


@pytest.mark.parametrize(
    ("change", "kwargs", "words"),
    [
        (None, {"image_set": "test"}, "has no list 'test.txt'; it has: train, val"),
        (None, {"image_dir": "pictures"}, "image_dir: .* has no folder 'pictures'; it has: ImageSets, JPEGImages"),
        (None, {"classes": None}, "need the names"),
        ("list", {"image_set": "train"}, "lists pictures that .* does not have: z"),
        ("mask", {}, "do not exist"),
    ],
)
def test_wrong_folders_are_named(tmp_path, change, kwargs, words):
    folder = voc(tmp_path)
    if change == "list":
        (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("a\nz\n")
    if change == "mask":
        (tmp_path / "SegmentationClass" / "a.png").unlink()
    with pytest.raises(DataError, match=words):
        SegFolderDataset(folder, **{"classes": CLASSES, **kwargs})


def test_a_missing_mask_may_mean_a_good_part(tmp_path):
    folder = voc(tmp_path)
    (tmp_path / "SegmentationClass" / "a.png").unlink()
    data = SegFolderDataset(folder, missing_mask="background", classes=CLASSES)
    assert [bool(data.read(i).mask.any()) for i in range(2)] == [False, True]


def test_values_beyond_the_classes_are_refused(tmp_path):
    data = SegFolderDataset(voc(tmp_path, values=(7, 2)), classes=CLASSES)
    with pytest.raises(DataError, match=r"has the values 7, and there are 3 classes \(0 to 2; 255 is unlabelled\)"):
        data.read(0)


def test_one_mask_per_class(tmp_path):
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "images" / "b.png")
    write(tmp_path / "masks" / "scratch" / "a.png", mask((255, 2, 2)))
    write(tmp_path / "masks" / "dent" / "a.png", mask((255, 3, 3)))
    data = SegFolderDataset(str(tmp_path), image_dir="images", mask_dir="masks", mask_per_class=True, classes=CLASSES)
    assert np.array_equal(data.read(0).mask, mask((1, 2, 2), (2, 3, 3)))  # the later class is seen
    assert not data.read(1).mask.any()
    names = SegFolderDataset(str(tmp_path), image_dir="images", mask_dir="masks", mask_per_class=True).classes
    assert names == ["background", "dent", "scratch"]


def test_tables_of_grey_levels_and_colours(tmp_path):
    levels = {"0": "background", "80": "scratch", "200": "dent", "255": "ignore"}
    picture(tmp_path / "images" / "a.png")
    write(tmp_path / "masks" / "a.png", mask((80, 0, 0), (200, 5, 5), (255, 9, 9)))
    options = {"image_dir": "images", "mask_dir": "masks", "mask_format": "values"}
    data = SegFolderDataset(str(tmp_path), mask_values=levels, **options)
    assert data.classes == CLASSES and np.array_equal(data.read(0).mask, mask((1, 0, 0), (2, 5, 5), (255, 9, 9)))
    coloured = np.zeros((*HW, 3), np.uint8)
    coloured[:3, :3] = (0, 0, 255)  # BGR: red
    write(tmp_path / "masks" / "a.png", coloured)
    colours = {"#000000": "background", "#ff0000": "dent"}
    assert np.array_equal(SegFolderDataset(str(tmp_path), mask_values=colours, **options).read(0).mask, mask((1, 0, 0)))
    coloured[5, 5] = (1, 2, 3)
    write(tmp_path / "masks" / "a.png", coloured)
    with pytest.raises(DataError, match=r"the value \[3, 2, 1\] \(at x 5, y 5\)"):
        SegFolderDataset(str(tmp_path), mask_values=colours, **options).read(0)
    with pytest.raises(DataError, match="the mask is in colours"):
        MaskCodec("index", 3).decode(read_raw_mask(str(tmp_path / "masks" / "a.png")), "a.png")


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"mask_format": "values"}, "mask_values  is missing"),
        ({"mask_values": {"0": "background"}}, 'is for "mask_format": "values"'),
        ({"mask_format": "values", "mask_values": {"red": "dent"}}, "'red' is neither a grey level"),
        ({"image_set": "train", "split_ratio": {"train": 1.0}, "split": "train"}, "together with image_set"),
        ({"split": "train"}, "means nothing without split_ratio"),
        ({"missing_mask": "skip"}, "expected error or background"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path, kwargs, words):
    with pytest.raises(ConfigError, match=words):
        SegFolderDataset(voc(tmp_path), **{"classes": CLASSES, **kwargs})


def test_classes_of_a_table_must_exist(tmp_path):
    options = {"mask_format": "values", "mask_values": {"0": "background", "1": "dnt"}}
    with pytest.raises(ConfigError, match="'dnt' is not a class. Nearest: dent"):
        SegFolderDataset(voc(tmp_path), classes=CLASSES, **options)


def test_coco_polygons_become_masks(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 12, "width": 16}, {"id": 2, "file_name": "b.png"}],
        "categories": [{"id": 5, "name": "scratch"}, {"id": 9, "name": "dent"}],
        "annotations": [
            {"image_id": 1, "category_id": 5, "segmentation": [[2, 2, 5, 2, 5, 5, 2, 5]]},
            {"image_id": 1, "category_id": 9, "bbox": [3, 3, 3, 3]},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", (7, 9))
    data = CocoSegmentation(str(tmp_path / "a.json"))
    assert data.classes == CLASSES and np.array_equal(data.read(0).mask, mask((1, 2, 2), (2, 3, 3)))
    assert data.read(1).mask.shape == (7, 9) and not data.read(1).mask.any()
    assert "2 marked objects, 1 picture without any" in data.summary()
    with pytest.raises(DataError, match="not among the known ones: dent"):
        CocoSegmentation(str(tmp_path / "a.json"), classes=["background", "scratch"])
    picture(tmp_path / "a.png", (16, 12))
    with pytest.raises(DataError, match="annotated as a picture of 16x12 pixels, the file has 12x16"):
        data.read(0)


def test_labelme_shapes_become_masks(tmp_path):
    for name, shapes in (("a", [{"label": "dent", "shape_type": "rectangle", "points": [[2, 2], [5, 5]]}]), ("b", [])):
        content = {"imagePath": f"{name}.png", "imageHeight": 12, "imageWidth": 16, "shapes": shapes}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        picture(tmp_path / f"{name}.png")
    picture(tmp_path / "c.png")
    data = LabelMeSegmentation(str(tmp_path))
    assert data.classes == ["background", "dent"] and len(data) == 3
    assert np.array_equal(data.read(0).mask, mask((1, 2, 2))) and not data.read(2).mask.any()
    parts = [
        LabelMeSegmentation(str(tmp_path), split=s, split_ratio={"train": 0.67, "val": 0.33}) for s in ("train", "val")
    ]
    assert sorted(r.path for part in parts for r in part.records) == [r.path for r in data.records]
    for part in parts:
        for index in range(len(part)):
            assert part.images[index].path == part.records[index].path


def test_the_background_stands_alone(tmp_path):
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match="masks need 2 to 255 classes"):
        LabelMeSegmentation(str(tmp_path))


@pytest.mark.parametrize("top", [1, 100, 127])
def test_a_binary_mask_that_marks_below_128_alone_is_refused_and_no_good_part(tmp_path, top):
    faint = np.zeros((8, 9), np.uint8)
    faint[2:4, 2:4] = top
    codec = MaskCodec("binary", 2)
    with pytest.raises(DataError, match=f"values up to {top}, and as a 0/255 mask none from 128 up"):
        codec.decode(faint, "a.png")
    faint[3, 3] = 255  # grey edges round a mark are as they should be
    assert codec.decode(faint, "a.png").sum() == 1
    assert not codec.decode(np.full((8, 9), 7, np.uint8), "a.jpg").any()  # what JPEG makes of black


def test_a_mask_that_is_marked_in_its_transparency_alone_is_refused(tmp_path):
    mask = np.zeros((8, 9, 4), np.uint8)
    mask[2:4, 2:4, 3] = 255
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    with pytest.raises(DataError, match="in its transparency alone"):
        read_raw_mask(str(tmp_path / "m.png"))


@pytest.mark.parametrize("per_class", [False, True])
def test_mask_files_that_no_picture_claims_are_counted_and_other_unicode_forms_taken(tmp_path, per_class):
    composed, apart = unicodedata.normalize("NFC", "\u00e9"), unicodedata.normalize("NFD", "\u00e9")
    folder = tmp_path / "masks" / "scratch" if per_class else tmp_path / "masks"
    for name in (f"images/{composed}.png", "images/b.png"):
        picture(tmp_path / name)
    folder.mkdir(parents=True)
    for name in (f"{apart}.png", "gone.png"):
        cv2.imwrite(str(folder / name), np.full((12, 16), 255, np.uint8))
    kwargs = {"mask_per_class": True} if per_class else {"mask_format": "binary", "missing_mask": "background"}
    data = SegFolderDataset(str(tmp_path), "images", "masks", **kwargs)
    marked = {record.path[-5]: bool(data.read(index).mask.any()) for index, record in enumerate(data.records)}
    assert marked == {composed: True, "b": False}
    assert [name[-8:] for name in data.census.omitted["mask files that belong to no picture"]] == ["gone.png"]
