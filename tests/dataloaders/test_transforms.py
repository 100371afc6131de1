from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import albumentations as A
import numpy as np
import pytest

from dao.config.signature import check_type, config_parameters
from dao.dataloaders import transforms as T
from dao.dataloaders.own_transforms import GrayToRGB, HistogramStretch, Letterbox
from dao.errors import ConfigError
from dao.preprocess import Preprocess
from dao.register import Registers, to_plain
from dao.structures import Sample

WHERE = "dataloader.dataset.transforms"
NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)

# what a transform cannot do without, and those that need more than a picture
REQUIRED = {
    "AtLeastOneBBoxRandomCrop": {"height": 24, "width": 24},
    "CenterCrop": {"height": 24, "width": 24},
    "Crop": {"x_max": 30, "y_max": 30},
    "CropAndPad": {"px": 4},
    "CropNonEmptyMaskIfExists": {"height": 24, "width": 24},
    "GridElasticDeform": {"num_grid_xy": [4, 4], "magnitude": 4},
    "Letterbox": {"height": 24, "width": 24},
    "LongestMaxSize": {"max_size": 32},
    "PadIfNeeded": {"min_height": 80, "min_width": 80},
    "RandomCrop": {"height": 24, "width": 24},
    "RandomResizedCrop": {"size": [24, 24]},
    "RandomSizedBBoxSafeCrop": {"height": 24, "width": 24},
    "RandomSizedCrop": {"min_max_height": [20, 40], "size": [24, 24]},
    "Resize": {"height": 24, "width": 24},
    "SmallestMaxSize": {"max_size": 32},
    "OneOrOther": {"transforms": [{"type": "Blur"}, {"type": "HorizontalFlip"}]},
    **{
        name: {"transforms": [{"type": "HorizontalFlip", "kwargs": {"p": 0.5}}, {"type": "GaussNoise"}]}
        for name in ("OneOf", "RandomOrder", "SelectiveChannelTransform", "Sequential", "SomeOf")
    },
}
OF_SAMPLES = {name for name in Registers.transforms if T.is_sample_transform(name)}  # test_box_transforms.py
ALL = sorted(set(Registers.transforms) - OF_SAMPLES)
CHANGES_TYPE = {"FromFloat", "ToFloat"}
SLOW = {"PiecewiseAffine", "GlassBlur", "Superpixels"}


def sample(image=NOISE, **fields) -> Sample:
    return Sample(image, "p.png", 0, image.shape[:2], **fields)


def build(*sections) -> T.Pipeline:
    return T.build_transforms(
        [{"type": s} if isinstance(s, str) else {"type": s[0], "kwargs": s[1]} for s in sections], WHERE
    )


def nest(name: str, *sections: dict, **kwargs) -> dict:
    return {"type": name, "kwargs": {"transforms": list(sections), **kwargs}}


def blur(**kwargs) -> dict:
    return {"type": "Blur", "kwargs": kwargs}


def problems(*sections) -> dict[str, str]:
    return {p.where: p.what for p in T.sections_problems(list(sections), "t")}


def test_all_of_albumentations_is_offered_or_refused_with_a_reason():
    offered = {
        name
        for name in dir(A)
        if isinstance(getattr(A, name), type) and issubclass(getattr(A, name), (A.BasicTransform, A.BaseCompose))
    }
    abstract = {"BasicTransform", "BaseCompose", "DualTransform", "ImageOnlyTransform", "Transform3D"}
    ours = {"HistogramStretch", "Letterbox", "GrayToRGB"}
    assert offered - abstract - set(T.NOT_OFFERED) - set(T.OWN_INSTEAD) == set(ALL) - ours
    assert set(T.OWN_INSTEAD) <= OF_SAMPLES
    assert set(T.NOT_OFFERED) <= offered


