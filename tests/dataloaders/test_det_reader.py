"""Boxes stay on their objects, through resizing, mosaics and windows: a coloured rectangle tells where it went."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Annotations
from dao.dataloaders.datasets.base import ImageDataset
from dao.dataloaders.datasets.detection import BoxDataset
from dao.dataloaders.det_reader import DetDataloader, crop, window_over
from dao.dataloaders.transforms import build_transforms
from dao.errors import ConfigError
from dao.preprocess import Preprocess
from dao.structures import BoxTargets, GroundTruth, Sample

LEVEL = (240, 120)  # grey of an object of class 0 and 1, on a background of 10


@pytest.fixture
def data(tmp_path):
    """Eight pictures of two sizes with one to three objects each; one without."""
    images = []
    for index in range(8):
        rng = np.random.default_rng(index)
        hw = (60, 90) if index % 2 else (80, 50)
        canvas, objects = np.full((*hw, 3), 10, np.uint8), []
        for kind in range(index % 3 + (index > 0)):
            x, y = 5 + 14 * kind, int(rng.integers(4, 30))
            canvas[y : y + 20, x : x + 10] = LEVEL[kind % 2]
            objects.append(AnnotatedObject("ab"[kind % 2], (x, y, x + 10, y + 20)))
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), canvas)
        images.append(AnnotatedImage(str(path), hw, objects))
    return BoxDataset(Annotations(images, ["a", "b"], "made up"))


def loader(data, transforms=(), training=True, size=(64, 64), resize="letterbox", **kwargs):
    settings = {
        "size": list(size),
        "resize": resize,
        "antialias": False,
        "pad_value": 10,
        "position": kwargs.pop("position", "center"),
        "in_channels": kwargs.pop("in_channels", 3),
    }
    options = {"batch_size": 4, "num_workers": 0, **kwargs}
    pipeline = build_transforms(list(transforms))
    return DetDataloader(
        dataset=data, transforms=pipeline, preprocess=Preprocess(**settings), training=training, seed=3, **options
    )  # fmt: skip


def batches(made, epoch=0, augment=True):
    made.set_epoch(epoch, augment=augment)
    return list(made)


def on_their_objects(batch, least=0.75):
    """Share of boxes whose pixels are mostly of their object's grey."""
    right = []
    for image, boxes, labels in zip(batch.images, batch.targets.boxes_xyxy, batch.targets.labels):
        for (x0, y0, x1, y1), label in zip(boxes.numpy(), labels.numpy()):
            if label < 0:
                continue
            inside = image[0, int(np.ceil(y0)) : int(y1), int(np.ceil(x0)) : int(x1)].numpy().astype(int)
            if inside.size:
                right.append((np.abs(inside - LEVEL[label]) < 45).mean() >= least)
    return np.mean(right), len(right)


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop", "tile"])
@pytest.mark.parametrize("resize_first", [True, False])
def test_boxes_follow_the_resize(data, resize, resize_first):
    found = batches(loader(data, resize=resize, resize_first=resize_first))
    shares = [on_their_objects(batch) for batch in found]
    assert all(share == 1 for share, _ in shares) and sum(count for _, count in shares) >= 8
    for batch in found:
        assert isinstance(batch.targets, BoxTargets) and batch.images.shape[2:] == (64, 64)
        boxes = batch.targets.boxes_xyxy
        assert boxes.min() >= 0 and boxes.max() <= 64 and boxes.shape[:2] == batch.targets.labels.shape


def test_a_corner_letterbox_moves_nothing(data):
    batch = batches(loader(data, position="top_left"))[0]
    assert on_their_objects(batch)[0] == 1


@pytest.mark.parametrize(
    "transform",
    [
        {"type": "Mosaic", "kwargs": {"degrees": 0.0, "shear": 0.0}},
        {"type": "RandomAffine", "kwargs": {"degrees": 0.0, "shear": 0.0}},
        {"type": "ScaleJitter"},
        {"type": "HorizontalFlip", "kwargs": {"p": 1.0}},
        {"type": "RandomCrop", "kwargs": {"height": 40, "width": 40}},
    ],
)
def test_boxes_stay_on_their_objects(data, transform):
    shares = [on_their_objects(batch, 0.5) for epoch in range(3) for batch in batches(loader(data, [transform]), epoch)]
    assert sum(count for _, count in shares) > 20
    assert np.average([share for share, _ in shares], weights=[count for _, count in shares]) > 0.97


def test_a_mixed_picture_has_the_boxes_of_both(data):
    plain = sum(int((batch.targets.labels >= 0).sum()) for batch in batches(loader(data)))
    mixed = sum(int((batch.targets.labels >= 0).sum()) for batch in batches(loader(data, [{"type": "Mixup"}])))
    assert mixed > 1.4 * plain


DRAWING = [{"type": "Mosaic"}, {"type": "Mixup", "kwargs": {"p": 0.5}}, {"type": "RandomHsv"}]


