"""What is judged lies where its truth says: evaluations refuse transforms that move pixels, for every task alike."""

import numpy as np
import pytest

from dao.config import schema
from dao.dataloaders.sample_transforms import Around
from dao.dataloaders.transforms import build_transforms, moving_problems
from dao.register import Registers, import_all_modules_for_register
from dao.structures import Sample


@pytest.fixture(autouse=True, scope="module")
def registered():
    import_all_modules_for_register()


MOVING = ["HorizontalFlip", "Affine", "RandomCrop", "Letterbox", "Mosaic", "DefectCrop", "CopyPaste", "CoarseDropout"]
LOOKS = ["RandomBrightnessContrast", "HistogramStretch", "GrayToRGB", "CLAHE", "RandomHsv", "GaussNoise", "NoOp"]
KWARGS = {"RandomCrop": {"height": 8, "width": 8}, "Letterbox": {"height": 8, "width": 8}}


def section(name):
    return {"type": name, "kwargs": KWARGS.get(name, {})}


@pytest.mark.parametrize("task", ["cls", "seg", "det", "anomaly"])
@pytest.mark.parametrize("part", ["evaluator", "calibration"])
def test_a_flip_in_an_evaluation_is_refused_in_every_task_with_its_place_and_what_to_do(task, part):
    """Of boxes the truth stayed where it was: an object at 70 to 90 was to be found at 10 to 30."""
    transforms = [section("CLAHE"), section("HorizontalFlip")]
    found = schema.validate({"type": task, part: {"dataloader": {"dataset": {"transforms": transforms}}}})
    where = f"{part}.dataloader.dataset.transforms.1.type"
    (problem,) = [p for p in found if ".transforms" in p.where]
    assert problem.where == where and "HorizontalFlip moves, cuts or covers" in problem.what
    assert "'preprocess'" in problem.what
    training = {"type": task, "dataloader": {"dataset": {"transforms": transforms}}}
    assert not [p for p in schema.validate(training) if ".transforms" in p.where]


@pytest.mark.parametrize("name", MOVING)
def test_what_moves_cuts_or_covers_is_refused(name):
    assert [p.where for p in moving_problems([section(name)], "here")] == ["here.0.type"]


def test_nested_ones_are_found_and_those_that_never_happen_are_not():
    nested = {"type": "OneOf", "kwargs": {"transforms": [section("CLAHE"), section("VerticalFlip")]}}
    assert [p.where for p in moving_problems([nested], "here")] == ["here.0.kwargs.transforms.1.type"]
    assert moving_problems([{"type": "HorizontalFlip", "kwargs": {"p": 0}}], "here") == []


@pytest.mark.parametrize("name", LOOKS)
def test_what_changes_looks_alone_stays_and_moves_no_box(name):
    """Proven on a picture: mask and boxes come out as they went in."""
    assert moving_problems([section(name)], "here") == []
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (40, 50, 3), np.uint8), rng.integers(0, 2, (40, 50)).astype(np.uint8)
    boxes = np.array([[30, 10, 45, 20]], np.float32)
    sample = Sample(image, "p", 0, (40, 50), mask=mask, boxes_xyxy=boxes, box_labels=np.zeros(1, np.int64))
    changed = build_transforms([section(name)])(sample, 3, Around((40, 50)))
    np.testing.assert_array_equal(changed.mask, mask)
    np.testing.assert_allclose(changed.boxes_xyxy, boxes, atol=1e-3)


def test_every_transform_of_ours_that_leaves_masks_or_boxes_elsewhere_says_so():
    """A sweep: whatever changed a mask or a box of a made-up picture is among those that are refused."""
    from dao.dataloaders.transforms import is_sample_transform

    rng = np.random.default_rng(1)
    image, mask = rng.integers(0, 256, (64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    mask[40:60, 5:20] = 1
    sample = Sample(image, "p", 0, (64, 64), mask=mask, label=0)
    seen = 0
    for name in Registers.transforms:
        if not is_sample_transform(name):
            continue
        around = Around((64, 64), draw=lambda count, rng: [sample] * count)
        for trial in range(6):
            try:
                changed = build_transforms([{"type": name}])(sample, trial, around)
            except Exception:
                continue
            if changed.mask is None or changed.mask.shape != mask.shape or (changed.mask != mask).any():
                assert moving_problems([{"type": name}], ""), name
                seen += 1
                break
    assert seen >= 2
