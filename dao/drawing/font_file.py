"""Which characters a font file has, read from its own table of them: of TrueType, OpenType and collections of them."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path

COLLECTION = b"ttcf"  # of several fonts in one file, of which the first counts
UNICODE, WINDOWS = 0, 3  # platforms whose tables are by Unicode
WINDOWS_UNICODE = (1, 10)
LARGEST = 1 << 27  # bytes of a font file that is looked at
MOST = 0x110000  # characters of Unicode


@cache
def characters(path: Path) -> frozenset[int]:
    """Code points that a font file has; empty when it cannot be read."""
    try:
        if path.stat().st_size > LARGEST:
            return frozenset()
        return frozenset(_read(path.read_bytes()))
    except (OSError, struct.error, IndexError, ValueError):
        return frozenset()


def _read(data: bytes) -> set[int]:
    start = struct.unpack_from(">I", data, 12)[0] if data[:4] == COLLECTION else 0
    (count,) = struct.unpack_from(">H", data, start + 4)
    for i in range(count):
        tag, _, offset, _ = struct.unpack_from(">4sIII", data, start + 12 + 16 * i)
        if tag == b"cmap":
            return _of_cmap(data, offset)
    return set()


def _of_cmap(data: bytes, cmap: int) -> set[int]:
    """The union of the font's tables by Unicode."""
    (count,) = struct.unpack_from(">H", data, cmap + 2)
    found: set[int] = set()
    for i in range(count):
        platform, encoding, offset = struct.unpack_from(">HHI", data, cmap + 4 + 8 * i)
        if platform == UNICODE or (platform == WINDOWS and encoding in WINDOWS_UNICODE):
            at = cmap + offset
            (form,) = struct.unpack_from(">H", data, at)
            found |= _segments(data, at) if form == 4 else _groups(data, at) if form == 12 else set()
    return found


def _segments(data: bytes, at: int) -> set[int]:
    """Format 4: stretches of 16-bit codes. A glyph of 0 is none."""
    count = struct.unpack_from(">H", data, at + 6)[0] // 2
    ends, starts, deltas, offsets = (
        struct.unpack_from(f">{count}H", data, at + place)
        for place in (14, 16 + 2 * count, 16 + 4 * count, 16 + 6 * count)
    )
    found: set[int] = set()
    for i, (first, last, delta, offset) in enumerate(zip(starts, ends, deltas, offsets)):
        if first == 0xFFFF:
            continue
        if offset == 0:
            found.update(code for code in range(first, last + 1) if (code + delta) & 0xFFFF)
            continue
        glyphs = at + 16 + 6 * count + 2 * i + offset
        for code in range(first, last + 1):
            (glyph,) = struct.unpack_from(">H", data, glyphs + 2 * (code - first))
            if glyph and (glyph + delta) & 0xFFFF:
                found.add(code)
    return found


def _groups(data: bytes, at: int) -> set[int]:
    """Format 12: stretches of codes of any size."""
    (count,) = struct.unpack_from(">I", data, at + 12)
    found: set[int] = set()
    for i in range(count):
        first, last, glyph = struct.unpack_from(">III", data, at + 16 + 12 * i)
        if last >= MOST or len(found) > MOST:
            raise ValueError("no table of characters")
        found.update(range(first + (glyph == 0), last + 1))
    return found
