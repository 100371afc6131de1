"""Masks drawn from the outlines of annotation files: COCO and LabelMe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dao.dataloaders.annotations.boxes import box_of, clip_box
from dao.dataloaders.annotations.coco import read_coco
from dao.dataloaders.annotations.labelme import NOTHING, UNLABELLED, read_labelme
from dao.dataloaders.annotations.regions import fill_box, is_thin, trace
from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Annotations
from dao.dataloaders.census import Census
from dao.dataloaders.datasets.annotated import lost_all, refuse_all_lost, refuse_unknown_classes, width_problems
from dao.dataloaders.datasets.base import ImageDataset, Record, names_below, refuse_bad_config, take_split
from dao.dataloaders.datasets.masks import IGNORE, Mask, merge_classes
from dao.dataloaders.datasets.segmentation import BACKGROUND, SegDataset, with_background
from dao.dataloaders.guard import reading
from dao.errors import DataError, Problem
from dao.images.image_io import read_hw
from dao.register import Registers
from dao.words.counted import counted


class AnnotatedSegmentation(SegDataset):
    """Masks from marked outlines. Where they overlap, the later object is seen; difficult ones are unlabelled, and so
    is what LabelMe calls ``__ignore__``; its ``_background_`` is class 0. Objects without a pixel are named (``census``),
    and pictures that lost all that was marked in them are left out: they show no good part."""

    def __init__(
        self,
        found: Annotations,
        classes: Sequence[str] | None,
        split: str | None = None,
        split_ratio: Mapping[str, float] | None = None,
        split_seed: int = 0,
    ) -> None:
        names = list(classes) if classes else with_background(found.classes)
        refuse_unknown_classes(found, names)
        census = Census()
        census.merge(found.census)
        images = [image for image in found.images if not lost_all(_keep_visible(image, census), image, census)]
        refuse_all_lost(found.source, [len(image.objects) for image in images], census)
        self._index_of = _indices(names)
        records = [Record(image.path, label_set=self._labels(image)) for image in images]
        if split_ratio and split:
            records = take_split(records, names_below(records), split_ratio, split, split_seed)
            taken = {record.path for record in records}
            images = [image for image in images if image.path in taken]
        self.images = images
        super().__init__(records, names, origin=f"split '{split}' of {found.source}" if split else found.source)
        self.census.merge(census)

    def _labels(self, image: AnnotatedImage) -> tuple[int, ...]:
        return tuple(sorted({self._index_of[marked.label] for marked in image.objects} - {IGNORE}))

    def read_mask(self, index: int, hw: tuple[int, int]) -> Mask:
        return self._draw(self.images[index], hw)

    def mask_of(self, index: int) -> Mask:
        image = self.images[index]
        hw = (image.hw or read_hw(image.path)) if image.objects else None
        return self._draw(image, hw) if hw is not None else np.zeros((1, 1), np.uint8)

    def _draw(self, image: AnnotatedImage, hw: tuple[int, int]) -> Mask:
        if image.hw is not None and image.hw != hw:
            sizes = f"{image.hw[1]}x{image.hw[0]} pixels, the file has {hw[1]}x{hw[0]}"
            raise DataError(f"{image.path}: it was annotated as a picture of {sizes} (turned or resized since?)")
        layers = []
        for marked in image.objects:
            index = IGNORE if marked.difficult else self._index_of[marked.label]
            try:
                layers.append((index, marked.region(hw)))
            except (DataError, ValueError) as error:
                raise DataError(f"{image.path}: {error}") from None
        return merge_classes(layers, hw)

    def summary(self) -> str:
        clean = sum(1 for image in self.images if not image.objects)
        marked = sum(len(image.objects) for image in self.images)
        return (
            f"{counted(len(self), 'training picture')} with {counted(marked, 'marked object')}, "
            f"{counted(clean, 'picture')} without any; "
            f"classes: {', '.join(self.classes)}"
        )


def _indices(names: Sequence[str]) -> dict[str, int]:
    """The mask value of each label, LabelMe's own included."""
    return {NOTHING: 0, **{name: index for index, name in enumerate(names)}, UNLABELLED: IGNORE}


def _keep_visible(image: AnnotatedImage, census: Census) -> int:
    """How many objects of a picture have a pixel in it; where some have, the others are taken from it. Said in the
    census. Objects of a picture whose size nobody knows are left for later, when it cannot be read."""
    hw = (image.hw or read_hw(image.path)) if image.objects else None
    if hw is None:
        return len(image.objects)
    visible = []
    for number, marked in enumerate(image.objects):
        place = f"{image.path} object {number} ({marked.label})"
        with reading(place, "outline"):
            if _is_visible(marked, hw, census, place):
                visible.append(marked)
    if visible:
        image.lost += len(image.objects) - len(visible)
        image.objects = visible
    return len(visible)


def _is_visible(marked: AnnotatedObject, hw: tuple[int, int], census: Census, place: str) -> bool:
    if marked.rle is not None:  # its pixels were counted by the reader
        return True
    if marked.polygons:
        if not is_thin(marked.polygons, hw):
            return True
        kind, seen = "outlines outside their picture", bool(trace(marked.polygons, hw).any())
        thin = "outlines thinner than a pixel, drawn one pixel wide"
    else:
        box, kind = clip_box(box_of(marked), hw)
        seen, thin = box is not None and bool(fill_box(marked.bounds(), hw).any()), ""
    if not seen:
        census.omit(f"{kind or 'boxes outside their picture'} left out", place)
    elif thin:
        census.adjust(thin, place)
    return seen


@Registers.datasets.register()
class CocoSegmentation(AnnotatedSegmentation):
    """Masks from the polygons and run lengths of a COCO file; boxes without an outline are filled.

    json_file: the annotation file; data_dir: folder that its file names start from, without it the file's own.
    classes: names in index order, the background first; without it "background" and the categories by their ids.
    """

    def __init__(self, json_file: str, data_dir: str | None = None, classes: list[str] | None = None) -> None:
        super().__init__(read_coco(json_file, data_dir), classes)


@Registers.datasets.register()
class LabelMeSegmentation(AnnotatedSegmentation):
    """Masks from LabelMe's JSON files: polygons, rectangles, circles, drawn masks. A picture without a JSON file, or
    with an empty one, shows a good part.

    data_dir: folder of the JSON files, searched with its folders; images_dir: of the pictures, where they are not
    beside them. split_ratio, split, split_seed: divide by ratio.
    line_width: pixels that lines and points are drawn wide; without it they are named and left out.
    classes: names in index order, the background first; without it "background" and all labels, sorted.
    """

    def __init__(
        self,
        data_dir: str,
        images_dir: str | None = None,
        split: str | None = None,
        split_ratio: dict[str, float] | None = None,
        split_seed: int = 0,
        classes: list[str] | None = None,
        line_width: float | None = None,
    ) -> None:
        refuse_bad_config(type(self), split=split, split_ratio=split_ratio, line_width=line_width)
        found = read_labelme(Path(data_dir), images_dir, line_width=line_width)
        if classes and BACKGROUND in found.classes and BACKGROUND not in classes:
            raise DataError(f"{data_dir}: '{BACKGROUND}' is marked as an object; name it first among the classes")
        super().__init__(found, classes, split, split_ratio, split_seed)

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Split settings that contradict each other."""
        problems = ImageDataset.check_config({"split": None, **kwargs}, where) + width_problems(kwargs, where)
        if kwargs.get("split") and not kwargs.get("split_ratio"):
            problems.append(
                Problem(
                    f"{where}.split",
                    f"'{kwargs['split']}' means nothing without split_ratio; to take all say split=null",
                )
            )
        return problems
