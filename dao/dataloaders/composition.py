"""Albumentations' transforms as one call: how boxes are dropped, and which pixels masks take, wherever they are composed."""

from __future__ import annotations

from collections.abc import Iterator

import albumentations as A
import cv2

from dao.preprocess.mask_resampling import NEAREST

Transform = A.BasicTransform | A.BaseCompose
# what scales masks without turning them takes the pixel that `preprocess` takes; OpenCV's warps know no such way
RESIZING = (
    A.CropAndPad, A.LongestMaxSize, A.RandomResizedCrop, A.RandomScale, A.RandomSizedBBoxSafeCrop, A.RandomSizedCrop,
    A.Resize, A.SmallestMaxSize,
)  # fmt: skip


def composition(transforms: list[Transform], min_visible: float) -> A.Compose:
    """In order, on picture, mask and boxes (with a number each); min_visible: the share of a box that a cut must leave."""
    # boxes travel as rows (x1, y1, x2, y2, row number), so that labels follow whatever boxes remain
    boxes = A.BboxParams(format="pascal_voc", clip=True, filter_invalid_bboxes=True, min_visibility=min_visible)
    composed = A.Compose(transforms, bbox_params=boxes, mask_interpolation=cv2.INTER_NEAREST)
    for transform in _leaves(composed):
        if isinstance(transform, RESIZING):
            transform.mask_interpolation = NEAREST
    return composed


def _leaves(composed: A.BaseCompose) -> Iterator[A.BasicTransform]:
    for transform in composed.transforms:
        if isinstance(transform, A.BaseCompose):
            yield from _leaves(transform)
        else:
            yield transform
