"""Mosaic, mixup, affine, scale jitter, HSV: boxes stay on what they mark, and everything follows from the seed."""

import colorsys
import pickle

import cv2
import numpy as np
import pytest

from dao.dataloaders import box_transforms as B
from dao.dataloaders.sample_transforms import Around
from dao.dataloaders.transforms import build_transforms, sections_problems
from dao.errors import ConfigError
from dao.structures import Sample

NAMES = ("Mosaic", "Mixup", "RandomAffine", "ScaleJitter", "RandomHsv")
MARKS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))


def marked(index, hw=(60, 80), boxes=2, pad=0):
    """A grey picture with rectangles of one strong colour a class, and exact boxes round them."""
    rng = np.random.default_rng(index)
    image = np.full((*hw, 3), 60 + pad, np.uint8)
    rows, labels = [], []
    for i in range(boxes):
        label = int(rng.integers(len(MARKS)))
        left, top = 4 + i * hw[1] // 2 + int(rng.integers(4)), int(rng.integers(4, hw[0] // 2))
        width, height = int(rng.integers(14, 24)), int(rng.integers(14, 22))
        image[top : top + height, left : left + width] = MARKS[label]
        rows.append((left, top, left + width, top + height))
        labels.append(label)
    boxes_xyxy = np.array(rows, np.float32).reshape(-1, 4)
    return Sample(image, f"{index}.png", index, hw, boxes_xyxy=boxes_xyxy, box_labels=np.array(labels, np.int64))


def others(count, rng):
    return [marked(int(i), hw=(40 + int(i), 90)) for i in rng.integers(100, 120, count)]


AROUND = Around((64, 96), 60, others)


def run(name, sample, seed, around=AROUND, **kwargs):
    return build_transforms([{"type": name, "kwargs": kwargs}])(sample, seed, around)


def colour_in(image, box, label):
    """Share of the pixels inside a box's border that are nearly its class's colour."""
    left, top, right, bottom = (*np.ceil(box[:2]).astype(int) + 1, *np.floor(box[2:]).astype(int) - 1)
    part = image[top:bottom, left:right].astype(int)
    return (np.abs(part - MARKS[label]).max(-1) < 60).mean()


@pytest.mark.parametrize("name", NAMES)
def test_a_function_of_the_seed_alone(name):
    pipeline = build_transforms([{"type": name}])
    given = marked(1)
    first = pipeline(given, 7, AROUND)
    pipeline(marked(2), 8, AROUND)
    for again in (pipeline(given, 7, AROUND), pickle.loads(pickle.dumps(pipeline))(given, 7, AROUND)):
        assert np.array_equal(first.image, again.image) and np.array_equal(first.boxes_xyxy, again.boxes_xyxy)
    assert any(not np.array_equal(first.image, pipeline(given, seed, AROUND).image) for seed in (8, 9, 10))
    assert np.array_equal(given.image, marked(1).image) and np.array_equal(given.boxes_xyxy, marked(1).boxes_xyxy)


@pytest.mark.parametrize("name", ["Mosaic", "RandomAffine", "ScaleJitter"])
def test_boxes_stay_on_what_they_mark(name):
    """Without turning, a box is full of its colour, and no more of it than slivers under a pixel lies outside of boxes."""
    kwargs = {} if name == "ScaleJitter" else {"degrees": 0.0, "shear": 0.0}
    seen = 0
    for seed in range(40):
        out = run(name, marked(seed), seed, min_visible=0.0, **kwargs)
        height, width = out.image.shape[:2]
        assert (out.boxes_xyxy[:, :2] >= 0).all() and (out.boxes_xyxy[:, 2:] <= (width, height)).all()
        left_over = np.abs(out.image.astype(int) - 60).max(-1) > 150
        for box, label in zip(out.boxes_xyxy, out.box_labels):
            x0, y0, x1, y1 = (*np.floor(box[:2]).astype(int) - 1, *np.ceil(box[2:]).astype(int) + 1)
            left_over[max(y0, 0) : y1, max(x0, 0) : x1] = False
            if min(box[2:] - box[:2]) >= 8:
                assert colour_in(out.image, box, label) > 0.95
                seen += 1
        assert not cv2.erode(left_over.astype(np.uint8), np.ones((3, 3), np.uint8)).any()
    assert seen > 30


def test_turned_boxes_still_hold_their_object():
    for seed in range(20):
        out = run("RandomAffine", marked(seed), seed, degrees=30.0, shear=10.0, scale=[0.9, 1.1], min_visible=0.0)
        strong = np.abs(out.image.astype(int) - 60).max(-1) > 150
        for x0, y0, x1, y1 in out.boxes_xyxy:
            strong[max(int(y0) - 1, 0) : int(y1) + 2, max(int(x0) - 1, 0) : int(x1) + 2] = False
        assert not strong.any()


