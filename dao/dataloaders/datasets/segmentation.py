"""What the segmentation datasets share: pictures with a class for every pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger

from dao.dataloaders.datasets.base import ImageDataset, Record, is_number, raise_listed
from dao.dataloaders.datasets.masks import IGNORE, Mask, MaskCodec, read_raw_mask, refuse_other_size
from dao.errors import ConfigError, DataError, Problem, nearest
from dao.images.image_io import read_hw, read_image
from dao.structures import Sample
from dao.words.counted import counted

BACKGROUND = "background"
LOOKED_AT = 24  # masks that are read at the start, spread over the set, to see whether the settings can be right


@dataclass(slots=True)
class SegRecord(Record):
    """A picture and where its mask is.

    mask: a file; None for a picture without any defect. masks: (class index, file) where each class has its own.
    defect: the class that a 0/255 mask marks.
    """

    mask: str | None = None
    masks: tuple[tuple[int, str], ...] = ()
    defect: int = 1

    def files(self) -> list[str]:
        """Every mask file of the picture."""
        return [name for _, name in self.masks] + ([self.mask] if self.mask else [])


class SegDataset(ImageDataset):
    """Pictures with masks; class 0 is the background. `Sample.mask` is (H, W) uint8 class indices, 255 unlabelled.

    Subclasses hand over records with mask files and a codec, or override `read_mask`.
    Raises DataError for masks that do not exist and where nothing at all is marked.
    """

    needs_every_class = False
    counts_by_reading = True

    def __init__(
        self, records: Sequence[Record], classes: Sequence[str], codec: MaskCodec | None = None, origin: str = ""
    ) -> None:
        super().__init__(records, classes, origin=origin)
        self.codec = codec
        if not 2 <= len(self.classes) <= IGNORE:
            names = ", ".join(self.classes) or "none"
            raise DataError(
                f"{origin}: masks need 2 to {IGNORE} classes, the first of them the background; got {names}"
            )
        self._refuse_missing()
        self._refuse_empty()

    def _refuse_missing(self) -> None:
        missing = [
            f"{name} (of {record.path})"
            for record in self.records
            if isinstance(record, SegRecord)
            for name in record.files()
            if not Path(name).is_file()
        ]
        raise_listed(self.origin, missing, "These masks do not exist; a missing mask is not taken for 'no defect'.")

    def _refuse_empty(self) -> None:
        """Masks of 0 and 255 read as class indices would train on background and nothing else, without a word."""
        values: set[int] = set()
        unlabelled: list[str] = []
        for index in np.unique(np.linspace(0, len(self) - 1, LOOKED_AT).astype(int)):
            try:
                found = set(np.unique(self.mask_of(int(index))).tolist())
            except DataError:  # told, and counted, when its turn comes
                continue
            values |= found
            if IGNORE in found and not found - {0, IGNORE}:
                unlabelled.append(self.records[int(index)].path)
        if IGNORE in values and not values - {0, IGNORE}:
            raise DataError(
                f"{self.origin}: the masks looked at hold 0 and 255 and nothing else. As class indices that is background "
                'and unlabelled; if 255 marks the defect, set "mask_format": "binary"'
            )
        for path in unlabelled:
            self.census.adjust(
                "masks (of those looked at) that mark nothing but unlabelled pixels, by the value 255", path
            )

    def read(self, index: int, in_channels: int = 3, bit_depth: int = 16) -> Sample:
        record = self.records[index]
        image = read_image(record.path, in_channels, bit_depth)
        hw = (image.shape[0], image.shape[1])
        return self.to_sample(index, image, hw, self.read_mask(index, hw))

    def read_mask(self, index: int, hw: tuple[int, int]) -> Mask:
        """(H, W) uint8 class indices of a picture of ``hw`` pixels. Raises DataError when it cannot be had."""
        record: Any = self.records[index]
        if not record.files():
            return np.zeros(hw, np.uint8)
        mask = self.mask_of(index)
        refuse_other_size(mask, hw, record.files()[0], record.path)
        return mask

    def mask_of(self, index: int) -> Mask:
        """The mask as its files have it, without looking at the picture; a single pixel where there is none."""
        record: Any = self.records[index]
        if self.codec is None or not record.files():
            return np.zeros((1, 1), np.uint8)
        if not record.masks:
            return self.codec.decode(read_raw_mask(record.mask, self.codec.kind == "index"), record.mask, record.defect)
        layers = [(k, self.codec.decode(read_raw_mask(name), name, 1) > 0) for k, name in record.masks]
        for (_, layer), (_, name) in zip(layers, record.masks):
            refuse_other_size(layer, layers[0][1].shape, name, record.masks[0][1])
        mask = np.zeros(layers[0][1].shape, np.uint8)
        for k, layer in layers:
            mask[layer] = k
        return mask

    def picture_problem(self, index: int, hw: tuple[int, int]) -> str:
        """What is wrong with a picture's mask."""
        try:
            self.read_mask(index, hw)
        except DataError as error:
            return str(error)
        return ""

    def class_counts(self) -> list[int]:
        """Pictures that hold each class; read from every mask."""
        return [int(n) for n in (self._pixels() > 0).sum(0)]

    def loss_counts(self) -> list[int]:
        """Pixels of each class in the whole set."""
        return [int(n) for n in self._pixels().sum(0)]

    def loss_total(self) -> int:
        """Labelled pixels of the whole set."""
        return int(self._pixels().sum())

    def picture_labels(self) -> list[tuple[int, ...]]:
        """The kinds of defect that each mask shows; good parts show none."""
        return [tuple(int(k) + 1 for k in np.flatnonzero(row[1:])) for row in self._pixels()]

    def _pixels(self) -> np.ndarray:
        """(N, K) pixels of each class in each picture; a mask that cannot be read counts none."""

        def count(index: int) -> np.ndarray:
            try:
                mask = self.mask_of(index)
            except DataError as error:
                logger.debug("not counted: {}", error)
                return np.zeros(len(self.classes), int)
            counts = np.bincount(mask.reshape(-1), minlength=IGNORE + 1)[: len(self.classes)]
            return counts * pixels_of(self.records[index].path) if mask.size == 1 else counts

        with ThreadPoolExecutor(4) as pool:
            return np.stack(list(pool.map(count, range(len(self)))))

    def summary(self) -> str:
        """One line; masks are not read for it."""
        clean = sum(1 for record in self.records if isinstance(record, SegRecord) and not record.files())
        without = f", {clean} of them without a mask (good parts)" if clean else ""
        return f"{counted(len(self), 'training picture')}{without}; classes: {', '.join(self.classes)}"


