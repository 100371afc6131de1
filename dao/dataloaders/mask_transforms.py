"""Augmentation for masks of small defects: crops that look for them, and defects pasted onto good parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.dataloaders.datasets.masks import IGNORE
from dao.dataloaders.sample_transforms import Around, SampleTransform, range_problems
from dao.errors import ConfigError, Problem
from dao.preprocess.mask_resampling import resize_mask
from dao.register import Registers
from dao.structures import Sample


def mask_of(sample: Sample, name: str) -> NDArray[np.uint8]:
    """A sample's mask. Raises ConfigError for data without: the transform would do nothing, or cut boxes off."""
    if sample.mask is None or sample.boxes_xyxy is not None:
        raise ConfigError(Problem("transforms", f"{name} is for pictures with masks, and these have none"))
    return sample.mask


@Registers.transforms.register()
class DefectCrop(SampleTransform):
    """A window of the model's size, more often on a defect than chance would have it: a scratch of ten pixels is seen
    in its own resolution, and not on one crop in a hundred.

    on_defect: share of crops that hold a defect, where the picture has one; the kind is drawn first, so that rare kinds
        count as much as common ones. scale: [low, high] by which the window is enlarged (2: it shows half as much).
    p: probability; without a crop the whole picture is resized as ever.
    """

    needs_original = True

    def __init__(self, on_defect: float = 0.75, scale: tuple[float, float] = (0.75, 1.5), p: float = 1.0) -> None:
        super().__init__(p)
        self.on_defect, self.scale = on_defect, tuple(scale)

    @classmethod
    def check_config(cls, kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        problems = super().check_config(kwargs, where) + range_problems(kwargs, where, "scale", 0.0)
        if not 0 <= kwargs.get("on_defect", 0.75) <= 1:
            problems.append(Problem(f"{where}.on_defect", f"is a share, 0 to 1; got {kwargs['on_defect']:g}"))
        return problems

    def apply(self, sample: Sample, around: Around, rng: np.random.Generator) -> Sample:
        mask = mask_of(sample, "DefectCrop")
        factor = float(np.exp(rng.uniform(*np.log(self.scale))))
        height, width = (max(1, round(side / factor)) for side in around.size_hw)
        centre = self._on_a_defect(mask, rng) if rng.random() < self.on_defect else None
        top = _corner(mask.shape[0], height, None if centre is None else centre[0], rng)
        left = _corner(mask.shape[1], width, None if centre is None else centre[1], rng)
        rows, columns = slice(top, top + height), slice(left, left + width)
        image, mask = _scaled(sample.image[rows, columns], mask[rows, columns], factor, around.size_hw)
        return replace(
            sample, image=_padded(image, around.size_hw, around.pad_value), mask=_padded(mask, around.size_hw, IGNORE)
        )

    @staticmethod
    def _on_a_defect(mask: NDArray[np.uint8], rng: np.random.Generator) -> tuple[int, int] | None:
        """A pixel of a defect, of a kind drawn among those there are; None in a good part."""
        kinds = [k for k in np.unique(mask) if k not in (0, IGNORE)]
        if not kinds:
            return None
        places = np.flatnonzero(mask == kinds[rng.integers(len(kinds))])
        y, x = divmod(int(places[rng.integers(len(places))]), mask.shape[1])
        return y, x


def _corner(length: int, window: int, through: int | None, rng: np.random.Generator) -> int:
    """Where a window begins along a side: anywhere, or anywhere that holds the pixel ``through``."""
    last = max(0, length - window)
    if through is None:
        return int(rng.integers(0, last + 1))
    low, high = max(0, through - window + 1), min(last, through)
    return int(rng.integers(min(low, high), high + 1))


def _scaled(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], factor: float, limit_hw: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    height, width = (min(limit, max(1, round(side * factor))) for limit, side in zip(limit_hw, image.shape[:2]))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=method).reshape(height, width, image.shape[2])
    return resized, resize_mask(mask, height, width)


def _padded(pixels: NDArray[np.uint8], size_hw: tuple[int, int], value: int) -> NDArray[np.uint8]:
    if pixels.shape[:2] == tuple(size_hw):
        return pixels
    canvas = np.full((*size_hw, *pixels.shape[2:]), value, np.uint8)
    canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
    return canvas


