"""Which class is taken for which: the whole of it as a table, and as much of it as can be read as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.evaluators.files import new_figure, save_figure, write_csv

MOST_DRAWN = 50  # classes of a whole picture: as many as have room for their numbers
MOST_CONFUSED = 20  # classes that are drawn of more than these


def matrix_csv(path: Path, classes: Sequence[str], matrix: list[list[Any]]) -> Path:
    """A square table with class names on both sides: rows the truth, columns what was said."""
    return write_csv(path, ["truth \\ predicted", *classes], ([name] for name in classes), matrix)


def row_rates(counts: NDArray[np.int64]) -> list[list[Any]]:
    """Share of each true class that was called what; "-" for a class without pictures."""
    totals = counts.sum(1).tolist()  # once a row: summed for every cell, a thousand classes took half a minute
    return [
        [round(c / total, 6) if c else 0.0 if total else "-" for c in row]
        for row, total in zip(counts.tolist(), totals)
    ]


def confusion_png(path: Path, classes: Sequence[str], counts: NDArray[np.int64], unit: str = "pictures") -> Path:
    """Counts and row rates as text, row rates as colour. unit: what was counted.

    Of more than `MOST_DRAWN` classes those that are confused most are drawn, which the title says: a picture of a thousand
    names shows none of them. Rates are shares of the whole true class all the same.
    """
    rates = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    totals = counts.sum(1)
    title = f"{compact(np.trace(counts))} of {compact(counts.sum())} {unit} right"
    if len(classes) > MOST_DRAWN:
        title += f"; the {MOST_CONFUSED} of {len(classes)} classes that are confused most (the CSV has all)"
        drawn = most_confused(counts, MOST_CONFUSED)
        classes, totals = [classes[k] for k in drawn], totals[drawn]
        counts, rates = counts[np.ix_(drawn, drawn)], rates[np.ix_(drawn, drawn)]
    return save_figure(_figure(classes, counts, rates, totals, f"true ({unit})", title), path)


def most_confused(counts: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Indices, rising, of so many classes: both of the most frequent confusion, of the next, and so on; then the largest.

    counts: (K, K), rows the truth. Of equal confusions the first ones.
    """
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    cells = np.flatnonzero(wrong)
    cells = cells[np.argsort(-wrong.flat[cells], kind="stable")]
    pairs = np.stack([cells // len(counts), cells % len(counts)], 1).ravel()
    by_size = np.argsort(-counts.sum(1), kind="stable")
    wanted = dict.fromkeys([*pairs[: 2 * limit * limit].tolist(), *by_size.tolist()])
    return np.sort(np.array(list(wanted)[:limit]))


def _figure(
    classes: Sequence[str],
    counts: NDArray[np.int64],
    rates: NDArray[np.float64],
    totals: NDArray[np.int64],
    truth: str,
    title: str,
) -> Any:
    count = len(classes)
    side = min(24.0, max(4.5, 0.62 * count + 2.2))
    figure = new_figure(side + 0.8, side)
    axes = figure.subplots()
    image = axes.imshow(rates, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, aspect=30, label="share of the true class")
    size = 9 if count <= 20 else 8
    name_ticks(axes, classes, totals.tolist(), size)
    axes.set_xlabel("predicted")
    axes.set_ylabel(truth)
    axes.set_title(title)
    for i, j in zip(*np.nonzero(counts)):
        colour = "white" if rates[i, j] > 0.55 else "black"
        text = f"{compact(counts[i, j])}\n{rates[i, j] * 100:.0f} %"
        axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=size - 1)
    if (
        count <= MOST_CONFUSED
    ):  # a square that is laid out once loses its label at the left; large ones have room for it
        figure.get_layout_engine().execute(figure)
    return figure


def name_ticks(axes: Any, classes: Sequence[str], totals: Sequence[int], size: int) -> None:
    """Class names along both axes, with each class's pictures on the vertical one, in fonts that have their letters."""
    from matplotlib.font_manager import FontProperties

    from dao.drawing.text import font_path

    count = len(classes)
    places = range(count)
    names = [name if len(name) <= 24 else f"{name[:12]}…{name[-11:]}" for name in classes]
    rotation = 0 if count <= 3 else 45 if count <= 20 else 90
    align = {0: "center", 45: "right", 90: "center"}[rotation]
    axes.set_xticks(places, names, rotation=rotation, ha=align, rotation_mode="default")
    axes.set_yticks(places, [f"{name} ({compact(total)})" for name, total in zip(names, totals)])
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_fontproperties(FontProperties(fname=str(font_path(label.get_text())), size=size))


def compact(number: float) -> str:
    """A count in at most five characters from ten thousand up: 9999, 12k, 3.4M."""
    for limit, divisor, suffix in ((10_000, 1, ""), (1_000_000, 1_000, "k"), (10_000_000_000, 1_000_000, "M")):
        if number < limit:
            value = number / divisor
            return f"{value:.1f}{suffix}" if suffix == "M" and value < 10 else f"{value:.0f}{suffix}"
    return f"{number / 1e9:.0f}G"
