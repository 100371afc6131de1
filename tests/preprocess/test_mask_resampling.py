"""Masks in other sizes: every way agrees to the pixel, and a scratch of one pixel can be kept."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dao.dataloaders.mask_transforms import _scaled
from dao.dataloaders.transforms import build_transforms
from dao.preprocess import Preprocess
from dao.preprocess.mask_resampling import resize_mask, resize_masks
from dao.structures import Sample
from dao.tasks.segmentation import SegmentationTask

SIZES = [((40, 60), (17, 23)), ((22, 37), (121, 83)), ((64, 64), (16, 16)), ((33, 50), (64, 31)), ((9, 7), (9, 40))]


def noise(hw):
    return np.random.default_rng(hw[0]).integers(0, 7, hw).astype(np.uint8)


def by_hand(mask, hw):
    """The pixel under the middle of each new one, pixel by pixel; None where the middle lies on an edge between two."""
    out = np.full(hw, -1)
    for y in range(hw[0]):
        for x in range(hw[1]):
            at = [((2 * i + 1) * n, 2 * m) for i, n, m in ((y, mask.shape[0], hw[0]), (x, mask.shape[1], hw[1]))]
            if all(a % b for a, b in at):
                out[y, x] = mask[at[0][0] // at[0][1], at[1][0] // at[1][1]]
    return out


@pytest.mark.parametrize(("hw", "to"), SIZES)
def test_nearest_is_the_pixel_under_the_middle(hw, to):
    expected = by_hand(noise(hw), to)
    got = resize_mask(noise(hw), *to)
    assert np.array_equal(got[expected >= 0], expected[expected >= 0])


@pytest.mark.parametrize(("hw", "to"), SIZES)
def test_every_transform_that_scales_a_mask_takes_the_same_pixels(hw, to):
    """Ours, albumentations' and the batch's on its device, against `Preprocess.resize_mask`."""
    mask = noise(hw)
    stretch = Preprocess(size=to, resize="stretch")
    expected = stretch.resize_mask(mask, 255)

    def through(name, **kwargs):
        image = np.zeros((*hw, 3), np.uint8)
        sample = Sample(image, "x.png", 0, hw, mask=mask)
        return build_transforms([{"type": name, "kwargs": {**kwargs, "p": 1.0}}])(sample, 3).mask

    assert np.array_equal(through("Resize", height=to[0], width=to[1]), expected)
    nested = build_transforms(
        [
            {
                "type": "OneOf",
                "kwargs": {"p": 1.0, "transforms": [{"type": "Resize", "kwargs": {"height": to[0], "width": to[1]}}]},
            }
        ]
    )
    assert np.array_equal(nested(Sample(np.zeros((*hw, 3), np.uint8), "x", 0, hw, mask=mask), 3).mask, expected)
    whole = {"size": to, "scale": (1.0, 1.0), "ratio": (hw[1] / hw[0], hw[1] / hw[0])}
    assert np.array_equal(through("RandomResizedCrop", **whole), expected)
    letterbox = Preprocess(size=to, resize="letterbox").resize_mask(mask, 0)
    assert np.array_equal(through("Letterbox", height=to[0], width=to[1]), letterbox)
    assert np.array_equal(resize_masks(torch.from_numpy(mask)[None], to)[0].numpy(), expected)
    batch = SimpleNamespace(images=torch.zeros(1, 3, *hw), targets=torch.from_numpy(mask)[None])
    task = object.__new__(SegmentationTask)
    task.preprocess = stretch
    task.resize_batch(batch, to)
    assert np.array_equal(batch.targets[0].numpy(), expected) and batch.images.shape[-2:] == to
    half = _scaled(np.zeros((*hw, 3), np.uint8), mask, 0.5, (1000, 1000))[1]
    assert np.array_equal(half, resize_mask(mask, *half.shape))


@pytest.mark.parametrize("offset", range(4))
def test_a_scratch_of_one_pixel_survives_a_fourfold_shrink_in_picture_and_mask_alike(offset):
    """Measured: the picture keeps a fifth to a third of its contrast; "max" keeps the scratch whole, one pixel wide."""
    mask, image = np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.uint8)
    mask[:, 20 + offset], image[:, 20 + offset] = 1, 255
    keep = Preprocess(size=(16, 16), mask_resize="max")
    small, picture = keep.resize_mask(mask, 255), keep.resize_uint8(image)[..., 0]
    assert (small[:, 5] == 1).all() and small.sum() == 16
    assert (picture[:, 5] >= 0.14 * 255).all() and picture[:, 5].min() == picture.max()
    nearest = Preprocess(size=(16, 16)).resize_mask(mask, 255)
    assert nearest.any() == (offset == 2)  # by chance: one of four places


def test_max_takes_the_larger_of_two_defects_and_leaves_unlabelled_pixels_to_nearest():
    mask = np.zeros((4, 8), np.uint8)
    mask[0, 0], mask[2:, 0:2], mask[:, 4:] = 2, 1, 255
    assert resize_mask(mask, 1, 2, "max").tolist() == [[1, 255]]
    mask[0, 4] = 3
    assert resize_mask(mask, 1, 2, "max").tolist() == [[1, 3]]
    assert resize_mask(mask, 8, 16, "max").tolist() == resize_mask(mask, 8, 16).tolist()  # enlarged: nothing is lost


def test_max_marks_what_a_maximum_over_the_covered_pixels_marks():
    mask = (np.random.default_rng(0).random((32, 48)) > 0.97).astype(np.uint8)
    pooled = F.max_pool2d(torch.from_numpy(mask)[None].float(), 4)[0].numpy()
    assert np.array_equal(resize_mask(mask, 8, 12, "max"), pooled.astype(np.uint8))
    batch = torch.from_numpy(mask)[None]
    assert np.array_equal(resize_masks(batch, (8, 12), "max")[0].numpy(), pooled.astype(np.uint8))
