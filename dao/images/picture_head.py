"""What the first bytes of a picture file say of it: its size, how it is turned, how many pages, of what kind its pixels are.

Decoders are asked for pixels only after this has been looked at: a file of a few bytes may claim a picture of gigabytes,
and what a decoder makes of rare kinds (LAB, pages, masks that a camera turned) is not always what is in the file.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

BLOCK = 2**14  # bytes that are read at once
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width
_ORIENTATION = 0x0112
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length field
_MAX_PAGES = 10_000  # of a TIFF; a chain of them may be a circle
_PNM = re.compile(rb"P([1-6])(?:\s|#[^\n]*\n)+(\d{1,10})(?:\s|#[^\n]*\n)+(\d{1,10})(?:(?:\s|#[^\n]*\n)+(\d{1,5}))?")
# tag type -> its struct letter
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q"}
_REDUCED = 1  # bit of NewSubfileType: a page that is a thumbnail of another

WIDTH, HEIGHT, BITS, PHOTOMETRIC, SAMPLES, SUBFILE = 256, 257, 258, 262, 277, 254
_WANTED = {WIDTH, HEIGHT, BITS, PHOTOMETRIC, SAMPLES, SUBFILE, _ORIENTATION}
WHITE_IS_ZERO, RGB, LABS = 0, 2, (8, 9, 10)


class FileData:
    """The bytes of an open file, read in blocks as they are asked for, so that a head costs no whole file.

    Not a memory map: a file that somebody shortens meanwhile would end the process.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.start, self.block = file, 0, b""
        self.size = file.seek(0, os.SEEK_END)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, place: int | slice) -> Any:
        """A byte's value, or the bytes of a slice without a step; fewer where the file ends."""
        if isinstance(place, int):
            return self._read(place, 1)[0]
        first, last, _ = place.indices(self.size)
        return self._read(first, max(0, last - first))

    def find(self, needle: bytes) -> int:
        """Where bytes begin, looked for in the file's first block."""
        return self._read(0, min(self.size, BLOCK)).find(needle)

    def _read(self, first: int, count: int) -> bytes:
        if not (self.start <= first and first + count <= self.start + len(self.block)):
            self.file.seek(first)
            self.start, self.block = first, self.file.read(max(count, BLOCK))
        return self.block[first - self.start : first - self.start + count]


Data = bytes | FileData


@dataclass(slots=True)
class Head:
    """kind: "JPEG", "PNG", ...; hw: height and width as stored; orientation: EXIF's, 1 (upright) to 8.

    bits: of a value; pages: pictures in the file; tags: of a TIFF's first page, by number, their first values.
    """

    kind: str
    hw: tuple[int, int]
    orientation: int = 1
    bits: int = 8
    pages: int = 1
    tags: dict[int, int] | None = None

    @property
    def upright_hw(self) -> tuple[int, int]:
        """Height and width once it is turned as its orientation says."""
        return (self.hw[1], self.hw[0]) if self.orientation in TURNED else self.hw


def head_of(data: Data) -> Head | None:
    """The head of a picture of a kind that is known here; None for others, and for what is too damaged to tell."""
    start = bytes(data[:16])
    for magic, read in _READERS:
        if start.startswith(magic):
            try:
                head = read(data)
            except (struct.error, IndexError, ValueError, KeyError):
                return None
            return head if head is not None and min(head.hw) > 0 else None
    return None


def _png(data: Data) -> Head:
    width, height, bits = struct.unpack(">IIB", data[16:25])
    head = Head("PNG", (height, width), bits=bits)
    for name, at, length in _png_chunks(data):
        if name == b"eXIf":
            head.orientation = _exif_orientation(bytes(data[at : at + length]))
        elif name == b"acTL":
            head.pages = max(1, struct.unpack(">I", data[at : at + 4])[0])
    return head


def overlong_chunk(data: Data) -> str:
    """What is wrong with a PNG of which a chunk claims more bytes than the file has; "" where none does.

    OpenCV makes room for a chunk before it looks for its bytes: 2 GiB, of a file of 70 bytes.
    """
    at, size = 8, len(data)
    while at + 8 <= size:
        length, name = struct.unpack(">I4s", data[at : at + 8])
        if at + 12 + length > size:
            return f"damaged PNG: one of its chunks claims {length:,} bytes, and the file has {size:,}"
        if name == b"IEND":
            break
        at += 12 + length
    return ""