def same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second):
        assert a.paths == b.paths and (a.images == b.images).all()
        assert (a.targets.boxes_xyxy == b.targets.boxes_xyxy).all() and (a.targets.labels == b.targets.labels).all()


def test_augmentation_is_a_function_of_seed_epoch_and_index(data):
    expected = batches(loader(data, DRAWING), epoch=2)
    same(batches(loader(data, DRAWING), epoch=2), expected)
    same(batches(loader(data, DRAWING, cache=True), epoch=2), expected)
    workers = loader(data, DRAWING, num_workers=2)
    same(batches(workers, epoch=2), expected)
    workers.close()
    assert not (batches(loader(data, DRAWING), epoch=3)[0].images == expected[0].images).all()


def test_closed_augmentation_leaves_pictures_alone(data):
    same(batches(loader(data, DRAWING), augment=False), batches(loader(data), augment=False))


def test_an_unreadable_picture_is_replaced_also_inside_a_mosaic(data):
    path = data.records[3].path
    Path(path).write_bytes(b"torn")
    found = batches(loader(data, [{"type": "Mosaic", "kwargs": {"degrees": 0.0, "shear": 0.0}}]))
    assert all(len(batch) == 4 for batch in found)
    assert {bad.path for batch in found for bad in batch.bad} == {path}


def test_evaluation_gives_true_boxes_in_original_pixels(data):
    (first, second) = batches(loader(data, training=False))
    assert isinstance(first.targets[0], GroundTruth) and first.images.dtype.is_floating_point
    for index, truth in zip(first.indices + second.indices, first.targets + second.targets):
        np.testing.assert_array_equal(truth.boxes_xyxy, data.records[index].boxes_xyxy)


def test_crowds_are_not_learnt(data):
    data.records[1].crowd[:] = True
    found = batches(loader(data))
    row = next((batch.targets.labels[i] for batch in found for i, index in enumerate(batch.indices) if index == 1))
    assert (row == -1).all()


def test_other_data_is_refused(tmp_path):
    from dao.dataloaders.datasets.base import Record

    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    plain = ImageDataset([Record(str(tmp_path / "a.png"), label=0)], ["x"])
    with pytest.raises(ConfigError, match="has no boxes, and DetDataloader needs them"):
        loader(plain)


def test_a_resumed_epoch_repeats_the_rest(data):
    whole = batches(loader(data, DRAWING), epoch=1)
    resumed = loader(data, DRAWING)
    resumed.set_epoch(1, start_iter=1)
    same(list(resumed), whole[1:])


def with_boxes(data, boxes, labels):
    """The set of two pictures: the first with these boxes, the second with none."""
    data.records = data.records[:2]
    for record, count in zip(data.records, (len(boxes), 0)):
        record.boxes_xyxy = np.array(boxes[:count], np.float32).reshape(-1, 4)
        record.box_labels, record.crowd = np.array(labels[:count], np.int64), np.zeros(count, bool)
    return data


def test_leftovers_under_a_pixel_are_dropped(data):
    boxes = [(10, 10, 10.5, 20), (49.2, 0, 50, 20), (5, 5, 9, 9)]  # the picture is 80 high and 50 wide
    (batch,) = batches(loader(with_boxes(data, boxes, [0, 0, 1]), size=(80, 90)))
    labels = batch.targets.labels
    assert (labels >= 0).sum() == 1 and batch.targets.boxes_xyxy[labels == 1].tolist() == [[25, 5, 29, 9]]


def test_a_batch_without_any_box_has_no_columns(data):
    (batch,) = batches(loader(with_boxes(data, [], [])))
    assert batch.targets.boxes_xyxy.shape == (2, 0, 4) and batch.targets.labels.shape == (2, 0)


def test_big_pictures_are_learnt_window_by_window(tmp_path):
    """Boxes cover a thousandth of the picture; every second window is laid over one."""
    canvas = np.full((400, 600, 3), 10, np.uint8)
    canvas[200:215, 333:349] = LEVEL[0]
    cv2.imwrite(str(tmp_path / "big.png"), canvas)
    marked = AnnotatedObject("a", (333, 200, 349, 215))
    big = BoxDataset(Annotations([AnnotatedImage(str(tmp_path / "big.png"), None, [marked])] * 20, ["a", "b"], "big"))
    found = [batch for epoch in range(3) for batch in batches(loader(big, resize="tile", size=(48, 64)), epoch)]
    shares = [on_their_objects(batch) for batch in found if (batch.targets.labels >= 0).any()]
    assert all(share == 1 for share, _ in shares) and 20 <= sum(count for _, count in shares) <= 42  # of 60 windows
    assert {batch.images.shape[2:] for batch in found} == {(48, 64)}


def test_a_window_over_a_box_holds_its_middle_and_stays_inside():
    rng = np.random.default_rng(0)
    for _ in range(300):
        box = np.array([*rng.uniform(0, 80, 2), 0, 0], np.float32)
        box[2:] = box[:2] + rng.uniform(1, 20, 2)
        top, left = window_over(box, (100, 100), (30, 40), rng)
        assert 0 <= top <= 70 and 0 <= left <= 60
        assert top <= (box[1] + box[3]) / 2 <= top + 30 and left <= (box[0] + box[2]) / 2 <= left + 40