def test_mosaic_shows_four_pictures_at_the_inputs_size():
    grey = [
        Sample(
            np.full((50, 50, 3), 40 * i, np.uint8),
            "",
            i,
            (50, 50),
            boxes_xyxy=np.zeros((0, 4), np.float32),
            box_labels=np.zeros(0, np.int64),
        )
        for i in range(1, 5)
    ]
    around = Around((64, 96), 0, lambda count, rng: grey[1:])
    shown = set()
    for seed in range(20):
        out = run("Mosaic", grey[0], seed, around, degrees=0.0, shear=0.0, scale=[0.5, 0.5])
        assert out.image.shape == (64, 96, 3)
        shown |= set(np.unique(out.image[..., 0]).tolist())
    assert {40, 80, 120, 160} <= shown


def test_mosaic_canvas_of_unscaled_parts_by_hand():
    """The four corners meet in one point, and what reaches over the canvas is cut with its boxes."""
    parts = [marked(i, hw=(30, 40), boxes=1, pad=i) for i in range(4)]
    canvas, boxes, labels, share = B.assemble(parts, Around((30, 40), 200), np.random.default_rng(3))
    rng = np.random.default_rng(3)
    y, x = round(rng.uniform(0.5, 1.5) * 30), round(rng.uniform(0.5, 1.5) * 40)
    assert canvas.shape == (60, 80, 3)
    corners = [(y - 30, x - 40), (y - 30, x), (y, x - 40), (y, x)]
    slow = np.full_like(canvas, 200)
    for (top, left), part in zip(corners, parts):
        for i in range(30):
            for j in range(40):
                if 0 <= top + i < 60 and 0 <= left + j < 80:
                    slow[top + i, left + j] = part.image[i, j]
    assert np.array_equal(canvas, slow)
    for (top, left), part, box, part_share in zip(corners, parts, boxes, share):
        whole = part.boxes_xyxy[0] + [left, top, left, top]
        assert box.tolist() == np.clip(whole, 0, [80, 60, 80, 60]).tolist()
        assert part_share == pytest.approx(B.geometry.areas(box[None])[0] / B.geometry.areas(whole[None])[0])
    assert labels.tolist() == [part.box_labels[0] for part in parts]


def test_little_that_is_left_of_a_box_is_dropped():
    image = np.zeros((40, 40, 3), np.uint8)
    sample = Sample(
        image,
        "",
        0,
        (40, 40),
        boxes_xyxy=np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32),
        box_labels=np.array([3, 4]),
    )
    shifted = B.warp_sample(sample, np.array([[1.0, 0, -9], [0, 1.0, 0]]), (40, 40), 0, min_visible=0.15)
    assert shifted.box_labels.tolist() == [4] and shifted.boxes_xyxy.tolist() == [[11, 20, 21, 30]]
    assert B.warp_sample(
        sample, np.array([[1.0, 0, -9], [0, 1.0, 0]]), (40, 40), 0, min_visible=0.05
    ).box_labels.tolist() == [3, 4]


def test_warping_by_nothing_changes_nothing_and_halves_mean_pairs():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    identity = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    assert np.array_equal(B.warp_pixels(image, identity, (20, 30), 0), image)
    half = B.warp_pixels(image, identity * 0.5, (10, 15), 0)
    wanted = image.reshape(10, 2, 15, 2, 3).astype(float).mean((1, 3))
    assert np.abs(half - wanted).max() <= 1.5  # OpenCV counts in 32nds of a pixel
    mirrored = B.warp_pixels(image, B.mirrored(identity, 30), (20, 30), 0)
    assert np.array_equal(mirrored, image[:, ::-1])


def test_mixup_halves_both_and_keeps_both_lists():
    white = Sample(
        np.full((64, 96, 3), 250, np.uint8),
        "",
        0,
        (64, 96),
        boxes_xyxy=np.array([[1, 2, 9, 9]], np.float32),
        box_labels=np.array([2]),
    )
    dark = Sample(
        np.full((32, 48, 3), 50, np.uint8),
        "",
        1,
        (32, 48),
        boxes_xyxy=np.array([[8, 8, 24, 20]], np.float32),
        box_labels=np.array([4]),
    )
    out = run("Mixup", white, 5, Around((64, 96), 0, lambda count, rng: [dark]), scale=[1.0, 1.0])
    assert (out.image[1:-1, 1:-1] == 150).all()  # at the border OpenCV blends with what lies outside
    assert out.box_labels.tolist() == [2, 4] and out.boxes_xyxy[0].tolist() == [1, 2, 9, 9]
    assert out.boxes_xyxy[1].tolist() in ([16, 16, 48, 40], [48, 16, 80, 40])  # twice as large; mirrored or not
    empty = Sample(
        white.image, "", 0, (64, 96), boxes_xyxy=np.zeros((0, 4), np.float32), box_labels=np.zeros(0, np.int64)
    )
    assert np.array_equal(run("Mixup", empty, 5).image, white.image)