@Registers.transforms.register()
class CopyPaste(SampleTransform):
    """Defects of other pictures pasted onto this one (Ghiasi et al. 2021): more defects on more parts than were ever
    photographed. The pasted pixels take on the brightness of the place, and their edges are blended.

    max_defects: pasted at most, at least one. only_on_good: leave pictures alone that have a defect of their own.
    blend: pixels over which an edge fades. p: probability.
    Where the other picture it draws shows a good part, nothing is pasted; with balanced sampling or a larger p it
    happens more often.
    """

    needs_others = 1

    def __init__(self, max_defects: int = 3, only_on_good: bool = False, blend: float = 1.5, p: float = 0.5) -> None:
        super().__init__(p)
        self.max_defects, self.only_on_good, self.blend = max_defects, only_on_good, blend

    @classmethod
    def check_config(cls, kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        problems = super().check_config(kwargs, where)
        if kwargs.get("max_defects", 1) < 1:
            problems.append(Problem(f"{where}.max_defects", f"must be at least 1, got {kwargs['max_defects']}"))
        if kwargs.get("blend", 0) < 0:
            problems.append(Problem(f"{where}.blend", f"must be at least 0, got {kwargs['blend']:g}"))
        return problems

    def apply(self, sample: Sample, around: Around, rng: np.random.Generator) -> Sample:
        mask = mask_of(sample, "CopyPaste")
        if self.only_on_good and ((mask > 0) & (mask != IGNORE)).any():
            return sample
        (other,) = around.draw(1, rng)
        found = _defects(mask_of(other, "CopyPaste"))
        if not found:
            return sample
        image, mask = sample.image.copy(), mask.copy()
        for place in rng.permutation(len(found))[: rng.integers(1, self.max_defects + 1)]:
            self._paste(image, mask, other, found[place], rng)
        return replace(sample, image=image, mask=mask)

    def _paste(
        self,
        image: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        other: Sample,
        defect: tuple[int, tuple[slice, slice], NDArray[np.bool_]],
        rng: np.random.Generator,
    ) -> None:
        """One defect, mirrored or not, at a place where it fits whole and nothing is unlabelled; in place."""
        kind, box, region = defect
        patch = other.image[box]
        flips = (slice(None, None, rng.choice((-1, 1))), slice(None, None, rng.choice((-1, 1))))
        patch, region = patch[flips], region[flips]
        height, width = region.shape
        if height > mask.shape[0] or width > mask.shape[1] or patch.shape[2] != image.shape[2]:
            return
        top, left = (int(rng.integers(0, full - part + 1)) for full, part in zip(mask.shape, region.shape))
        rows, columns = slice(top, top + height), slice(left, left + width)
        if (mask[rows, columns][region] == IGNORE).any():
            return
        alpha = region.astype(np.float32)
        if self.blend:
            alpha = np.maximum(cv2.GaussianBlur(alpha, (0, 0), self.blend), alpha * 0.5)
        shift = _surroundings(image[rows, columns], region) - _surroundings(patch, region)
        target = image[rows, columns].astype(np.float32)
        mixed = target + (patch + shift - target) * alpha[:, :, None]
        image[rows, columns] = np.clip(np.round(mixed), 0, 255).astype(np.uint8)
        mask[rows, columns][region] = kind


def _surroundings(pixels: NDArray[np.uint8], region: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(C,) mean of what lies round a region in its box; of the whole box where the region fills it."""
    outside = pixels[~region] if (~region).any() else pixels.reshape(-1, pixels.shape[2])
    return outside.mean(0, dtype=np.float32)


def _defects(mask: NDArray[np.uint8]) -> list[tuple[int, tuple[slice, slice], NDArray[np.bool_]]]:
    """(class, its box with a margin, its own pixels there) of every connected region of a defect."""
    found = []
    for k in np.unique(mask):
        if k in (0, IGNORE):
            continue
        total, labels, stats, _ = cv2.connectedComponentsWithStats((mask == k).astype(np.uint8), connectivity=8)
        for i in range(1, total):
            left, top, width, height, _ = (int(value) for value in stats[i])
            margin = 4
            box = (
                slice(max(0, top - margin), top + height + margin),
                slice(max(0, left - margin), left + width + margin),
            )
            found.append((int(k), box, labels[box] == i))
    return found
