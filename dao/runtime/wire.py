"""Reading protobuf messages field by field, without a library: as much of it as looking into an ONNX file takes."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5  # how a field's value is written
FIXED = {EIGHT_BYTES: 8, FOUR_BYTES: 4}
LONGEST = 10  # bytes of a whole number

Value = int | memoryview


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """The number and the value of each field: whole numbers as they are, all else as bytes. Raises ValueError for what is
    no message."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        number, written = key >> 3, key & 7
        if written == VARINT:
            value, at = varint(message, at)
            yield number, value
            continue
        if written == BYTES:
            size, at = varint(message, at)
        elif written in FIXED:
            size = FIXED[written]
        else:
            raise ValueError(f"field {number} is written in no known way")
        if at + size > len(message):
            raise ValueError(f"field {number} is cut short")
        yield number, message[at : at + size]
        at += size


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """A whole number of seven bits a byte, and the place behind it."""
    value = 0
    for place, byte in enumerate(message[at : at + LONGEST]):
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, at + place + 1
    raise ValueError("a number has no end")


def varints(value: Value) -> Iterator[int]:
    """The numbers of a repeated field, packed or one by one."""
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        one, at = varint(value, at)
        yield one
