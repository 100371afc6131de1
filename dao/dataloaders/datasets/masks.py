"""Masks as they come: indexed palettes, grey class indices, 0/255, colours, one file per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.errors import DataError
from dao.images.files import read_file
from dao.images.image_io import refuse_unfit, turn
from dao.images.picture_head import head_of

IGNORE = 255  # the mask value of pixels that count for nothing
BINARY_THRESHOLD = 128  # masks saved as JPEG, or scaled, have grey edges
LOSSY, LOSSY_NOISE = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp"), 16  # black is not quite 0 in files of these kinds
PNG_PALETTE = 3  # colour type in a PNG's header
INDEXING = ("PNG", "BMP", "TIFF")  # kinds whose pixels may be indices of few bits, or of a palette
OR_INDEX = 'If its values are class indices, set "mask_format": "index"; else save its marks as 255'
MaskFormat = Literal["index", "binary", "values"]
Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class MaskCodec:
    """How the values of mask files become class indices.

    kind: "index": the value is the class's place in the list, 255 is unlabelled; "binary": from 128 up it is a defect,
        of the one class there is or of the one its record names; "values": a table of values and classes.
    values: for "values": grey level, or "#rrggbb", -> class index.
    """

    kind: MaskFormat
    num_classes: int
    values: Mapping[str, int] | None = None

    def decode(self, raw: NDArray[Any], path: str, defect: int = 1) -> Mask:
        """(H, W) uint8 class indices of a file's pixels. defect: the class that a binary mask marks.

        Raises DataError for values that mean no class.
        """
        if self.kind == "values":
            return self._by_table(raw, path)
        grey = raw if raw.ndim == 2 else _one_channel(raw, path)
        if self.kind == "binary":
            refuse_faint(grey, path)
            return np.where(grey >= BINARY_THRESHOLD, np.uint8(defect), np.uint8(0))
        self._refuse_strange(grey, path)
        return grey.astype(np.uint8)

    def _refuse_strange(self, grey: NDArray[Any], path: str) -> None:
        found = np.flatnonzero(np.bincount(grey.reshape(-1), minlength=IGNORE + 1))
        strange = [int(v) for v in found if v >= self.num_classes and v != IGNORE]
        if strange:
            values = ", ".join(map(str, strange[:8])) + (", ..." if len(strange) > 8 else "")
            hint = ""
            if len(strange) > 8 or strange == [IGNORE]:
                hint = '; grey edges come from scaling or JPEG: "mask_format": "binary" cuts at 128'
            raise DataError(
                f"{path}: the mask has the values {values}, and there are {self.num_classes} classes "
                f"(0 to {self.num_classes - 1}; {IGNORE} is unlabelled){hint}"
            )

    def _by_table(self, raw: NDArray[Any], path: str) -> Mask:
        mask = np.zeros(raw.shape[:2], np.uint8)
        known = np.zeros(raw.shape[:2], bool)
        for value, index in (self.values or {}).items():
            same = _equals(raw, value)
            mask[same] = index
            known |= same
        if not known.all():
            y, x = np.argwhere(~known)[0]
            found = raw[y, x].tolist()
            raise DataError(
                f"{path}: the mask has the value {found} (at x {x}, y {y}), which mask_values does not list"
            )
        return mask


def refuse_faint(grey: NDArray[Any], path: str, advice: str = OR_INDEX) -> None:
    """Raise DataError for a mask that marks something, none of which counts: its picture would pass for a good part."""
    brightest = int(grey.max()) if grey.size else 0
    noise = LOSSY_NOISE if path.lower().endswith(LOSSY) else 0
    if noise < brightest < BINARY_THRESHOLD:
        raise DataError(
            f"{path}: the mask has values up to {brightest}, and as a 0/255 mask none from {BINARY_THRESHOLD} up, so nothing "
            f"is marked. {advice}"
        )


def _equals(raw: NDArray[Any], value: str) -> NDArray[np.bool_]:
    if value.startswith("#"):
        colour = [int(value[i : i + 2], 16) for i in (1, 3, 5)]
        return (raw == colour[0]) if raw.ndim == 2 and len(set(colour)) == 1 else (_rgb(raw) == colour).all(-1)
    return (raw if raw.ndim == 2 else _rgb(raw)[..., 0]) == int(value)


def _rgb(raw: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(raw[..., None], 3, axis=-1) if raw.ndim == 2 else raw[..., :3]


def _one_channel(raw: NDArray[Any], path: str) -> NDArray[Any]:
    first = raw[..., 0]
    if any(not np.array_equal(first, raw[..., c]) for c in range(1, min(3, raw.shape[-1]))):
        raise DataError(
            f"{path}: the mask is in colours; say which colour is which class: "
            '"mask_format": "values", "mask_values": {"#ff0000": "scratch", ...}'
        )
    return first


def read_raw_mask(path: str, indices: bool = False) -> NDArray[Any]:
    """A mask file's values: (H, W), the indices of a palette rather than its colours; or (H, W, 3) RGB.

    indices: the values are class indices, so that 1 bit counts 0 and 1, not black and white, and the palettes of BMP and
    TIFF are looked through as those of PNG and GIF are.
    Raises DataError when it is missing or cannot be read.
    """
    try:
        data = read_file(path)
    except DataError as error:
        raise DataError(f"{path}: the mask cannot be read: {str(error).removeprefix(f'{path}: ')}") from None
    head = head_of(data)
    refuse_unfit(data, path, head)
    raw = _indices_of_palette(data, path) if _has_palette(data) else None
    if raw is None and indices and head is not None and head.kind in INDEXING:
        raw = _indices_of_bits(data)
    if raw is None:
        packed = np.frombuffer(data, np.uint8)
        raw = cv2.imdecode(packed, cv2.IMREAD_UNCHANGED) if packed.size else None
    if raw is None:
        raise DataError(f"{path}: the mask cannot be decoded; the file is damaged or no picture")
    if raw.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path}: the mask has {raw.dtype} values; save it with 8 or 16 bits")
    _refuse_in_alpha(raw, path)
    if raw.ndim == 3:
        raw = raw[..., 2::-1] if raw.shape[-1] >= 3 else raw[..., 0]
    # a camera's orientation is left to us in this way of reading, but for TIFF
    return turn(raw, head.orientation) if head is not None and head.kind != "TIFF" else raw


def _refuse_in_alpha(raw: NDArray[Any], path: str) -> None:
    """Raise DataError for marks that are in the transparency alone, which is not looked at."""
    if raw.ndim == 3 and raw.shape[-1] == 4:
        alpha, colours = raw[..., 3], raw[..., :3]
        if alpha.min() != alpha.max() and (colours == colours[0, 0]).all():
            raise DataError(
                f"{path}: the mask is marked in its transparency alone; save it without, marks in white on black"
            )


def _has_palette(data: bytes) -> bool:
    return (data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 25 and data[25] == PNG_PALETTE) or data[:3] == b"GIF"


def _indices_of_palette(data: bytes, path: str) -> NDArray[Any] | None:
    """OpenCV would give the palette's colours."""
    import io

    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            return np.array(picture) if picture.mode == "P" else None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: the mask cannot be decoded: {error}") from None


def _indices_of_bits(data: bytes) -> NDArray[Any] | None:
    """The indices of 1 bit, or of another kind's palette; None for masks without, and for those that OpenCV alone knows."""
    import io

    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            return np.array(picture).astype(np.uint8) if picture.mode in ("P", "1") else None
    except (OSError, SyntaxError, ValueError):
        return None


def refuse_other_size(mask: NDArray[Any], hw: tuple[int, int], path: str, picture: str) -> None:
    """Raise DataError unless a mask has its picture's size: scaled to fit, it would lie beside the defects."""
    if mask.shape[:2] != hw:
        sizes = f"{mask.shape[1]}x{mask.shape[0]} pixels, its picture {picture} {hw[1]}x{hw[0]}"
        raise DataError(f"{path}: the mask is {sizes}")


def merge_classes(layers: Sequence[tuple[int, NDArray[np.bool_]]], hw: tuple[int, int]) -> Mask:
    """(H, W) class indices of several regions; where they overlap the later one is seen."""
    mask = np.zeros(hw, np.uint8)
    for index, region in layers:
        mask[region] = index
    return mask
