"""One picture file to pixels: (H, W, C) uint8, whatever the format, bit depth, colour model or orientation."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.errors import DataError
from dao.images import decoding_budget
from dao.images.embedded import unwrapped
from dao.images.files import open_file, read_file
from dao.images.picture_head import (
    LABS,
    PHOTOMETRIC,
    RGB,
    SAMPLES,
    TURNED,
    WHITE_IS_ZERO,
    FileData,
    Head,
    head_of,
    overlong_chunk,
)

IMAGE_EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".jp2",
    ".pgm", ".ppm", ".pbm", ".pnm",
)  # fmt: skip
# pictures too, by their names, that are not read: never passed over in silence
OTHER_PICTURES = (
    ".heic", ".heif", ".avif", ".jxl", ".tga", ".psd", ".svg", ".exr", ".hdr", ".raw", ".dng", ".cr2", ".cr3", ".nef",
    ".arw", ".orf", ".rw2", ".raf", ".dcm", ".j2k", ".jpf", ".jpx",
)  # fmt: skip

MAX_PIXELS = 2**28  # 16384 x 16384, or a line-scan camera's 8192 x 32768; 0.8 GB of RGB
MAX_PIXELS_VARIABLE = "AICORE_MAX_PIXELS"

PNG = b"\x89PNG\r\n\x1a\n"
# what ends a complete PNG: the IEND chunk with its checksum
_PNG_END = b"IEND\xaeB`\x82"
_EXIF_ORIENTATION = 0x0112
_JPEG_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length field

# the decoders' own remarks go to stderr without a file name; the reason is in our DataError instead
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_image(path: str | Path, in_channels: int = 3, bit_depth: int = 16) -> NDArray[np.uint8]:
    """Decode a picture, turned upright by its EXIF orientation.

    in_channels: 3 gives RGB, 1 gives grey; alpha is dropped.
    bit_depth: significant bits of 16-bit files; they are shifted down to 8 bits, brighter values are clipped.
    Returns (H, W, in_channels) uint8. Raises DataError naming path and reason when it cannot be read whole.
    """
    return decode_image(read_file(path), path, in_channels, bit_depth)


def read_hw(path: str | Path) -> tuple[int, int] | None:
    """Height and width of a picture as `read_image` would give it, from the file's head; None if that cannot be read."""
    try:
        with open_file(path) as file:
            data = _head_data(file, path)
            head = head_of(data)
            return head.upright_hw if head else _hw_by_pillow(io.BytesIO(data) if isinstance(data, bytes) else file)
    except (DataError, OSError, ValueError):  # reading the whole picture will say what is wrong
        return None


def read_head(path: str | Path) -> Head | None:
    """What a picture's first bytes say; None where it is of another kind, or cannot be read."""
    try:
        with open_file(path) as file:
            return head_of(_head_data(file, path))
    except (DataError, OSError, ValueError):
        return None


def _head_data(file: BinaryIO, path: str | Path) -> bytes | FileData:
    """What a head is read from: the file, or the picture that a JSON file holds."""
    data = FileData(file)
    return unwrapped(data[:], path) if data[:1] == b"{" else data


def _hw_by_pillow(file: BinaryIO) -> tuple[int, int] | None:
    """Height and width of kinds that `head_of` does not know; None where Pillow does not either."""
    from PIL import Image

    try:
        file.seek(0)
        with Image.open(file) as opened:
            width, height = opened.size
            turned = opened.getexif().get(_EXIF_ORIENTATION, 1) in TURNED
    except Exception:  # Pillow raises many kinds
        return None
    return (width, height) if turned else (height, width)


def decode_image(data: bytes, path: str | Path, in_channels: int = 3, bit_depth: int = 16) -> NDArray[np.uint8]:
    """`read_image` of a file's bytes; ``path`` is for messages."""
    return to_uint8(decode_all_bits(data, path, in_channels), path, in_channels, bit_depth)


def decode_all_bits(data: bytes, path: str | Path, in_channels: int = 3) -> NDArray[np.generic]:
    """A file's pixels, upright, RGB or grey, at the bit depth that they have in the file.

    Returns (H, W, 3) or (H, W). Raises DataError naming path and reason when they cannot be had whole.
    """
    data = unwrapped(data, path)
    damage = find_damage(data)
    if damage:
        raise DataError(f"{path}: {damage}")
    head = head_of(data)
    refuse_unfit(data, path, head)
    if head is None or _is_for_pillow(head):
        return _decode_by_pillow(data, path, in_channels)
    return _decode(data, path, in_channels)


def refuse_unfit(data: bytes, path: str | Path, head: Head | None) -> None:
    """Raise DataError, before anything is decoded, for more pixels than are allowed and for kinds that would come wrong.

    A large picture waits here for its share of the memory, see `decoding_budget`.
    """
    height, width = (head.hw if head else _hw_by_pillow(io.BytesIO(data))) or (0, 0)
    if height * width > max_pixels():
        raise DataError(
            f"{path}: claims {width} x {height} = {height * width:,} pixels, more than the {max_pixels():,} that are read. "
            'If that is its true size, set "limits": {"max_pixels": ...} in the config'
        )
    if data.startswith(PNG) and (damage := overlong_chunk(data)):
        raise DataError(f"{path}: {damage}")
    tags = (head.tags if head else None) or {}
    if tags.get(PHOTOMETRIC) in LABS:
        raise DataError(f"{path}: its colours are CIE L*a*b*, which is not read; save it as RGB")
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO and head is not None and head.bits > 8:
        raise DataError(f"{path}: its {head.bits}-bit values count from white to black; save it with black as 0")
    decoding_budget.take(height * width)