def _png_chunks(data: Data) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and length of every chunk; those of pixels are stepped over unread."""
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield bytes(data[at + 4 : at + 8]), at + 8, length
        at += 12 + length


def _jpeg(data: Data) -> Head | None:
    orientation, at = 1, 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _JPEG_STANDALONE:
            at += 2
            continue
        if marker in _START_OF_FRAME:
            bits, height, width = struct.unpack(">BHH", data[at + 4 : at + 9])
            return Head("JPEG", (height, width), orientation, bits)
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _exif_orientation(bytes(data[at + 10 : at + 2 + length]))
        at += 2 + length
    return None


def _exif_orientation(block: bytes) -> int:
    """1 to 8, 1 where a block of EXIF does not say."""
    block = block.removeprefix(b"Exif\0\0")
    try:
        value = next(_tiff_pages(block))[0].get(_ORIENTATION, 1)
    except (StopIteration, struct.error, ValueError, KeyError):
        return 1
    return value if 1 <= value <= 8 else 1


def _tiff(data: Data) -> Head | None:
    head, pages = None, 0
    for tags, _ in _tiff_pages(data):
        if head is None:
            orientation = tags.get(_ORIENTATION, 1)
            head = Head("TIFF", (tags[HEIGHT], tags[WIDTH]), orientation if 1 <= orientation <= 8 else 1)
            head.bits, head.tags = tags.get(BITS, 1), tags
        pages += not tags.get(SUBFILE, 0) & _REDUCED
    if head is not None:
        head.pages = max(1, pages)
    return head


def _tiff_pages(data: Data) -> Iterator[tuple[dict[int, int], int]]:
    """The tags of each page of a TIFF (first values of whole numbers), and where it lies."""
    order = {b"II": "<", b"MM": ">"}[bytes(data[:2])]
    big = struct.unpack(order + "H", data[2:4])[0] == 43
    offset, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    wide, many = struct.calcsize(offset), struct.calcsize(count)
    first = 8 if big else 4
    at, seen = struct.unpack(order + offset, data[first : first + wide])[0], set()
    while at and at not in seen and len(seen) < _MAX_PAGES and at + many <= len(data):
        seen.add(at)
        entries = struct.unpack(order + count, data[at : at + many])[0]
        end = at + many + entries * entry
        if end > len(data):
            return
        yield dict(_tiff_tags(data, order, offset, range(at + many, end, entry))), at
        at = struct.unpack(order + offset, data[end : end + wide])[0] if end + wide <= len(data) else 0


def _tiff_tags(data: Data, order: str, offset: str, places: range) -> Iterator[tuple[int, int]]:
    wide = struct.calcsize(offset)
    entries = struct.iter_unpack(f"{order}HH{offset}{wide}s", bytes(data[places.start : places.stop]))
    for tag, kind, number, value in entries:
        letter = _TIFF_TYPES.get(kind)
        if letter is None or tag not in _WANTED:
            continue
        size = struct.calcsize(letter)
        if number * size > wide:  # the values lie elsewhere
            at = struct.unpack(order + offset, value)[0]
            value = data[at : at + size]
        if number and len(value) >= size:
            yield tag, struct.unpack(order + letter, value[:size])[0]


def _bmp(data: Data) -> Head:
    if struct.unpack("<I", data[14:18])[0] == 12:
        width, height = struct.unpack("<HH", data[18:22])
    else:
        width, height = struct.unpack("<ii", data[18:26])
    return Head("BMP", (abs(height), abs(width)))


def _gif(data: Data) -> Head:
    width, height = struct.unpack("<HH", data[6:10])
    return Head("GIF", (height, width), pages=max(1, _gif_frames(data)))


def _gif_frames(data: Data) -> int:
    """Pictures in a GIF, by stepping from block to block."""
    at, frames = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0), 0
    while at < len(data) and data[at] in (0x21, 0x2C):
        if data[at] == 0x2C:
            frames += 1
            packed = data[at + 9]
            at += 10 + (3 << (packed & 7) + 1 if packed & 0x80 else 0) + 1
        else:
            at += 2
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1
    return frames


def _webp(data: Data) -> Head | None:
    kind = bytes(data[12:16])
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return Head("WEBP", (height & 0x3FFF, width & 0x3FFF))
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return Head("WEBP", ((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1))
    if kind != b"VP8X":
        return None
    size = int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    head, at, frames = Head("WEBP", (size[1], size[0])), 12, 0
    while at + 8 <= len(data):
        name, length = bytes(data[at : at + 4]), int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"EXIF":
            head.orientation = _exif_orientation(bytes(data[at + 8 : at + 8 + length]))
        frames += name == b"ANMF"
        at += 8 + length + length % 2
    head.pages = max(1, frames)
    return head


def _jpeg_2000(data: Data) -> Head | None:
    at = data.find(b"\xff\x4f\xff\x51")  # of the codestream, which is what is decoded, whatever boxes say
    if at < 0:
        return None
    right, bottom, left, top = struct.unpack(">IIII", data[at + 8 : at + 24])
    return Head("JPEG 2000", (bottom - top, right - left), bits=(data[at + 42] & 0x7F) + 1)


def _pnm(data: Data) -> Head | None:
    found = _PNM.match(bytes(data[:4096]))
    if found is None:
        return None
    levels = int(found[4]) if found[4] and found[1] not in (b"1", b"4") else 255
    return Head("PNM", (int(found[3]), int(found[2])), bits=16 if levels > 255 else 8)


_READERS: tuple[tuple[bytes, Callable[[Data], Head | None]], ...] = (
    (b"\xff\xd8", _jpeg), (b"\x89PNG\r\n\x1a\n", _png), (b"BM", _bmp), (b"II*\0", _tiff), (b"MM\0*", _tiff),
    (b"II+\0", _tiff), (b"MM\0+", _tiff), (b"RIFF", _webp), (b"GIF8", _gif), (b"\0\0\0\x0cjP  ", _jpeg_2000),
    (b"\xff\x4f\xff\x51", _jpeg_2000), *((b"P%d" % n, _pnm) for n in range(1, 7)),
)  # fmt: skip