def test_a_crop_moves_and_cuts_boxes():
    boxes = np.array([[10, 10, 30, 30], [0, 0, 5, 5]], np.float32)
    sample = Sample(np.zeros((50, 60, 3), np.uint8), "", 0, (50, 60), boxes_xyxy=boxes, box_labels=np.array([1, 0]))
    found = crop(sample, 20, 15, (20, 20), 0.1)
    assert found.image.shape == (20, 20, 3) and found.box_labels.tolist() == [1]
    assert found.boxes_xyxy.tolist() == [[0, 0, 15, 10]]


def test_grey_pictures(data):
    batch = batches(loader(data, DRAWING, in_channels=1))[0]
    assert batch.images.shape[1:] == (1, 64, 64)


# a cut at x = 50 leaves 10 of 20, 3 of 20 and 1 of 20 pixels of these boxes' widths
CUT = np.array([[40, 10, 60, 20], [47, 10, 67, 20], [49, 10, 69, 20], [5, 5, 15, 15]], np.float32)
SHARES = np.array([0.5, 0.15, 0.05, 1.0])


def cut_by_crop(sample, made):
    return crop(sample, 0, 0, (40, 50), made.reader.min_visible)


def cut_by_albumentations(sample, made):
    return made.reader.transforms(sample, 0)


def cut_by_a_map(sample, made):
    from dao.dataloaders.box_transforms import least_visible, warp_sample

    around = made.reader._around([])
    return warp_sample(sample, np.eye(2, 3), (40, 50), 114, least_visible(None, around))


def cut_by_the_frame(sample, made):
    return made.reader.fit(sample)[0]


def cut_by_the_window_of_tiles(sample, made):
    return made.reader.window(sample, 0)


@pytest.mark.parametrize("least", [0.0, 0.1, 0.3, 0.6])
@pytest.mark.parametrize(
    ("cut", "kwargs"),
    [
        (cut_by_crop, {}),
        (cut_by_albumentations, {"transforms": [{"type": "Crop", "kwargs": {"x_max": 50, "y_max": 40, "p": 1.0}}]}),
        (cut_by_a_map, {}),
        (cut_by_the_frame, {"size": (40, 50), "resize": "crop", "position": "top_left"}),
        (cut_by_the_window_of_tiles, {"size": (40, 50), "resize": "tile"}),
    ],
)
def test_a_box_stays_where_enough_of_it_is_left_whatever_cuts_it(data, cut, kwargs, least):
    made = loader(data, min_visible=least, **kwargs)
    if cut is cut_by_the_window_of_tiles:
        made.reader.window.transforms[0].get_params_dependent_on_data = lambda **_: {
            "crop_coords": (0, 0, 50, 40), "pad_params": None,
        }  # fmt: skip
    sample = Sample(
        np.zeros((40, 100, 3), np.uint8), "", 0, (40, 100), boxes_xyxy=CUT.copy(), box_labels=np.array([0, 1, 2, 3])
    )
    assert cut(sample, made).box_labels.tolist() == np.flatnonzero(least <= SHARES).tolist()


def test_min_visible_is_a_share_and_a_transform_may_have_its_own(data):
    from dao.dataloaders.box_transforms import Mosaic, least_visible
    from dao.dataloaders.sample_transforms import Around

    assert [p.what for p in DetDataloader.check_config({"min_visible": 1.5}, "kwargs")] == ["expected 0 to 1, got 1.5"]
    around = Around((4, 4), min_visible=0.4)
    assert (
        least_visible(Mosaic().min_visible, around) == 0.4
        and least_visible(Mosaic(min_visible=0.2).min_visible, around) == 0.2
    )


def test_boxes_that_scaling_makes_thinner_than_a_pixel_are_named(tmp_path):
    from loguru import logger

    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((512, 512, 3), np.uint8))
    boxes = [(10, 10, 13, 300), (10, 10, 60, 60), (10, 10, 18, 300)]  # a scratch of 3 pixels; 8 become one
    objects = [AnnotatedObject("a", box) for box in boxes]
    data = BoxDataset(Annotations([AnnotatedImage(str(tmp_path / "a.png"), None, objects)], ["a"], "made up"))
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}", level="WARNING")
    try:
        batch = batches(loader(data))[0]
        loader(data, training=False)
        loader(data, resize="tile")
    finally:
        logger.remove(sink)
    assert (batch.targets.labels >= 0).sum() == 2
    assert [line for line in lines if "thinner than a pixel" in line] == [
        f"1 box thinner than a pixel in an input of 64 x 64: {tmp_path / 'a.png'} box 0. They are not learnt, and what "
        'shows nothing else passes for a good part: raise preprocess.size, or set "resize": "tile"\n'
    ]
