"""Augmentation for detection after YOLOX (Ge et al. 2021, arXiv:2107.08430, section 2.1): mosaic, mixup, affine, HSV.

Every picture is (H, W, C) uint8 and is touched by OpenCV alone. Where YOLOX turns and scales the mosaic about its upper
left corner, this does so about the middle, so that all four pictures are equally likely to be seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.dataloaders import box_geometry as geometry
from dao.dataloaders.box_geometry import Boxes, Matrix
from dao.dataloaders.pixel_maps import Pixels, fit_inside, mirrored, paste, placed, shift_hsv, warp_pixels
from dao.dataloaders.sample_transforms import Around, SampleTransform, range_problems
from dao.errors import ConfigError, Problem
from dao.register import Registers
from dao.structures import Sample

Generator = np.random.Generator


class _Warp(SampleTransform):
    """What turning, scaling and shearing share: their ranges, the matrix, and picture and boxes moved by it."""

    def __init__(
        self,
        degrees: float,
        translate: float,
        scale: tuple[float, float],
        shear: float,
        min_visible: float | None,
        p: float,
    ) -> None:
        super().__init__(p)
        self.degrees, self.translate, self.scale, self.shear = degrees, translate, tuple(scale), shear
        self.min_visible = min_visible

    @classmethod
    def check_config(cls, kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Values out of range."""
        problems = super().check_config(kwargs, where) + range_problems(kwargs, where, "scale", 0)
        limits = {"degrees": 180, "shear": 80, "translate": 1, "min_visible": 1}
        for name, most in limits.items():
            if not 0 <= (kwargs.get(name) or 0) <= most:
                problems.append(Problem(f"{where}.{name}", f"expected 0 to {most}, got {kwargs[name]:g}"))
        return problems

    def matrix(self, from_hw: tuple[int, int], to_hw: tuple[int, int], rng: Generator) -> Matrix:
        """A random map that puts the middle of a canvas near the middle of the output."""
        degrees, scale = rng.uniform(-self.degrees, self.degrees), rng.uniform(*self.scale)
        shear_x, shear_y, move_x, move_y = rng.uniform(-1, 1, 4)
        (height, width), (out_height, out_width) = from_hw, to_hw
        middle = (out_width * (0.5 + self.translate * move_x), out_height * (0.5 + self.translate * move_y))
        return geometry.affine(
            degrees, scale, (self.shear * shear_x, self.shear * shear_y), (width / 2, height / 2), middle
        )


@Registers.transforms.register()
class Mosaic(_Warp):
    """Four pictures round a random centre, then turned, moved, scaled and sheared into the model's input size.

    degrees, shear: largest angles either way; translate: largest shift as a part of the input's side.
    scale: [low, high] of the pictures' size, 1 being that at which each fits the input by itself.
    min_visible: boxes of which a smaller part of the area is left are dropped; None: the dataloader's. p: probability.
    Off in the last ``no_aug_epochs``.
    """

    needs_others = 3

    def __init__(
        self,
        degrees: float = 10.0,
        translate: float = 0.1,
        scale: tuple[float, float] = (0.5, 1.5),
        shear: float = 2.0,
        min_visible: float | None = None,
        p: float = 1.0,
    ) -> None:
        super().__init__(degrees, translate, scale, shear, min_visible, p)

    def apply(self, sample: Sample, around: Around, rng: Generator) -> Sample:
        """The mosaic of the sample and three drawn from the whole set, at the input's size."""
        parts = [sample, *around.draw(self.needs_others, rng)]
        parts = [parts[i] for i in rng.permutation(len(parts))]
        canvas, boxes, labels, seen = assemble(parts, around, rng)
        matrix = self.matrix(canvas.shape[:2], around.size_hw, rng)
        image = warp_pixels(canvas, matrix, around.size_hw, around.pad_value)
        least = least_visible(self.min_visible, around)
        moved, keep = geometry.keep_visible(geometry.warp(boxes, matrix), around.size_hw, least, seen)
        return replace(sample, image=image, boxes_xyxy=moved[keep], box_labels=labels[keep])