@pytest.mark.parametrize("name", ALL)
def test_defaults_pass_the_types_that_the_register_checks(name):
    """Annotations of albumentations are not always the truth; a legal value must not be refused for one."""
    for key, parameter in config_parameters(Registers.transforms.get(name)).items():
        if parameter.default is not parameter.empty:
            assert check_type(parameter.annotation, to_plain(parameter.default), key) == []


@pytest.mark.parametrize("name", [n for n in ALL if n not in CHANGES_TYPE])
def test_every_transform_is_a_function_of_its_seed(name):
    """Also after other pictures, and in a copy of the pipeline as a worker process gets it."""
    kwargs = {**REQUIRED.get(name, {}), "p": 1.0}
    pipeline = build((name, kwargs))
    boxes = np.array([[5, 5, 30, 30], [20, 10, 60, 40]], np.float32)
    given = sample(mask=(NOISE[..., 0] > 128).astype(np.uint8), boxes_xyxy=boxes, box_labels=np.array([3, 7]))
    first = pipeline(given, 11)
    if name not in SLOW:
        pipeline(given, 12)
    again, copied = pipeline(given, 11), pickle.loads(pickle.dumps(pipeline))(given, 11)
    for other in (again, copied):
        assert np.array_equal(first.image, other.image)
        assert np.array_equal(first.mask, other.mask)
        assert np.array_equal(first.boxes_xyxy, other.boxes_xyxy)
    assert first.image.dtype == np.uint8 and first.image.ndim == 3
    assert set(np.unique(first.mask)) <= {0, 1} and set(first.box_labels) <= {3, 7}


def test_the_given_sample_is_not_changed():
    image = NOISE.copy()
    build(("HorizontalFlip", {"p": 1.0}), ("CoarseDropout", {"p": 1.0}), ("InvertImg", {"p": 1.0}))(sample(image), 1)
    assert np.array_equal(image, NOISE)


def test_transforms_of_one_pipeline_are_independent_of_each_other():
    """albumentations' own set_random_seed gives each the same stream: both flips, or none."""
    corner = np.zeros((4, 4, 3), np.uint8)
    corner[0, 0] = 255
    pipeline = build(("HorizontalFlip", {"p": 0.5}), ("VerticalFlip", {"p": 0.5}))
    seen = Counter()
    for index in range(400):
        seen[tuple(np.argwhere(pipeline(sample(corner), T.transform_seed(0, 0, index)).image[..., 0])[0])] += 1
    assert len(seen) == 4 and min(seen.values()) > 65  # of 100 expected; 4 standard deviations


def test_seeds_are_spread():
    seeds = {T.transform_seed(s, e, i) for s in range(3) for e in range(20) for i in range(200)}
    assert len(seeds) == 3 * 20 * 200
    bits = np.array([[seed >> b & 1 for b in range(64)] for seed in seeds])
    assert np.abs(bits.mean(0) - 0.5).max() < 0.03
    assert T.transform_seed(1, 2, 3) not in (T.transform_seed(1, 3, 2), T.transform_seed(2, 1, 3))


def test_equal_in_another_process():
    code = (
        "import numpy as np, zlib; from dao.dataloaders import transforms as T; from dao.structures import Sample;"
        "p = T.build_transforms([{'type': 'SomeOf', 'kwargs': {'n': 2, 'transforms': [{'type': 'GaussNoise'},"
        "{'type': 'OneOf', 'kwargs': {'transforms': [{'type': 'Rotate'}, {'type': 'Blur'}]}}, {'type': 'D4'}]}}]);"
        "image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8);"
        "out = [p(Sample(image, '', 0, (48, 64)), T.transform_seed(1, 2, i)).image for i in range(9)];"
        "total = zlib.crc32(b''.join(o.tobytes() for o in out))"
    )
    here: dict[str, object] = {}
    exec(code, here)
    root = Path(__file__).parents[2]
    there = subprocess.run(
        [sys.executable, "-c", code + "; print(total)"], cwd=root, capture_output=True, text=True, check=True
    )
    assert int(there.stdout) == here["total"]


