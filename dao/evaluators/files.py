"""Tables and figures as files: CSV that no spreadsheet runs, and PNG."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dao.files import atomic
from dao.words.number_text import number_rows
from dao.words.printable import printable

DPI = 120  # of figures
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
    lines = io.StringIO(newline="")
    with atomic.replacing(path) as temporary, temporary.open("wb") as file:
        csv.writer(lines).writerow(map(harmless, header))
        if numbers is None:
            csv.writer(lines).writerows(map(harmless, row) for row in rows)
            file.write(_taken(lines))
            return path
        as_text = number_rows(numbers) if isinstance(numbers, np.ndarray) else map(_joined, numbers)
        first = csv.writer(lines, lineterminator=",")
        for row, text in zip(rows, as_text, strict=True):
            first.writerow(map(harmless, row))
            file.write(_taken(lines))
            file.write(text)
            lines.write("\r\n")
        file.write(_taken(lines))
    return path


def _taken(lines: io.StringIO) -> bytes:
    """What has been written to it since the last time."""
    text = lines.getvalue()
    lines.seek(0)
    lines.truncate()
    return text.encode("utf-8", errors="surrogateescape")


def _joined(numbers: Sequence[Any]) -> bytes:
    return ",".join(map(str, numbers)).encode("utf-8")


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

    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path) -> Path:
    """Write a figure as PNG. Raises RunError when the disk refuses."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # dao.drawing.text has said so
        figure.canvas.draw()  # once; savefig draws it a second time
    pixels = cv2.cvtColor(np.asarray(figure.canvas.buffer_rgba()), cv2.COLOR_RGBA2BGR)
    with atomic.replacing(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes())
    return path
