"""What changes every training picture in the same way is refused; what varies them, scales or pads them is not."""

import pytest

import dao.dataloaders.loader  # noqa: F401 (registers the loaders)
from dao.dataloaders.datasets.folder import FolderDataset
from dao.dataloaders.fixed_transforms import is_fixed, refuse_fixed
from dao.dataloaders.transforms import build_transforms
from dao.errors import ConfigError

FIXED = [
    ("HistogramStretch", {}), ("ToGray", {}), ("Equalize", {}), ("CLAHE", {}), ("InvertImg", {}), ("ToSepia", {}),
    ("HorizontalFlip", {}), ("VerticalFlip", {}), ("Transpose", {}), ("CenterCrop", {"height": 64, "width": 64}),
    ("CenterCrop", {"height": 512, "width": 512}), ("Crop", {"x_min": 10, "y_min": 10, "x_max": 60, "y_max": 70}),
    ("Posterize", {"num_bits": 4}), ("AutoContrast", {}),
    ("Sequential", {"transforms": [{"type": "HistogramStretch"}]}),
]  # fmt: skip
FREE = [
    ("Resize", {"height": 64, "width": 64}), ("LongestMaxSize", {"max_size": 64}), ("Letterbox", {"height": 80, "width": 80}),
    ("PadIfNeeded", {"min_height": 200, "min_width": 200}), ("GrayToRGB", {}), ("RandomCrop", {"height": 64, "width": 64}),
    ("RandomResizedCrop", {"size": [64, 64]}), ("RandomBrightnessContrast", {}), ("GaussNoise", {}), ("D4", {}),
    ("RandomRotate90", {}), ("Affine", {"rotate": [-10, 10]}), ("CoarseDropout", {}),
    ("OneOf", {"transforms": [{"type": "HorizontalFlip"}, {"type": "VerticalFlip"}]}),
]  # fmt: skip


def built(name, kwargs, p=1.0):
    return build_transforms([{"type": name, "kwargs": {**kwargs, "p": p}}])


@pytest.mark.parametrize(("name", "kwargs"), FIXED)
def test_what_the_line_would_have_to_repeat_is_refused_in_training_alone(name, kwargs):
    with pytest.raises(ConfigError, match=rf"dataset.transforms.0 .*{name} with p = 1.*p below 1"):
        refuse_fixed(built(name, kwargs), "dataloader.dataset.transforms")
    refuse_fixed(built(name, kwargs, 0.5), "dataloader.dataset.transforms")


@pytest.mark.parametrize(("name", "kwargs"), FREE)
def test_what_varies_pictures_or_only_scales_and_pads_them_is_taken(name, kwargs):
    assert not is_fixed(built(name, kwargs).transforms[0])


def test_all_of_them_are_named_at_once():
    listed = [{"type": "ToGray", "kwargs": {"p": 1.0}}, {"type": "Mosaic"}, {"type": "InvertImg", "kwargs": {"p": 1.0}}]
    with pytest.raises(ConfigError) as caught:
        refuse_fixed(build_transforms(listed), "t")
    assert [problem.where for problem in caught.value.problems] == ["t.0", "t.2"]


def test_a_training_loader_refuses_them_and_one_for_evaluation_does_not(folder_set):
    from dao.preprocess import Preprocess
    from dao.tasks import build

    section = {
        "type": "ClsDataloader",
        "dataset": {"type": "FolderDataset", "transforms": [{"type": "HistogramStretch"}]},
    }
    dataset = FolderDataset(str(folder_set), split="train")
    section["kwargs"] = {"num_workers": 0}
    with pytest.raises(ConfigError, match=r"dataloader.dataset.transforms.0 +HistogramStretch"):
        build.build_loader(section, "dataloader", dataset, Preprocess(size=(8, 8)), True, 0)
    build.build_loader(section, "evaluator.dataloader", dataset, Preprocess(size=(8, 8)), False, 0)
