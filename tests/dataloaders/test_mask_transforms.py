"""Crops that look for defects, and defects pasted onto good parts."""

import numpy as np
import pytest

from dao.dataloaders.mask_transforms import CopyPaste, DefectCrop
from dao.dataloaders.sample_transforms import Around
from dao.dataloaders.transforms import build_transforms
from dao.errors import ConfigError
from dao.structures import Sample


def sample(hw=(200, 300), defects=((1, 150, 250),), value=60):
    """Grey, with a 3 x 3 defect of each (kind, y, x); the picture's blue channel repeats the mask, to see that both move alike."""
    image, mask = np.full((*hw, 3), value, np.uint8), np.zeros(hw, np.uint8)
    for kind, y, x in defects:
        mask[y : y + 3, x : x + 3] = kind
    image[..., 2] = mask * 50
    return Sample(image, "p.png", 0, hw, mask=mask)


def crops(transform, given, count=60, size=(32, 32)):
    return [transform(given, Around(size), np.random.default_rng(seed)) for seed in range(count)]


def test_crops_look_for_defects_and_keep_their_resolution():
    given = sample()
    found = crops(DefectCrop(on_defect=0.8, scale=(1, 1)), given)
    hits = [crop for crop in found if (crop.mask == 1).any()]
    assert 0.6 < len(hits) / len(found) < 0.95
    for crop in found:
        assert crop.image.shape == (32, 32, 3) and crop.mask.shape == (32, 32)
        assert np.array_equal(crop.image[..., 2], crop.mask * 50)
    assert max((crop.mask == 1).sum() for crop in hits) == 9
    assert np.array_equal(given.mask, sample().mask)
    assert not any((crop.mask == 1).any() for crop in crops(DefectCrop(on_defect=0.0, scale=(1, 1)), given, 15))


def test_rare_kinds_count_as_much_as_common_ones():
    given = sample(defects=[(1, y, x) for y in range(10, 190, 20) for x in range(10, 200, 20)] + [(2, 100, 280)])
    found = crops(DefectCrop(on_defect=1.0, scale=(1, 1)), given, 80)
    assert 0.35 < np.mean([(crop.mask == 2).any() for crop in found]) < 0.65


def test_scale_enlarges_and_what_is_too_small_is_padded():
    given = sample(hw=(20, 24), defects=[(1, 10, 10)])
    crop = DefectCrop(on_defect=1.0, scale=(2, 2))(given, Around((64, 64), pad_value=9), np.random.default_rng(0))
    assert (crop.mask == 1).sum() == 36
    assert (crop.mask[40:] == 255).all() and (crop.image[40:] == 9).all() and (crop.mask[:, 48:] == 255).all()
    shrunk = DefectCrop(scale=(0.5, 0.5))(sample(), Around((64, 64)), np.random.default_rng(0))
    assert shrunk.image.shape == (64, 64, 3)


def paste(given, other, seed=0, **kwargs):
    around = Around((64, 64), draw=lambda count, rng: [other] * count)
    return CopyPaste(p=1.0, **kwargs)(given, around, np.random.default_rng(seed))


def test_defects_are_pasted_whole_and_take_on_the_places_brightness():
    good, other = sample(defects=()), sample(defects=[(2, 50, 60)], value=200)
    other.image[50:53, 60:63] = 150  # darker than its surroundings by 50, and by 0 in blue
    pasted = paste(good, other, blend=0.0)
    assert (pasted.mask == 2).sum() == 9 and not good.mask.any()
    inside = pasted.image[pasted.mask == 2]
    assert np.abs(inside[:, 0].astype(int) - 10).max() <= 1  # 60 - 50
    assert (pasted.image[pasted.mask == 0] == good.image[pasted.mask == 0]).all()


def test_what_is_pasted_depends_on_the_seed_alone():
    good, other = sample(defects=()), sample(defects=[(2, 50, 60), (1, 10, 10), (2, 100, 100)])
    first, again, another = (paste(good, other, seed) for seed in (3, 3, 4))
    assert np.array_equal(first.image, again.image) and not np.array_equal(first.image, another.image)


def test_nothing_is_pasted_where_nothing_can_be():
    good, bad = sample(defects=()), sample()
    assert paste(good, good) is good
    assert paste(bad, bad, only_on_good=True) is bad
    unlabelled = sample(defects=())
    unlabelled.mask[:] = 255
    assert not (paste(unlabelled, bad).mask == 1).any()


@pytest.mark.parametrize(
    ("kind", "kwargs", "words"),
    [
        ("DefectCrop", {"scale": [2, 1]}, "transforms.0.kwargs.scale"),
        ("DefectCrop", {"on_defect": 2.0}, "is a share"),
        ("CopyPaste", {"max_defects": 0}, "at least 1"),
        ("CopyPaste", {"blend": -1.0}, "at least 0"),
    ],
)
def test_values_out_of_range_are_refused(kind, kwargs, words):
    with pytest.raises(ConfigError, match=words):
        build_transforms([{"type": kind, "kwargs": kwargs}])


def test_pictures_without_masks_are_refused():
    given = sample()
    given.mask = None
    with pytest.raises(ConfigError, match="is for pictures with masks"):
        DefectCrop()(given, Around((32, 32)), np.random.default_rng(0))
