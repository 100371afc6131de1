"""Tables and figures as files: CSV that no spreadsheet runs, and PNG."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.utils import atomic
from dao.utils.number_text import number_rows
from dao.utils.printable import printable

# how a formula begins, in both widths; "-" alone is none
FORMULA = re.compile("\\s*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20].", re.DOTALL)


def write_csv(
    path: Path,
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    numbers: NDArray[np.float32] | Iterable[Sequence[Any]] | None = None,
) -> Path:
    """A CSV file, its cells made harmless. Raises RunError when the disk refuses.

    numbers: what ends the rows, and is no text that could harm, a row at a time: five million cells one by one take longer
    than the evaluation. (N, K) float32: with nine digits, which give the same float32 again.
    """
    with (
        atomic.replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(map(harmless, header))
        if numbers is None:
            writer.writerows(map(harmless, row) for row in rows)
            return path
        as_text = number_rows(numbers) if isinstance(numbers, np.ndarray) else (",".join(map(str, n)) for n in numbers)
        first = csv.writer(file, lineterminator=",")
        for row, text in zip(rows, as_text, strict=True):
            first.writerow(map(harmless, row))
            file.write(text + "\r\n")
    return path


def harmless(cell: Any) -> Any:
    """A cell that no spreadsheet runs and no terminal obeys: text that would begin a formula (a file's name can) gets an
    apostrophe before it, control characters are written out; bytes that are no UTF-8 stay, so that a name can be opened."""
    if not isinstance(cell, str):
        return cell
    cell = printable(cell, bytes_too=False)
    if not FORMULA.match(cell):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure of its own, in inches; no pyplot, so nothing global and no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path) -> Path:
    """Write a figure as PNG. Raises RunError when the disk refuses."""
    import warnings

    with atomic.replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # dao.utils.text has said so
        figure.savefig(temporary, dpi=120, format="png")
    return path
