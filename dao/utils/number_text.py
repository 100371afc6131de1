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


def number_rows(numbers: NDArray[np.float32]) -> Iterator[str]:
    """The rows of a table (N, K), each number of nine significant digits, with commas between: read as float32 they are
    the same again."""
    if numbers.size < MANY or numbers.dtype != np.float32 or not (numbers >= 0).all() or not np.isfinite(numbers).all():
        form = ",".join(["%.9g"] * numbers.shape[1])
        yield from (form % tuple(row.tolist()) for row in numbers)
        return
    rows = max(1, BLOCK // numbers.shape[1])
    for top in range(0, len(numbers), rows):
        yield from _block(numbers[top : top + rows])


def _block(numbers: NDArray[np.float32]) -> list[str]:
    """numbers: (R, K), none negative."""
    values = numbers.astype(np.float64).ravel()
    powers = np.floor(np.log10(np.where(values > 0, values, 1.0))).astype(np.int64)
    digits = np.rint(values * SCALES[powers - SMALLEST]).astype(np.int64)
    over = digits >= 10**DIGITS  # rounded up to the next power of ten
    digits[over] //= 10
    powers += over
    text = np.empty(values.size, CELL)
    first, rest = np.divmod(digits.astype(np.uint32), 10 ** (DIGITS - 1))
    text["comma"], text["dot"], text["first"] = ord(","), ord("."), first + ord("0")
    text["high"], text["low"] = FOUR[rest // 10_000], FOUR[rest % 10_000]
    text["exponent"] = EXPONENTS[powers - SMALLEST]
    whole, width = text.tobytes().decode("ascii"), CELL.itemsize * numbers.shape[1]
    return [whole[start + 1 : start + width] for start in range(0, len(whole), width)]
