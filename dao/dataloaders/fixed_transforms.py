"""Transforms that change every training picture in the same way: no augmentation, and nothing on the line repeats them.

A model that is trained on stretched, equalised, mirrored or cropped pictures alone meets others in every evaluation, demo
and exported file. What such a transform does is found out by trying it, so that no list of names can be incomplete.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import albumentations as A
import numpy as np

from dao.dataloaders.transforms import Pipeline
from dao.errors import ConfigError, Problem
from dao.structures import Sample

PROBES_HW = ((96, 128), (1100, 1500))  # the second for what cuts out more than the first has
SEEDS = 6  # that all give the same picture by chance: not of what varies with as little as a coin's probability
PREPARING = (A.CLAHE, A.Equalize)  # they bring every picture to a look of their own, however strongly


def refuse_fixed(transforms: Pipeline | None, where: str) -> None:
    """Raise ConfigError naming every transform of a training list that is always made, and always in the same way.

    Scaling and padding are no change: `preprocess` does both, everywhere.
    """
    problems = [
        Problem(
            f"{where}.{place}",
            f"{type(transform).__name__} with p = 1 changes every training picture in the same way, and evaluation, demo and "
            "exported files do not repeat it. Do it to the picture files themselves, or give it a p below 1, as augmentation",
        )
        for place, transform in enumerate(transforms.transforms if transforms else [])
        if isinstance(transform, A.BasicTransform | A.BaseCompose) and transform.p == 1 and is_fixed(transform)
    ]
    if problems:
        raise ConfigError(problems)


def is_fixed(transform: A.BasicTransform | A.BaseCompose) -> bool:
    """Whether a transform gives the same for every seed, and another picture than it is given."""
    if isinstance(transform, PREPARING):
        return True
    for hw in PROBES_HW:
        try:
            return _same_and_changed(list(_answers(transform, hw)))
        except ConfigError:  # it does not work on a picture of this size, or asks for what a probe has not
            continue
    return False


def _answers(transform: A.BasicTransform | A.BaseCompose, hw: tuple[int, int]) -> Iterator[Sample]:
    pipeline, probe = Pipeline([transform]), _probe(hw)
    yield probe
    for seed in range(SEEDS):
        yield pipeline(probe, seed)


def _probe(hw: tuple[int, int]) -> Sample:
    """Coloured noise on a slope, so that every change is seen, with a box in each corner."""
    height, width = hw
    noise = np.random.default_rng(0).integers(0, 120, (*hw, 3))
    image = (noise + np.linspace(20, 110, width)[None, :, None]).astype(np.uint8)
    rows, columns = (0, height - 8), (0, width - 8)
    boxes = np.array([[x, y, x + 8, y + 8] for y in rows for x in columns], np.float32)
    return Sample(image, "a made-up picture", 0, hw, boxes_xyxy=boxes, box_labels=np.arange(4))


def _same_and_changed(answers: Sequence[Sample]) -> bool:
    given, first, *others = answers
    if any(other.image.shape != first.image.shape or (other.image != first.image).any() for other in others):
        return False
    if first.image.shape == given.image.shape:
        return bool((first.image != given.image).any())
    return not _only_padded_or_scaled(given, first)


def _only_padded_or_scaled(given: Sample, changed: Sample) -> bool:
    """Whether the corners lie where scaling and padding put them: cut off by no crop, exchanged by no flip."""
    if changed.box_labels.tolist() != given.box_labels.tolist():
        return False
    centres = (changed.boxes_xyxy[:, :2] + changed.boxes_xyxy[:, 2:]) / 2
    return bool(
        centres[0, 0] < centres[1, 0] and centres[0, 1] < centres[2, 1] and np.isclose(centres[0, 1], centres[1, 1])
    )