def test_boxes_and_masks_move_with_the_picture():
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 5:25] = 2
    boxes = np.array([[5, 10, 25, 20], [40, 40, 60, 47]], np.float32)
    given = sample(mask=mask, boxes_xyxy=boxes, box_labels=np.array([1, 4]))
    flipped = build(("HorizontalFlip", {"p": 1.0}))(given, 0)
    assert flipped.boxes_xyxy.tolist() == [[39, 10, 59, 20], [4, 40, 24, 47]]
    assert np.array_equal(np.argwhere(flipped.mask == 2).min(0), [10, 39])
    cropped = build(("Crop", {"x_min": 30, "y_min": 30, "x_max": 64, "y_max": 48}))(given, 0)
    assert np.allclose(cropped.boxes_xyxy, [[10, 10, 30, 17]], atol=1e-4) and cropped.box_labels.tolist() == [4]
    none_left = build(("Crop", {"x_max": 4, "y_max": 4}))(given, 0)
    assert none_left.boxes_xyxy.shape == (0, 4) and none_left.box_labels.shape == (0,)


@pytest.mark.parametrize(
    "name", ["HorizontalFlip", "Rotate", "Resize", "RandomBrightnessContrast", "GaussNoise", "Blur"]
)
def test_grey_pictures_keep_their_channel(name):
    assert build((name, {**REQUIRED.get(name, {}), "p": 1.0}))(sample(NOISE[..., :1]), 0).image.shape[2] == 1


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "where", "what"),
    [
        ({"type": "HorizontalFlip", "kwargs": {"p": 1.5}}, "t.0.kwargs.p", "less than or equal to 1, got 1.5"),
        ({"type": "HorizontalFlip", "kwargs": {"prob": 1}}, "t.0.kwargs.prob", "takes no 'prob'. It takes: p=0.5"),
        ({"type": "HorizontalFlip", "kwargs": {"p": "0.5"}}, "t.0.kwargs.p", "expected float"),
        ({"type": "Rotate", "kwargs": {"limit": [10, -10, 3]}}, "t.0.kwargs.limit", "expected tuple"),
        ({"type": "Rotate", "kwargs": {"border_mode": 99}}, "t.0.kwargs.border_mode", "expected"),
        ({"type": "Blur", "kwargs": {"blur_limit": [3, -1]}}, "t.0.kwargs", "blur_limit"),
        ({"type": "RandomCrop"}, "t.0.kwargs.height", "needs 'height'"),
        ({"type": "Rotat"}, "t.0.type", "Nearest: Rotate"),
        ({"type": "Normalize"}, "t.0.type", "preprocess"),
        ({"type": "Lambda"}, "t.0.type", "custom_modules"),
        ({"type": "HorizontalFlip", "p": 0.5}, "t.0.p", "'kwargs'"),
        ("HorizontalFlip", "t.0", "expected"),
        ({"type": "HistogramStretch", "kwargs": {"low_percentile": 99.5}}, "t.0.kwargs", "must lie below"),
        ({"type": "Letterbox", "kwargs": {"height": 0, "width": 4}}, "t.0.kwargs", "at least 1 pixel"),
        (nest("OneOf"), "t.0.kwargs.transforms", "at least one"),
        (nest("OneOf", blur(), p=2), "t.0.kwargs.p", "0 to 1"),
        (nest("OneOf", blur(p=0)), "t.0.kwargs.transforms", "every p is 0"),
        (nest("SomeOf", blur(), n=2), "t.0.kwargs.n", "takes 1 to 1"),
        (nest("OneOrOther", blur()), "t.0.kwargs.transforms", "got 1"),
        (nest("OneOf", nest("Sequential", blur(p=3))), "t.0.kwargs.transforms.0.kwargs.transforms.0.kwargs.p", "got 3"),
    ],
)
def test_bad_values_are_refused_with_their_place(section, where, what):
    found = problems(section)
    assert what in found[where], found