def test_placed_pictures_lie_inside_or_cover():
    rng = np.random.default_rng(0)
    for _ in range(50):
        small, large = B.placed((30, 40), (60, 100), 0.5, rng), B.placed((30, 40), (60, 100), 2.5, rng)
        assert small[0, 0] == 1.0 and 0 <= small[0, 2] <= 60 and 0 <= small[1, 2] <= 30
        assert large[0, 0] == 5.0 and -100 <= large[0, 2] <= 0 and -90 <= large[1, 2] <= 0


@pytest.mark.parametrize("shifts", [(0, 0, 0), (4, -20, 30), (-5, 30, -30), (0, 300, -300)])
def test_hsv_equals_a_slow_one(shifts):
    image = np.random.default_rng(1).integers(0, 256, (6, 7, 3), np.uint8)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    for row in hsv.reshape(-1, 3):
        hue, saturation, value = (int(level) + shift for level, shift in zip(row, shifts))
        row[:] = hue % 180, min(max(saturation, 0), 255), min(max(value, 0), 255)
    assert np.array_equal(B.shift_hsv(image, np.array(shifts)), cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def test_hue_and_value_move_as_their_names_say():
    red = np.array([[[200, 40, 40]]], np.uint8)
    hue, _, value = colorsys.rgb_to_hsv(*(B.shift_hsv(red, np.array([30, 0, 20]))[0, 0] / 255))
    assert hue == pytest.approx(60 / 360, abs=0.01) and value == pytest.approx(220 / 255, abs=0.01)


def test_hsv_of_a_grey_picture_changes_its_value_alone():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert np.array_equal(B.shift_hsv(image, np.array([5, 9, 20])), np.minimum(image.astype(int) + 20, 255))


@pytest.mark.parametrize("name", NAMES)
def test_grey_pictures_keep_one_channel(name):
    def grey(sample):
        sample.image = np.ascontiguousarray(sample.image[:, :, :1])
        return sample

    around = Around((64, 96), 60, lambda count, rng: [grey(sample) for sample in others(count, rng)])
    assert run(name, grey(marked(0)), 3, around).image.shape[2] == 1


def test_probability_and_closing():
    given = marked(0)
    assert run("Mosaic", given, 1, p=0.0).image is given.image
    drawn = [run("RandomAffine", given, seed, p=0.3).image is given.image for seed in range(300)]
    assert 0.6 < np.mean(drawn) < 0.8
    assert build_transforms([{"type": name} for name in NAMES]).without_augmentation() is None


@pytest.mark.parametrize(
    ("section", "where", "words"),
    [
        ({"type": "Mosaic", "kwargs": {"scale": [1.5, 0.5]}}, "t.0.kwargs.scale", "low <= high"),
        ({"type": "Mixup", "kwargs": {"scale": [0, 1]}}, "t.0.kwargs.scale", "0 < low"),
        ({"type": "RandomAffine", "kwargs": {"degrees": 270}}, "t.0.kwargs.degrees", "0 to 180, got 270"),
        ({"type": "RandomHsv", "kwargs": {"hue": 100}}, "t.0.kwargs.hue", "0 to 90"),
        ({"type": "ScaleJitter", "kwargs": {"p": 2}}, "t.0.kwargs.p", "probability"),
        ({"type": "Mosaic", "kwargs": {"scal": [1, 1]}}, "t.0.kwargs.scal", "takes no 'scal'"),
        (
            {"type": "OneOf", "kwargs": {"transforms": [{"type": "Mosaic"}]}},
            "t.0.kwargs.transforms.0.type",
            "cannot stand inside OneOf",
        ),
    ],
)
def test_wrong_settings_are_refused_with_their_place(section, where, words):
    found = {p.where: p.what for p in sections_problems([section], "t")}
    assert words in found[where]


def test_data_without_boxes_and_a_lonely_mosaic_are_refused():
    bare = Sample(np.zeros((8, 8, 3), np.uint8), "", 0, (8, 8), label=1)
    with pytest.raises(ConfigError, match="moves boxes"):
        run("RandomAffine", bare, 0)
    with pytest.raises(ConfigError, match="needs other pictures"):
        build_transforms([{"type": "Mosaic"}])(marked(0), 0)
