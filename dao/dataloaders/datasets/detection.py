"""Pictures with boxes, from the four formats that the field writes: COCO, Pascal VOC, YOLO, LabelMe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from dao.dataloaders.annotations.boxes import usable_boxes
from dao.dataloaders.annotations.coco import read_coco
from dao.dataloaders.annotations.labelme import read_labelme
from dao.dataloaders.annotations.structures import AnnotatedImage, AnnotatedObject, Annotations, Box
from dao.dataloaders.annotations.voc_xml import read_voc
from dao.dataloaders.annotations.yolo_txt import read_yolo
from dao.dataloaders.census import Census
from dao.dataloaders.datasets.annotated import (
    lost_all,
    refuse_all_lost,
    refuse_unknown_classes,
    width_problems,
    without_special,
)
from dao.dataloaders.datasets.base import (
    ImageDataset,
    Record,
    names_below,
    once,
    read_text,
    refuse_bad_config,
    take_split,
)
from dao.errors import DataError, Problem
from dao.images.image_io import read_hw
from dao.register import Registers
from dao.structures import GroundTruth, Sample

SPLIT = "{split}"  # in a path, stands for the split's name


@dataclass(slots=True)
class BoxRecord(Record):
    """A picture with its boxes, in its own pixels.

    boxes_xyxy: (N, 4) float32; box_labels: (N,) int64; crowd: (N,) stands for several objects, left out of training;
    difficult: (N,) need not be found. hw: height and width as the annotations state them. area: (N,) float64 pixels as
    they are stated (of a box whose own is not, the box's); None where no object of the picture states one.
    """

    boxes_xyxy: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    box_labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    crowd: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    difficult: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    hw: tuple[int, int] | None = None
    area: NDArray[np.float64] | None = None

    @property
    def labels(self) -> tuple[int, ...]:
        """The classes that occur in the picture."""
        return tuple(np.unique(self.box_labels).tolist())


class BoxDataset(ImageDataset):
    """Pictures with boxes, made of what an annotation reader found.

    classes: names in index order; without them the annotations' own. Boxes are clipped to their picture; those without
    an area in it are named and left out (``census``). Pictures without a box are welcome: there is nothing to find. Those
    that lost every box that they had are left out and named: they show no good part.
    """

    records: list[BoxRecord]
    needs_every_class = False  # tools export names that no box bears

    def __init__(
        self,
        annotations: Annotations,
        classes: Sequence[str] | None = None,
        split: str | None = None,
        split_ratio: Mapping[str, float] | None = None,
        split_seed: int = 0,
    ) -> None:
        names = list(classes) if classes else annotations.classes
        refuse_unknown_classes(annotations, names)
        census = Census()
        census.merge(annotations.census)
        without_special(annotations.images, names, census)
        found = [(to_record(image, names, census), image) for image in annotations.images]
        records = [record for record, image in found if not lost_all(len(record.box_labels), image, census)]
        refuse_all_lost(annotations.source, [len(record.box_labels) for record in records], census)
        origin = annotations.source
        if split_ratio and split is not None:
            records = take_split(records, names_below(records), split_ratio, split, split_seed)
            origin = f"split '{split}' of {origin}"
        super().__init__(records, names, origin=origin)
        self.census.merge(census)

    def class_counts(self) -> list[int]:
        """Boxes of each class, in the order of ``classes``."""
        labels = [record.box_labels for record in self.records]
        return np.bincount(np.concatenate(labels), minlength=len(self.classes)).tolist()

    def read(self, index: int, in_channels: int = 3, bit_depth: int = 16) -> Sample:
        """Decode one picture with its boxes. Raises DataError when it cannot be read, or is not of the stated size."""
        sample = super().read(index, in_channels, bit_depth)
        wrong = self.picture_problem(index, sample.original_hw)
        if wrong:
            raise DataError(f"{sample.path}: {wrong}")
        return sample

    def to_sample(
        self, index: int, image: np.ndarray, original_hw: tuple[int, int], mask: np.ndarray | None = None
    ) -> Sample:
        record = self.records[index]
        return Sample(
            image, record.path, index, original_hw, boxes_xyxy=record.boxes_xyxy, box_labels=record.box_labels
        )

    def picture_problem(self, index: int, hw: tuple[int, int]) -> str:
        """What is wrong with a decoded picture of ``hw``: boxes of a picture of another size would lie elsewhere."""
        stated = self.records[index].hw
        if stated is None or stated == tuple(hw):
            return ""
        turned = " (turned upright by its EXIF orientation)" if stated == (hw[1], hw[0]) else ""
        return (
            f"the picture is {hw[1]} x {hw[0]} pixels{turned}, its annotations are of one of {stated[1]} x {stated[0]}"
        )

    def ground_truth(self, index: int) -> GroundTruth:
        """What is to be found in a picture, in its own pixels."""
        record = self.records[index]
        difficult = record.difficult if record.difficult.any() else None
        ignore = record.crowd | record.difficult
        return GroundTruth(record.boxes_xyxy, record.box_labels, ignore, record.area, difficult)

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Split settings that contradict each other."""
        problems = ImageDataset.check_config({"split": None, **kwargs}, where) + width_problems(kwargs, where)
        split, ratios = kwargs.get("split"), kwargs.get("split_ratio")
        templated = [key for key, value in kwargs.items() if isinstance(value, str) and SPLIT in value]
        if templated and split is None:
            problems.append(Problem(f"{where}.split", f"is missing: what {SPLIT} in {templated[0]} stands for"))
        if split is not None and not templated and not ratios:
            paths = [key for key, value in kwargs.items() if isinstance(value, str) and key != "split"]
            message = (
                f"'{split}' (perhaps of a config that this one inherits) means nothing without split_ratio or {SPLIT} in a path: "
                f"write {SPLIT} for it in {' or '.join(paths) or 'one'}, divide by split_ratio, or take all by split=null"
            )
            problems.append(Problem(f"{where}.split", message))
        return problems


def to_record(image: AnnotatedImage, names: Sequence[str], census: Census) -> BoxRecord:
    """A picture of an annotation file as a record; its size is read from the file's head where it is not stated."""
    stated = image.hw
    if image.objects and stated is None:
        image.hw = read_hw(image.path)
    found = usable_boxes(image, census)
    index_of = {name: i for i, name in enumerate(names)}
    return BoxRecord(
        image.path,
        boxes_xyxy=np.array([box for _, box in found], np.float32).reshape(-1, 4),
        box_labels=np.array([index_of[marked.label] for marked, _ in found], np.int64),
        crowd=np.array([marked.crowd for marked, _ in found], bool),
        difficult=np.array([marked.difficult for marked, _ in found], bool),
        hw=stated,
        area=_areas(found),
    )


def _areas(found: Sequence[tuple[AnnotatedObject, Box]]) -> NDArray[np.float64] | None:
    """(N,) pixels of each object as stated, else of its box; None where none is stated."""
    if all(marked.area is None for marked, _ in found):
        return None
    boxed = ((right - left) * (bottom - top) for _, (left, top, right, bottom) in found)
    pairs = zip(found, boxed, strict=True)
    return np.array([box if marked.area is None else marked.area for (marked, _), box in pairs], np.float64)


def of_split(path: str | None, split: str | None) -> str | None:
    """A path with the split's name in its place."""
    return path.replace(SPLIT, split) if path and split else path


@Registers.datasets.register()
class CocoDetection(BoxDataset):
    """Boxes of a COCO annotation file; category ids may have any numbers. iscrowd boxes count neither as found nor as
    missed.

    json_file: the annotations; data_dir: folder that ``file_name`` starts from, without it the file's own folder.
    split: with ``{split}`` in json_file or data_dir, its name; with split_ratio, the part to take.
    split_ratio, split_seed: divide the file's pictures by ratio. classes: names in index order.
    """

    def __init__(
        self,
        json_file: str,
        data_dir: str | None = None,
        split: str | None = None,
        split_ratio: dict[str, float] | None = None,
        split_seed: int = 0,
        classes: list[str] | None = None,
    ) -> None:
        refuse_bad_config(type(self), json_file=json_file, data_dir=data_dir, split=split, split_ratio=split_ratio)
        found = read_coco(of_split(json_file, split) or "", of_split(data_dir, split))
        super().__init__(found, classes, split, split_ratio, split_seed)


@Registers.datasets.register()
class VocDetection(BoxDataset):
    """Boxes of Pascal VOC files, one XML a picture. Difficult ones are trained on, and not asked for in evaluation.

    annotations_dir: folder of the XML files; images_dir: of the pictures, without it beside the XML files or in
    JPEGImages or images next to their folder. list_file: names of the split's files, e.g. ImageSets/Main/{split}.txt.
    split, split_ratio, split_seed: as CocoDetection. one_based: boxes count pixels from 1, as in the original VOC.
    unmarked: also take pictures without an XML file, as pictures where nothing is to be found.
    classes: names in index order; without them labels.txt beside the files, else all names, sorted.
    """

    def __init__(
        self,
        annotations_dir: str,
        images_dir: str | None = None,
        list_file: str | None = None,
        split: str | None = None,
        split_ratio: dict[str, float] | None = None,
        split_seed: int = 0,
        one_based: bool = False,
        unmarked: bool = False,
        classes: list[str] | None = None,
    ) -> None:
        refuse_bad_config(
            type(self), annotations_dir=annotations_dir, images_dir=images_dir, list_file=list_file, split=split,
            split_ratio=split_ratio,
        )  # fmt: skip
        names_file = of_split(list_file, split)
        stems = read_stems(Path(names_file)) if names_file else None
        folder, pictures = of_split(annotations_dir, split) or "", of_split(images_dir, split)
        found = read_voc(folder, pictures, stems, one_based, unmarked)
        super().__init__(found, classes, split, split_ratio, split_seed)


def read_stems(path: Path) -> list[str]:
    """Names of a VOC split list: the first word of each line (lists of one class add 1, 0 or -1 for its presence)."""
    lines = read_text(path, "list of the split", names=True).splitlines()
    return once([line.split()[0] for line in lines if line.strip()], path)


@Registers.datasets.register()
class YoloDetection(BoxDataset):
    """Boxes (or outlines) of YOLO text files.

    data_yaml: names the classes and each split's pictures; split: which of them to take.
    data_dir: folder that its paths start from; without it the yaml's ``path``, else the yaml's own folder.
    classes: names in index order, where another order than the yaml's is wanted.
    """

    def __init__(
        self, data_yaml: str, split: str = "train", data_dir: str | None = None, classes: list[str] | None = None
    ) -> None:
        found = read_yolo(data_yaml, split, data_dir)
        super().__init__(found, classes)
        for record in self.records:
            record.hw = None  # it was read from the picture itself, not stated
        bare = sum(not len(record.box_labels) for record in self.records)
        if bare == len(self.records):
            logger.warning("{}: not one picture has a label file with boxes", self.origin)

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Nothing contradicts: the yaml divides the pictures."""
        return []


@Registers.datasets.register()
class LabelMeDetection(BoxDataset):
    """Boxes of LabelMe files, one JSON beside each picture: rectangles, and boxes round other shapes.

    annotations_dir: folder of the JSON files; images_dir: of the pictures where not beside them.
    split, split_ratio, split_seed: as CocoDetection. classes: names in index order; without them all labels, sorted.
    line_width: pixels that lines and points are drawn wide; without it they are named and left out.
    A picture without a file is one where nothing is to be found.
    """

    def __init__(
        self,
        annotations_dir: str,
        images_dir: str | None = None,
        split: str | None = None,
        split_ratio: dict[str, float] | None = None,
        split_seed: int = 0,
        classes: list[str] | None = None,
        line_width: float | None = None,
    ) -> None:
        refuse_bad_config(
            type(self), annotations_dir=annotations_dir, images_dir=images_dir, split=split, split_ratio=split_ratio,
            line_width=line_width,
        )  # fmt: skip
        found = read_labelme(of_split(annotations_dir, split) or "", of_split(images_dir, split), line_width=line_width)
        super().__init__(found, classes, split, split_ratio, split_seed)
