"""Tables of float32 as text, all digits of a block of rows at once: of a thousand classes Python's own takes longer than
the evaluation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

MANY = 100_000  # numbers of a table, from which on it is written by the block, as 1.23456789e-04
BLOCK = 200_000  # numbers of a block
DIGITS = 9  # significant ones, which tell every float32 from its neighbours
SMALLEST, LARGEST = -46, 39  # exponents of ten of float32
# a cell as its bytes lie in memory: ",", the first digit, ".", eight more, the exponent
CELL = np.dtype([("comma", "u1"), ("first", "u1"), ("dot", "u1"), ("high", "u4"), ("low", "u4"), ("exponent", "u4")])
FOUR = np.frombuffer("".join(f"{i:04}" for i in range(10_000)).encode(), np.uint32)
EXPONENTS = np.frombuffer("".join(f"e{i:+03}" for i in range(SMALLEST, LARGEST + 1)).encode(), np.uint32)
SCALES = 10.0 ** (DIGITS - 1 - np.arange(SMALLEST, LARGEST + 1))
# by the exponent of two, which stands in the upper bits of a float32: the lower of the two exponents of ten that its numbers
# may have, and where the other begins (LOWER as places in `SCALES`)
LOWER = np.floor((np.arange(256) - 127) * np.log10(2.0)).astype(np.intp) - SMALLEST
NEXT = 10.0 ** (LOWER + SMALLEST + 1)


def number_rows(numbers: NDArray[np.float32]) -> Iterator[bytes | memoryview]:
    """The rows of a table (N, K) in ASCII, each number of nine significant digits, with commas between: read as float32 they
    are the same again."""
    if numbers.size < MANY or numbers.dtype != np.float32 or not (numbers >= 0).all() or not np.isfinite(numbers).all():
        form = ",".join(["%.9g"] * numbers.shape[1])
        yield from ((form % tuple(row.tolist())).encode("ascii") for row in numbers)
        return
    rows = max(1, BLOCK // numbers.shape[1])
    for top in range(0, len(numbers), rows):
        yield from _block(numbers[top : top + rows])


def _block(numbers: NDArray[np.float32]) -> list[memoryview]:
    """numbers: (R, K), none negative."""
    values = numbers.astype(np.float64).ravel()
    places = _exponents(np.ascontiguousarray(numbers).ravel(), values)
    digits = np.rint(values * SCALES[places]).astype(np.uint32)
    over = digits >= 10**DIGITS  # rounded up to the next power of ten
    if over.any():
        digits[over] //= 10
        places += over
    text = np.empty(values.size, CELL)
    first = digits // 10 ** (DIGITS - 1)
    rest = digits - first * np.uint32(10 ** (DIGITS - 1))
    high = rest // 10_000
    text["comma"], text["dot"], text["first"] = ord(","), ord("."), first + ord("0")
    text["high"], text["low"], text["exponent"] = FOUR[high], FOUR[rest - high * np.uint32(10_000)], EXPONENTS[places]
    rows = text.view(np.uint8).reshape(len(numbers), -1)
    return [memoryview(row[1:]) for row in rows]


def _exponents(numbers: NDArray[np.float32], values: NDArray[np.float64]) -> NDArray[np.intp]:
    """The exponents of ten of numbers, which ``values`` holds as float64, as places in `SCALES`."""
    binary = (numbers.view(np.uint32) >> 23).astype(np.intp)
    places = LOWER[binary] + (values >= NEXT[binary])
    small = np.flatnonzero(binary == 0)  # 0, and numbers so small that these bits say nothing of them
    if len(small):
        tiny = values[small]
        places[small] = np.floor(np.log10(np.where(tiny > 0, tiny, 1.0))).astype(np.intp) - SMALLEST
    return places
