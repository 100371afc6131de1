"""Batches for detection: boxes go where the pictures go, whatever resizes, caches, draws or cuts them."""

import json

import cv2
import numpy as np
import pytest
import torch

from dao.dataloaders.datasets.detection import CocoDetection
from dao.dataloaders.datasets.folder import FolderDataset
from dao.dataloaders.det_reader import DetDataloader, crop, window_over
from dao.dataloaders.transforms import build_transforms
from dao.errors import ConfigError, DataError
from dao.preprocess import Preprocess
from dao.structures import BoxTargets, GroundTruth, Sample

SIZES = [(40, 60), (60, 40), (33, 47), (50, 50), (80, 31), (64, 96), (40, 60), (48, 48)]
AUGMENT = [
    {"type": "Mosaic"},
    {"type": "Mixup"},
    {"type": "RandomHsv"},
    {"type": "HorizontalFlip", "kwargs": {"p": 0.5}},
]


@pytest.fixture
def data(tmp_path):
    return make(tmp_path, SIZES)


def make(folder, sizes, crowd=()):
    """Grey pictures with a white rectangle each, which is the box; the last one without."""
    rng = np.random.default_rng(0)
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}
    for i, (height, width) in enumerate(sizes):
        image = np.full((height, width, 3), 60 + 5 * i, np.uint8)
        content["images"].append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
        if i < len(sizes) - 1:
            left, top = int(rng.integers(2, width // 2)), int(rng.integers(2, height // 2))
            w, h = int(rng.integers(8, width // 2 - 2)), int(rng.integers(8, height // 2 - 2))
            image[top : top + h, left : left + w] = 255
            row = {"image_id": i, "category_id": 1 + i % 2, "bbox": [left, top, w, h], "iscrowd": int(i in crowd)}
            content["annotations"].append(row)
        cv2.imwrite(str(folder / f"{i}.png"), image)
    (folder / "a.json").write_text(json.dumps(content))
    return CocoDetection(str(folder / "a.json"))


def loader(data, training=True, transforms=(), size=(64, 96), seed=0, batch_size=3, **kwargs):
    known = {key: kwargs.pop(key) for key in ("resize", "position", "in_channels") if key in kwargs}
    return DetDataloader(
        dataset=data, transforms=build_transforms(list(transforms)), preprocess=Preprocess(size=list(size), **known),
        training=training, seed=seed, batch_size=batch_size, **{"num_workers": 0, **kwargs},
    )  # fmt: skip


def bright_box(image):
    """The box round the white pixels of a (C, h, w) picture."""
    bright = image.float().amin(0).numpy() > 200
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("resize_first", [False, True])
@pytest.mark.parametrize(
    "resize",
    [
        {"resize": "letterbox"},
        {"resize": "letterbox", "position": "top_left"},
        {"resize": "stretch"},
        {"resize": "crop"},
    ],
)
def test_boxes_lie_on_their_objects_in_the_input(data, resize, resize_first, cache):
    seen = 0
    for batch in loader(data, resize_first=resize_first, cache=cache, **resize):
        assert isinstance(batch.targets, BoxTargets) and batch.images.dtype == torch.uint8
        for image, boxes, labels, index in zip(
            batch.images, batch.targets.boxes_xyxy, batch.targets.labels, batch.indices
        ):
            count = int((labels >= 0).sum())
            if count:
                assert labels[0] == index % 2
                assert np.abs(np.array(bright_box(image)) - boxes[0].numpy()).max() <= 1.5
                seen += 1
            assert (labels[count:] == -1).all()
    assert seen >= 5  # "crop" may cut some away


def test_evaluation_keeps_the_original_pixels(data):
    batches = list(loader(data, training=False, transforms=[{"type": "HorizontalFlip", "kwargs": {"p": 1.0}}]))
    truths = [truth for batch in batches for truth in batch.targets]
    assert len(truths) == len(SIZES) and all(isinstance(truth, GroundTruth) for truth in truths)
    for truth, record in zip(truths, data.records):
        assert np.array_equal(truth.boxes_xyxy, record.boxes_xyxy) and truth.boxes_xyxy.dtype == np.float32
    assert truths[-1].boxes_xyxy.shape == (0, 4) and truths[-1].ignore.shape == (0,)


@pytest.mark.parametrize("transforms", [[], AUGMENT])
def test_batches_are_the_same_with_workers_and_with_a_cache(data, transforms):
    def batches(**kwargs):
        made = loader(data, transforms=transforms, **kwargs)
        made.set_epoch(2)
        found = [(b.images.clone(), b.targets.boxes_xyxy.clone(), b.targets.labels.clone()) for b in made]
        made.close()
        return found

    plain = batches()
    for other in (batches(num_workers=2), batches(cache=True)):
        assert all(torch.equal(x, y) for a, b in zip(plain, other, strict=True) for x, y in zip(a, b, strict=True))


def test_a_resumed_epoch_repeats_the_rest_and_another_epoch_differs(data):
    made = loader(data, transforms=AUGMENT)
    made.set_epoch(1)
    whole = [batch.images.clone() for batch in made]
    made.set_epoch(1, start_iter=1)
    assert all(torch.equal(a, b) for a, b in zip(whole[1:], [batch.images for batch in made], strict=True))
    made.set_epoch(2)
    assert not torch.equal(whole[0], next(iter(made)).images)


def test_closing_augmentation_leaves_the_pictures_as_they_are(data):
    closed, plain = loader(data, transforms=AUGMENT), loader(data)
    closed.set_epoch(3, augment=False)
    plain.set_epoch(3)
    for a, b in zip(closed, plain, strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.targets.boxes_xyxy, b.targets.boxes_xyxy)


def test_an_unreadable_picture_gives_way_also_inside_a_mosaic(tmp_path):
    data = make(tmp_path, SIZES)
    (tmp_path / "3.png").write_bytes(b"no picture")
    made = loader(data, transforms=[{"type": "Mosaic"}])
    batches = list(made)
    assert {bad.path for batch in batches for bad in batch.bad} == {str(tmp_path / "3.png")}
    assert sum(len(batch) for batch in batches) == len(SIZES)
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="pictures in a row cannot be read"):
        list(loader(data))


def test_crowds_are_not_learnt_from(tmp_path):
    data = make(tmp_path, SIZES, crowd=(0, 2))
    labels = {
        i: n for batch in loader(data) for i, n in zip(batch.indices, (batch.targets.labels >= 0).sum(1).tolist())
    }
    assert [labels[i] for i in range(len(SIZES))] == [0, 1, 0, 1, 1, 1, 1, 0]
    truth = [truth for batch in loader(data, training=False) for truth in batch.targets]
    assert [t.ignore.tolist() for t in truth[:3]] == [[True], [False], [True]]


def test_leftovers_under_a_pixel_are_dropped(tmp_path):
    data = make(tmp_path, [(40, 60)] * 2)
    data.records[0].boxes_xyxy = np.array([[10, 10, 10.5, 20], [59.2, 0, 60, 20], [5, 5, 9, 9]], np.float32)
    data.records[0].box_labels = np.array([0, 0, 1])
    data.records[0].crowd = np.zeros(3, bool)
    batch = next(iter(loader(data, size=(40, 60), batch_size=2)))
    assert (batch.targets.labels >= 0).sum() == 1 and batch.targets.boxes_xyxy[batch.targets.labels == 1].tolist() == [
        [5, 5, 9, 9]
    ]


def test_a_batch_without_any_box_has_no_columns(tmp_path):
    data = make(tmp_path, [(40, 60)] * 2)
    data.records[0].boxes_xyxy, data.records[0].box_labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    data.records[0].crowd = np.zeros(0, bool)
    targets = next(iter(loader(data, batch_size=2))).targets
    assert targets.boxes_xyxy.shape == (2, 0, 4) and targets.labels.shape == (2, 0)


def test_big_pictures_are_learnt_window_by_window(tmp_path):
    data = make(tmp_path, [(200, 300)] * 6)
    with_box = 0
    made = loader(data, resize="tile", size=(64, 64), batch_size=6)
    for epoch in range(8):
        made.set_epoch(epoch)
        batch = next(iter(made))
        assert batch.images.shape[-2:] == (64, 64)
        for image, boxes, labels in zip(batch.images, batch.targets.boxes_xyxy, batch.targets.labels):
            if (labels >= 0).any():
                with_box += 1
                assert np.abs(np.array(bright_box(image)) - boxes[0].numpy()).max() <= 1
    assert with_box >= 20  # of 40 pictures with a box: every second window is laid over one


def test_window_over_a_box_holds_its_middle_and_stays_inside():
    rng = np.random.default_rng(0)
    for _ in range(200):
        box = np.array([*rng.uniform(0, 80, 2), 0, 0], np.float32)
        box[2:] = box[:2] + rng.uniform(1, 20, 2)
        top, left = window_over(box, (100, 100), (30, 40), rng)
        assert 0 <= top <= 70 and 0 <= left <= 60
        assert top <= (box[1] + box[3]) / 2 <= top + 30 and left <= (box[0] + box[2]) / 2 <= left + 40


def test_crop_moves_and_cuts_boxes():
    boxes = np.array([[10, 10, 30, 30], [0, 0, 5, 5]], np.float32)
    sample = Sample(np.zeros((50, 60, 3), np.uint8), "", 0, (50, 60), boxes_xyxy=boxes, box_labels=np.array([1, 0]))
    found = crop(sample, 20, 15, (20, 20))
    assert (
        found.image.shape == (20, 20, 3)
        and found.boxes_xyxy.tolist() == [[0, 0, 15, 10]]
        and found.box_labels.tolist() == [1]
    )


def test_albumentations_move_boxes_as_well(data):
    flipped = [
        {"type": "HorizontalFlip", "kwargs": {"p": 1.0}},
        {"type": "RandomCrop", "kwargs": {"height": 30, "width": 30}},
    ]
    for batch in loader(data, transforms=flipped, resize_first=False, size=(30, 30)):
        for image, boxes, labels in zip(batch.images, batch.targets.boxes_xyxy, batch.targets.labels):
            if (labels >= 0).any():
                assert np.abs(np.array(bright_box(image)) - boxes[0].numpy()).max() <= 1


def test_other_datasets_are_refused_in_words(folder_set):
    with pytest.raises(ConfigError, match="FolderDataset has no boxes.*CocoDetection"):
        loader(FolderDataset(str(folder_set)))


def test_grey_input_and_pinning(data):
    batch = next(iter(loader(data, in_channels=1, transforms=AUGMENT)))
    assert batch.images.shape[1] == 1
    moved = batch.targets.to("cpu")
    assert len(moved) == 3 and torch.equal(moved.labels, batch.targets.labels)