def _is_for_pillow(head: Head) -> bool:
    """Whether OpenCV would blend what is to be dropped: the alpha of a TIFF."""
    tags = head.tags or {}
    return tags.get(PHOTOMETRIC) == RGB and tags.get(SAMPLES, 3) == 4 and head.bits == 8


def max_pixels() -> int:
    """Pixels that a picture may have: ``limits.max_pixels`` of the config, which the environment hands to all processes."""
    return int(os.environ.get(MAX_PIXELS_VARIABLE, MAX_PIXELS))


def find_damage(data: bytes) -> str:
    """Why the bytes of a picture file are not a whole file, or "" when nothing speaks against it.

    Decoders fill what is missing with grey and call it a picture (OpenCV 4 does for JPEG), so the container is
    asked first. Costs microseconds: ends are looked at, pixels are not.
    """
    if not data:
        return "the file is empty"
    if data.startswith(b"\xff\xd8") and not _jpeg_is_complete(data):
        return "truncated JPEG: the end-of-image marker is missing"
    if data.startswith(b"\x89PNG") and not data.endswith(_PNG_END) and _PNG_END not in data:
        return "truncated PNG: the IEND chunk is missing"
    if data.startswith(b"RIFF") and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        return "truncated WebP: the file is shorter than its header says"
    if data.startswith(b"BM") and len(data) < int.from_bytes(data[2:6], "little"):
        return "truncated BMP: the file is shorter than its header says"
    return ""


def _jpeg_is_complete(data: bytes) -> bool:
    if data.endswith(b"\xff\xd9"):
        return True
    # some cameras append their own data, and an embedded thumbnail ends with the same marker: look after the scan
    start = _jpeg_scan_start(data)
    return start > 0 and data.find(b"\xff\xd9", start) > 0


def _jpeg_scan_start(data: bytes) -> int:
    """Where the first scan of the main picture starts (after its header segments), or -1."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:
            return at
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _JPEG_STANDALONE:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return -1


def _decode(data: bytes, path: str | Path, in_channels: int) -> NDArray[np.generic]:
    color = cv2.IMREAD_COLOR if in_channels == 3 else cv2.IMREAD_GRAYSCALE
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), color | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise DataError(f"{path}: {error.err}") from None
    if image is None:
        return _decode_by_pillow(data, path, in_channels)
    if image.ndim == 2:
        return image
    # OpenCV has no conversion for signed and wide values; what cannot be read is said by `to_uint8`
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.dtype in (np.uint8, np.uint16) else image[..., ::-1]


def _decode_by_pillow(data: bytes, path: str | Path, in_channels: int) -> NDArray[np.generic]:
    """Formats that this OpenCV build does not know (rare CMYK and TIFF kinds); slower, as complete."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as opened:
            return pixels_of_pillow(opened, path, in_channels)
    except DataError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        reason = "not a picture, or a damaged one" if "cannot identify" in str(error) else str(error)
        raise DataError(f"{path}: {reason} ({len(data)} bytes)") from None


def pixels_of_pillow(opened: Any, path: str | Path, in_channels: int) -> NDArray[np.generic]:
    """The pixels of Pillow's Image, upright, RGB or grey: as `decode_all_bits`. path: for messages."""
    from PIL import ImageOps

    image = ImageOps.exif_transpose(opened)
    if image.mode in ("F", "I"):
        kind = "float" if image.mode == "F" else "32-bit"
        raise DataError(f"{path}: {_no_range(kind)}")
    if image.mode == "LAB":
        raise DataError(f"{path}: its colours are CIE L*a*b*, which is not read; save it as RGB")
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode == "RGBA":  # dropped, not blended
        image = image.convert("RGB")
    return np.asarray(image.convert("RGB" if in_channels == 3 else "L"))


def _no_range(kind: str) -> str:
    return (
        f"{kind} pixels have no fixed range from black to white, so 8 bits cannot be taken from them; "
        "save it as 8- or 16-bit"
    )


def to_uint8(
    image: NDArray[np.generic], path: str | Path, in_channels: int = 3, bit_depth: int = 16
) -> NDArray[np.uint8]:
    """What `decode_all_bits` gave as (H, W, in_channels) uint8. Raises DataError for pixels without a fixed range."""
    if image.dtype == np.uint16:
        image = np.minimum(image >> (bit_depth - 8), 255).astype(np.uint8)
    if image.dtype != np.uint8:
        raise DataError(f"{path}: {_no_range(str(image.dtype))}")
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], in_channels, axis=2)
    return image  # type: ignore[return-value]


def turn(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels (H, W) or (H, W, C) as stored, turned upright as EXIF means an orientation (1 to 8)."""
    if orientation in TURNED:
        pixels = np.swapaxes(pixels, 0, 1)
    upside_down, mirrored = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    pixels = pixels[::-1] if upside_down else pixels
    return np.ascontiguousarray(pixels[:, ::-1] if mirrored else pixels)


def is_image_name(name: str, extensions: tuple[str, ...] = IMAGE_EXTENSIONS) -> bool:
    """Whether a file of this name is taken for a picture: a known extension, and not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in extensions  # noqa: PTH122 (hot)