def pixels_of(path: str) -> int:
    """Pixels of a picture by its header; 0 where it has none that can be read."""
    height, width = read_hw(path) or (0, 0)
    return height * width


def with_background(names: Sequence[str], background: str = BACKGROUND) -> list[str]:
    """Class names with the background first."""
    return [background, *(name for name in names if name != background)]


def codec_of(
    mask_format: str, mask_values: Mapping[str, str] | None, classes: Sequence[str], where: str = "mask_values"
) -> MaskCodec:
    """The codec that a dataset's settings describe. Raises ConfigError for values of classes that do not exist."""
    table = {}
    for value, name in (mask_values or {}).items():
        if name not in classes and name != "ignore":
            raise ConfigError(Problem(where, f"'{name}' is not a class. {nearest(name, list(classes))}"))
        table[value] = IGNORE if name == "ignore" else list(classes).index(name)
    return MaskCodec(mask_format, len(classes), table or None)  # type: ignore[arg-type]


def format_problems(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
    """Mask settings that contradict each other."""
    kind, values = kwargs.get("mask_format", "index"), kwargs.get("mask_values")
    if kind == "values" and not values:
        example = '{"0": "background", "255": "scratch"} or {"#ff0000": "scratch"}'
        return [Problem(f"{where}.mask_values", f"is missing: which value is which class, e.g. {example}")]
    if values and kind != "values":
        return [Problem(f"{where}.mask_values", f'is for "mask_format": "values", not for "{kind}"')]
    wrong = [value for value in values or () if not _is_value(value)]
    return [
        Problem(f"{where}.mask_values", f"'{value}' is neither a grey level (0 to 65535) nor a colour like #ff0000")
        for value in wrong
    ]


def _is_value(text: str) -> bool:
    if text.startswith("#"):
        return len(text) == 7 and all(c in "0123456789abcdefABCDEF" for c in text[1:])
    return is_number(text) and int(text) <= 65535