def test_the_register_alone_refuses_as_well():
    """As a config is validated: the signature, then the component's own rules."""
    component = Registers.transforms.get("OneOf")
    nested = {"transforms": [{"type": "Blr"}, {"type": "Blur", "kwargs": {"p": -1}}]}
    found = [p.where for p in Registers.transforms.check_kwargs(component, nested, "k")]
    assert found == ["k.transforms.0.type", "k.transforms.1.kwargs.p"]
    with pytest.raises(ConfigError, match="less than or equal"):
        Registers.transforms.build({"type": "HorizontalFlip", "kwargs": {"p": 7}})


def test_all_problems_are_raised_at_once():
    with pytest.raises(ConfigError) as caught:
        T.build_transforms([{"type": "Rotat"}, {"type": "Blur", "kwargs": {"p": 2}}], WHERE)
    assert [p.where for p in caught.value.problems] == [f"{WHERE}.0.type", f"{WHERE}.1.kwargs.p"]


def test_advice_of_albumentations_is_not_a_refusal():
    assert problems({"type": "ShiftScaleRotate"}, {"type": "PiecewiseAffine"}) == {}


def test_failures_on_a_picture_name_it_and_the_place():
    with pytest.raises(ConfigError, match=rf"{WHERE}.*failed on p.png \(48x64 pixels\).*CropSizeError"):
        build(("RandomCrop", {"height": 500, "width": 500}))(sample(), 0)
    with pytest.raises(ConfigError, match="float32 pixels, expected uint8; 'FromFloat'"):
        build("ToFloat")(sample(), 0)
    assert build("ToFloat", ("FromFloat", {"dtype": "uint8"}))(sample(), 0).image.dtype == np.uint8


def test_no_transforms_is_no_pipeline():
    assert T.build_transforms([], WHERE) is None and T.build_transforms(None, WHERE) is None


# -- ours ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_channel", [False, True])
def test_histogram_stretch_is_the_percentile_formula(per_channel):
    rng = np.random.default_rng(3)
    image = np.clip(rng.normal([90, 120, 60], [10, 15, 5], (50, 40, 3)), 0, 255).astype(np.uint8)
    axes = (0, 1) if per_channel else None
    low, high = (np.percentile(image, q, axis=axes, method="inverted_cdf").astype(float) for q in (2, 97))
    want = np.clip((image - low) * 255 / (high - low), 0, 255)
    got = HistogramStretch(2, 97, per_channel).apply(image)
    assert got.shape == image.shape and np.abs(got - want).max() <= 0.5


def test_histogram_stretch_leaves_a_flat_picture():
    flat = np.full((8, 8, 1), 77, np.uint8)
    assert np.array_equal(HistogramStretch().apply(flat), flat)


@pytest.mark.parametrize("hw", [(48, 64), (64, 20), (10, 12)])
def test_letterbox_is_what_preprocess_does_and_takes_mask_and_boxes_along(hw):
    image = np.full((*hw, 3), 200, np.uint8)
    mask = np.ones(hw, np.uint8)
    boxes = np.array([[0, 0, hw[1], hw[0]]], np.float32)
    pipeline = build(("Letterbox", {"height": 40, "width": 50, "pad_value": 7}))
    got = pipeline(sample(image, mask=mask, boxes_xyxy=boxes, box_labels=np.array([0])), 0)
    assert np.array_equal(got.image, Preprocess(size=(40, 50), resize="letterbox", pad_value=7).resize_uint8(image))
    inside = np.argwhere(got.image[..., 0] == 200)
    (top, left), (bottom, right) = inside.min(0), inside.max(0) + 1
    assert np.array_equal(np.argwhere(got.mask == 1), inside)
    assert np.allclose(got.boxes_xyxy, [[left, top, right, bottom]], atol=1e-3)


def test_gray_to_rgb():
    assert np.array_equal(GrayToRGB().apply(NOISE[..., :1]), np.repeat(NOISE[..., :1], 3, 2))
    assert GrayToRGB().apply(NOISE) is NOISE
    assert Letterbox(4, 4).size == (4, 4)
