"""Masks drawn from the outlines of annotation files: COCO and LabelMe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dao.dataloaders.annotations.coco import read_coco
from dao.dataloaders.annotations.labelme import read_labelme
from dao.dataloaders.annotations.structures import AnnotatedImage, Annotations
from dao.dataloaders.datasets.base import ImageDataset, Record, refuse_bad_config, take_split
from dao.dataloaders.datasets.masks import IGNORE, Mask, merge_classes
from dao.dataloaders.datasets.segmentation import BACKGROUND, SegDataset, with_background
from dao.errors import DataError, Problem, nearest
from dao.register import Registers


class AnnotatedSegmentation(SegDataset):
    """Masks from marked outlines. Where they overlap, the later object is seen; difficult ones are unlabelled."""

    def __init__(
        self,
        found: Annotations,
        classes: Sequence[str] | None,
        split: str | None = None,
        split_ratio: Mapping[str, float] | None = None,
        split_seed: int = 0,
    ) -> None:
        names = list(classes) if classes else with_background(found.classes)
        refuse_unknown(found, names)
        self.images = found.images
        records = [_record(image, names) for image in found.images]
        if split_ratio and split:
            keys = [record.path for record in records]
            records = take_split(records, keys, split_ratio, split, split_seed)
            taken = {record.path for record in records}
            self.images = [image for image in found.images if image.path in taken]
        super().__init__(records, names, origin=f"split '{split}' of {found.source}" if split else found.source)

    def read_mask(self, index: int, hw: tuple[int, int]) -> Mask:
        return self._draw(self.images[index], hw)

    def mask_of(self, index: int) -> Mask:
        image = self.images[index]
        return self._draw(image, image.hw) if image.hw and image.objects else np.zeros((1, 1), np.uint8)

    def _draw(self, image: AnnotatedImage, hw: tuple[int, int]) -> Mask:
        if image.hw is not None and image.hw != hw:
            sizes = f"{image.hw[1]}x{image.hw[0]} pixels, the file has {hw[1]}x{hw[0]}"
            raise DataError(f"{image.path}: it was annotated as a picture of {sizes} (turned or resized since?)")
        layers = []
        for marked in image.objects:
            index = IGNORE if marked.difficult else self.classes.index(marked.label)
            try:
                layers.append((index, marked.region(hw)))
            except DataError as error:
                raise DataError(f"{image.path}: {error}") from None
        return merge_classes(layers, hw)

    def summary(self) -> str:
        clean = sum(1 for image in self.images if not image.objects)
        marked = sum(len(image.objects) for image in self.images)
        return (
            f"{len(self)} training pictures with {marked} marked objects, {clean} pictures without any; "
            f"classes: {', '.join(self.classes)}"
        )


def refuse_unknown(found: Annotations, names: Sequence[str]) -> None:
    """Raise DataError for objects of classes that are not among the names."""
    labels = {marked.label for image in found.images for marked in image.objects}
    unknown = sorted(labels - set(names))
    if unknown:
        listed = ", ".join(unknown[:10])
        raise DataError(
            f"{found.source} marks objects of unknown classes: {listed}. {nearest(unknown[0], list(names))}. "
            f"Classes: {', '.join(names)}"
        )


def _record(image: AnnotatedImage, names: Sequence[str]) -> Record:
    found = {names.index(marked.label) for marked in image.objects}
    return Record(image.path, label_set=tuple(sorted(found)))


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
    ) -> None:
        refuse_bad_config(type(self), split=split, split_ratio=split_ratio)
        found = read_labelme(Path(data_dir), images_dir)
        if classes and BACKGROUND in found.classes and BACKGROUND not in classes:
            raise DataError(f"{data_dir}: '{BACKGROUND}' is marked as an object; name it first among the classes")
        super().__init__(found, classes, split, split_ratio, split_seed)

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Split settings that contradict each other."""
        problems = ImageDataset.check_config({"split": None, **kwargs}, where)
        if kwargs.get("split") and not kwargs.get("split_ratio"):
            problems.append(Problem(f"{where}.split", f"'{kwargs['split']}' means nothing without split_ratio"))
        return problems