@Registers.transforms.register()
class RandomAffine(_Warp):
    """The picture turned, moved, scaled and sheared about its middle, in a frame of the same size.

    Keywords: see Mosaic.
    """

    def __init__(
        self,
        degrees: float = 10.0,
        translate: float = 0.1,
        scale: tuple[float, float] = (0.5, 1.5),
        shear: float = 2.0,
        min_visible: float | None = None,
        p: float = 1.0,
    ) -> None:
        super().__init__(degrees, translate, scale, shear, min_visible, p)

    def apply(self, sample: Sample, around: Around, rng: Generator) -> Sample:
        """The sample, moved."""
        hw = sample.image.shape[:2]
        return warp_sample(
            sample, self.matrix(hw, hw, rng), hw, around.pad_value, least_visible(self.min_visible, around)
        )


@Registers.transforms.register()
class ScaleJitter(SampleTransform):
    """The picture scaled at random and put, or cut, at a random place of the model's input (Ghiasi et al. 2021,
    arXiv:2012.07177).

    scale: [low, high], 1 being the size at which the picture fits the input; min_visible, p: see Mosaic.
    """

    def __init__(
        self, scale: tuple[float, float] = (0.5, 1.5), min_visible: float | None = None, p: float = 1.0
    ) -> None:
        super().__init__(p)
        self.scale, self.min_visible = tuple(scale), min_visible

    @classmethod
    def check_config(cls, kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Values out of range."""
        problems = super().check_config(kwargs, where) + range_problems(kwargs, where, "scale", 0)
        return problems + geometry.share_problems(kwargs, where)

    def apply(self, sample: Sample, around: Around, rng: Generator) -> Sample:
        """The sample, scaled and placed."""
        matrix = placed(sample.image.shape[:2], around.size_hw, rng.uniform(*self.scale), rng)
        return warp_sample(sample, matrix, around.size_hw, around.pad_value, least_visible(self.min_visible, around))


@Registers.transforms.register()
class Mixup(SampleTransform):
    """Half of the picture and half of another one, scaled, flipped and placed at random; the boxes of both.

    scale: [low, high] of the other picture, 1 being the size at which it fits; min_visible, p: see Mosaic.
    A picture without boxes stays as it is, as in YOLOX. Off in the last ``no_aug_epochs``.
    """

    needs_others = 1

    def __init__(
        self, scale: tuple[float, float] = (0.5, 1.5), min_visible: float | None = None, p: float = 1.0
    ) -> None:
        super().__init__(p)
        self.scale, self.min_visible = tuple(scale), min_visible

    @classmethod
    def check_config(cls, kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Values out of range."""
        problems = super().check_config(kwargs, where) + range_problems(kwargs, where, "scale", 0)
        return problems + geometry.share_problems(kwargs, where)

    def apply(self, sample: Sample, around: Around, rng: Generator) -> Sample:
        """The blend of the sample and one drawn from the whole set."""
        boxes, labels = boxes_of(sample)
        other = around.draw(self.needs_others, rng)[0]
        hw = sample.image.shape[:2]
        matrix = placed(other.image.shape[:2], hw, rng.uniform(*self.scale), rng)
        if rng.random() < 0.5:
            matrix = mirrored(matrix, other.image.shape[1])
        if not len(boxes):
            return sample
        other = warp_sample(other, matrix, hw, around.pad_value, least_visible(self.min_visible, around))
        image = cv2.addWeighted(sample.image, 0.5, other.image, 0.5, 0).reshape(sample.image.shape)
        return replace(
            sample,
            image=image,
            boxes_xyxy=np.concatenate([boxes, other.boxes_xyxy]),
            box_labels=np.concatenate([labels, other.box_labels]),
        )


@Registers.transforms.register()
class RandomHsv(SampleTransform):
    """Hue, saturation and value moved at random, each with probability a half; of a grey picture the value alone.

    hue: largest shift either way in half degrees (OpenCV's 0..179); saturation, value: in levels of 0..255.
    p: probability.
    """

    moves = False

    def __init__(self, hue: int = 5, saturation: int = 30, value: int = 30, p: float = 1.0) -> None:
        super().__init__(p)
        self.limits = np.array([hue, saturation, value], np.float64)

    @classmethod
    def check_config(cls, kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Values out of range."""
        problems = super().check_config(kwargs, where)
        for name, most in {"hue": 90, "saturation": 255, "value": 255}.items():
            if not 0 <= kwargs.get(name, 0) <= most:
                problems.append(Problem(f"{where}.{name}", f"expected 0 to {most}, got {kwargs[name]}"))
        return problems

    def apply(self, sample: Sample, around: Around, rng: Generator) -> Sample:
        """The sample in other colours."""
        shifts = np.trunc(rng.uniform(-1, 1, 3) * self.limits * rng.integers(0, 2, 3)).astype(np.int64)
        return replace(sample, image=shift_hsv(sample.image, shifts))


# -- what they are made of -------------------------------------------------------------------------------------------


def least_visible(own: float | None, around: Around) -> float:
    """A transform's own ``min_visible``, or the dataloader's."""
    return around.min_visible if own is None else own


def boxes_of(sample: Sample) -> tuple[Boxes, NDArray[np.int64]]:
    """A sample's boxes and labels. Raises ConfigError for data that has none, or masks besides."""
    if sample.boxes_xyxy is None or sample.box_labels is None or sample.mask is not None:
        message = "this transform moves boxes, and the data has none, or has masks besides; use another one"
        raise ConfigError(Problem("transforms", message))
    return sample.boxes_xyxy, sample.box_labels


def assemble(
    parts: Sequence[Sample], around: Around, rng: Generator
) -> tuple[Pixels, Boxes, NDArray[np.int64], NDArray[np.float32]]:
    """Four pictures on a canvas of twice the input's size, their corners meeting at a random point of its middle half.

    Returns the canvas, all boxes clipped to what is seen of their picture, their labels, and the share of each that is.
    """
    height, width = around.size_hw
    centre_y, centre_x = round(rng.uniform(0.5, 1.5) * height), round(rng.uniform(0.5, 1.5) * width)
    canvas = np.full((2 * height, 2 * width, parts[0].image.shape[2]), around.pad_value, np.uint8)
    boxes, labels, shares = [], [], []
    for place, part in enumerate(parts):
        own_boxes, own_labels = boxes_of(part)
        image, scale_xy = fit_inside(part.image, around.size_hw)
        top = centre_y - image.shape[0] if place < 2 else centre_y
        left = centre_x - image.shape[1] if place % 2 == 0 else centre_x
        paste(canvas, image, top, left)
        moved = geometry.scale_and_shift(own_boxes, scale_xy, (left, top))
        inside, share = geometry.visible(moved, (2 * height, 2 * width))
        boxes.append(inside)
        labels.append(own_labels)
        shares.append(share)
    return canvas, np.concatenate(boxes), np.concatenate(labels), np.concatenate(shares)


def warp_sample(sample: Sample, matrix: Matrix, hw: tuple[int, int], pad_value: int, min_visible: float) -> Sample:
    """Picture and boxes mapped into a frame of ``hw``; boxes of which too little is left are dropped."""
    boxes, labels = boxes_of(sample)
    moved, keep = geometry.keep_visible(geometry.warp(boxes, matrix), hw, min_visible)
    image = warp_pixels(sample.image, matrix, hw, pad_value)
    return replace(sample, image=image, boxes_xyxy=moved[keep], box_labels=labels[keep])
