"""The sample set: the same every time, masks that cover what was drawn, lists that agree, nobody's files touched."""

import csv
import hashlib
import json

import cv2
import numpy as np
import pytest

from dao.errors import DataError
from dao.samples.draw import LABELS, SLOTS, draw, identify
from dao.samples.write import write_samples

PER_CLASS, SIZE = 6, 64


def hashes(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha1(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def sample_set(tmp_path_factory):
    out = tmp_path_factory.mktemp("samples") / "set"
    assert write_samples(out, seed=3, size=SIZE, per_class=PER_CLASS)
    return out


def test_two_runs_write_the_same_bytes(sample_set, tmp_path):
    write_samples(tmp_path / "again", seed=3, size=SIZE, per_class=PER_CLASS)
    assert hashes(tmp_path / "again") == hashes(sample_set)


def test_a_finished_set_is_left_alone_and_a_torn_one_mended(sample_set):
    before = {p: p.stat().st_mtime_ns for p in sample_set.rglob("*.png")}
    assert write_samples(sample_set, seed=3, size=SIZE, per_class=PER_CLASS) is False
    assert {p: p.stat().st_mtime_ns for p in sample_set.rglob("*.png")} == before
    whole = hashes(sample_set)
    (sample_set / "masks" / "0003.png").unlink()
    assert write_samples(sample_set, seed=3, size=SIZE, per_class=PER_CLASS) is True
    assert hashes(sample_set) == whole


def test_somebody_elses_folder_is_refused_untouched(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="was not written by"):
        write_samples(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("index", range(3 * len(SLOTS)))
def test_the_mask_covers_what_the_defect_changed(index):
    """Against the same part drawn without its defect: inside the mask it differs, away from it hardly."""
    label = identify(index).label
    drawn, clean = draw(5, index), draw(5, index, with_defect=False)
    if label == "good":
        assert not drawn.mask.any()
        np.testing.assert_array_equal(drawn.image, clean.image)
        return
    assert set(np.unique(drawn.mask)) == {0, LABELS.index(label)}
    change = np.abs(drawn.image.astype(int) - clean.image.astype(int)).max(2)
    far = cv2.dilate((drawn.mask > 0).astype(np.uint8), np.ones((7, 7))) == 0
    assert change[drawn.mask > 0].mean() > 12
    assert change[far].mean() < 1 and np.percentile(change[far], 99.5) < 12


def test_lists_folders_and_boxes_agree(sample_set):
    with (sample_set / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    of_classes = [row for row in rows if row["split"] in ("train", "val")]
    assert {row["label"] for row in of_classes} == set(LABELS)
    for row in of_classes:
        name = row["image"].split("/")[-1]
        linked = sample_set / "cls" / row["split"] / row["label"] / name
        assert linked.read_bytes() == (sample_set / row["image"]).read_bytes()
        mask = cv2.imread(str(sample_set / row["mask"]), cv2.IMREAD_UNCHANGED)
        assert mask.ndim == 2 and set(np.unique(mask)) - {0} <= {LABELS.index(row["label"])}
    groups = {split: {row["group"] for row in of_classes if row["split"] == split} for split in ("train", "val")}
    assert not groups["train"] & groups["val"]
    assert len(list(sample_set.glob("cls/*/*/*.png"))) == len(of_classes) == PER_CLASS * len(LABELS)


@pytest.mark.parametrize("split", ["train", "val"])
def test_coco_boxes_are_the_masks_extent(sample_set, split):
    content = json.loads((sample_set / "annotations" / f"instances_{split}.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    assert content["annotations"]
    for entry in content["annotations"]:
        mask = cv2.imread(str(sample_set / "masks" / names[entry["image_id"]]), cv2.IMREAD_UNCHANGED) > 0
        ys, xs = np.nonzero(mask)
        assert entry["bbox"] == [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
        assert content["categories"][entry["category_id"] - 1]["name"] == LABELS[mask_value(sample_set, names, entry)]


def mask_value(folder, names, entry):
    return int(cv2.imread(str(folder / "masks" / names[entry["image_id"]]), cv2.IMREAD_UNCHANGED).max())


def test_anomaly_layout_trains_on_good_parts_alone(sample_set):
    assert {p.name for p in (sample_set / "anomaly" / "train").iterdir()} == {"good"}
    for truth in sample_set.glob("anomaly/ground_truth/*/*_mask.png"):
        tested = sample_set / "anomaly" / "test" / truth.parent.name / truth.name.replace("_mask", "")
        assert tested.is_file() and set(np.unique(cv2.imread(str(truth), 0))) == {0, 255}


@pytest.mark.parametrize(
    ("kwargs", "message"), [({"seed": -1}, "--seed"), ({"size": 8}, "--size"), ({"per_class": 1}, "--per-class")]
)
def test_settings_out_of_range(tmp_path, kwargs, message):
    with pytest.raises(DataError, match=message):
        write_samples(tmp_path / "x", **kwargs)
