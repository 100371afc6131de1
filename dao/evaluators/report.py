"""What an evaluation leaves on disk: metrics.json, tables as CSV, and pictures."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from dao.errors import DataError, RunError
from dao.evaluators import factory, remarks
from dao.utils import atomic
from dao.utils.run_folder import write_json

if TYPE_CHECKING:
    from dao.evaluators.base import Evaluator
    from dao.evaluators.classification import ClsEvaluator, Results

CELL_TEXT_LIMIT = 100  # classes, up to which a confusion matrix has its numbers written in
# how a formula begins, in both widths; "-" alone is none
FORMULA = re.compile("\\s*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20].", re.DOTALL)
MAX_TICKS = 100  # class names along an axis; of more classes every second, third, ... is named


def write_report(evaluator: ClsEvaluator, folder: Path) -> list[Path]:
    """Everything an evaluation of a classifier has to show; returns the files."""
    make_folder(folder)
    classes, details, results = evaluator.classes, evaluator.details, evaluator.results
    told = {"classes": classes, "operating_point": evaluator.operating_point, "notes": notes_of(evaluator)}
    write_json(folder / "metrics.json", finite({**told, **details}))
    written = [folder / "metrics.json", predictions_csv(folder / "predictions.csv", evaluator)]
    if not details["pictures"]:
        return written
    written.append(per_class_csv(folder / "per_class.csv", details["per_class"]))
    if "confusion_matrix" in details:
        counts = np.array(details["confusion_matrix"])
        written.append(matrix_csv(folder / "confusion_matrix.csv", classes, counts.tolist()))
        written.append(matrix_csv(folder / "confusion_matrix_rates.csv", classes, row_rates(counts)))
        written.append(confusion_png(folder / "confusion_matrix.png", classes, counts))
        written += worst_png(folder / "worst.png", classes, results.only_labelled(), evaluator.worst)
    if evaluator.bad:
        known = results.only_labelled()
        verdicts = evaluator.verdicts(known.scores, known.truth)
        written += factory_png(folder / "escape_vs_false_alarm.png", *verdicts, details["factory"])
    return written


def make_folder(folder: Path) -> None:
    """The folder, with those above it. Raises RunError when the disk refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the folder {folder} could not be made: {error}") from None


def notes_of(evaluator: Evaluator) -> list[str]:
    """What a report says beside its numbers: of the data and the model, and of what the numbers are worth, which is said
    in the log as well."""
    told = evaluator.remarks()
    for remark in told:
        logger.warning("{}", remark)
    return [*evaluator.notes, *told]


def finite(value: Any) -> Any:
    """The same with NaN and infinity as null: JSON has no such numbers."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# -- tables ----------------------------------------------------------------------------------------------------------


def write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], numbers: NDArray[np.float32] | None = None
) -> Path:
    """A CSV file, its cells made harmless. Raises RunError when the disk refuses.

    numbers: (N, K) that end the rows, a row at a time: five million cells one by one take longer than the evaluation. Nine
    digits give the same float32 again.
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
        form, first = ",%.9g" * numbers.shape[1] + "\r\n", csv.writer(file, lineterminator="")
        for row, values in zip(rows, numbers, strict=True):
            first.writerow(map(harmless, row))
            file.write(form % tuple(values.tolist()))
    return path


def harmless(cell: Any) -> Any:
    """A cell that no spreadsheet runs: text that would begin a formula (a file's name can) gets an apostrophe before it."""
    if not isinstance(cell, str) or not FORMULA.match(cell):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def predictions_csv(path: Path, evaluator: ClsEvaluator) -> Path:
    """Every picture: its labels, what was said, and the score of each class."""
    results, classes = evaluator.results, evaluator.classes
    said = evaluator.verdict_of(results)

    def names(row: NDArray[np.bool_]) -> str:
        return ";".join(classes[k] for k in np.flatnonzero(row))

    rows = (
        [
            results.paths[i],
            names(results.truth[i]) if results.labelled[i] else "",
            names(said[i]),
            int((said[i] == results.truth[i]).all()) if results.labelled[i] else "",
        ]
        for i in range(len(results.paths))
    )
    header = ["path", "label", "predicted", "correct", *(f"score_{name}" for name in classes)]
    return write_csv(path, header, rows, results.scores)


def per_class_csv(path: Path, rows: dict[str, dict[str, Any]]) -> Path:
    """One row a class; "-" where the set cannot say."""
    columns = ["support", "precision", "recall", "f1", "auroc", "average_precision"]

    def cell(value: Any) -> Any:
        return "-" if value is None else f"{value:.6f}" if isinstance(value, float) else value

    return write_csv(
        path, ["class", *columns], ([name, *(cell(row[c]) for c in columns)] for name, row in rows.items())
    )


def matrix_csv(path: Path, classes: Sequence[str], matrix: list[list[Any]]) -> Path:
    """A square table with class names on both sides: rows the truth, columns what was said."""
    return write_csv(path, ["truth \\ predicted", *classes], ([name, *row] for name, row in zip(classes, matrix)))


def row_rates(counts: NDArray[np.int64]) -> list[list[Any]]:
    """Share of each true class that was called what; "-" for a class without pictures."""
    totals = counts.sum(1).tolist()  # once a row: summed for every cell, a thousand classes took half a minute
    return [[round(c / total, 6) if total else "-" for c in row] for row, total in zip(counts.tolist(), totals)]


# -- pictures --------------------------------------------------------------------------------------------------------


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


def confusion_png(path: Path, classes: Sequence[str], counts: NDArray[np.int64], unit: str = "pictures") -> Path:
    """Counts and row rates as text while there is room for it, row rates as colour. unit: what was counted."""
    count = len(classes)
    side = min(24.0, max(4.5, 0.62 * count + 2.2))
    figure = new_figure(side + 0.8, side)
    axes = figure.subplots()
    rates = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = axes.imshow(rates, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, aspect=30, label="share of the true class")
    size = 9 if count <= 20 else 8 if count <= 50 else 6
    name_ticks(axes, classes, counts.sum(1).tolist(), size)
    axes.set_xlabel("predicted")
    axes.set_ylabel(f"truth ({unit})")
    axes.set_title(f"{compact(np.trace(counts))} of {compact(counts.sum())} {unit} right")
    if count <= CELL_TEXT_LIMIT:
        for i, j in zip(*np.nonzero(counts)):
            number = compact(counts[i, j])
            text = f"{number}\n{rates[i, j] * 100:.0f} %" if count <= 50 else number
            colour = "white" if rates[i, j] > 0.55 else "black"
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=size - 1)
    return save_figure(figure, path)


def compact(number: float) -> str:
    """A count in at most five characters from ten thousand up: 9999, 12k, 3.4M."""
    for limit, divisor, suffix in ((10_000, 1, ""), (1_000_000, 1_000, "k"), (10_000_000_000, 1_000_000, "M")):
        if number < limit:
            value = number / divisor
            return f"{value:.1f}{suffix}" if suffix == "M" and value < 10 else f"{value:.0f}{suffix}"
    return f"{number / 1e9:.0f}G"


def name_ticks(axes: Any, classes: Sequence[str], totals: Sequence[int], size: int) -> None:
    """Class names along both axes, with each class's pictures on the vertical one, in fonts that have their letters."""
    from matplotlib.font_manager import FontProperties

    from dao.utils.text import font_path

    count = len(classes)
    places = range(0, count, math.ceil(count / MAX_TICKS))
    names = [name if len(name) <= 24 else f"{name[:12]}…{name[-11:]}" for name in classes]
    rotation = 0 if count <= 3 else 45 if count <= 20 else 90
    align = {0: "center", 45: "right", 90: "center"}[rotation]
    axes.set_xticks(places, [names[i] for i in places], rotation=rotation, ha=align, rotation_mode="default")
    axes.set_yticks(places, [f"{names[i]} ({compact(totals[i])})" for i in places])
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_fontproperties(FontProperties(fname=str(font_path(label.get_text())), size=size))


def worst_order(results: Results) -> tuple[NDArray[np.int64], int]:
    """Pictures from most confidently wrong to least, then from least sure to surest, and how many of them are wrong."""
    wrong = results.said.argmax(1) != results.truth.argmax(1)
    sure = results.scores.max(1)
    order = np.lexsort((np.where(wrong, -sure, sure), ~wrong))
    return order, int(wrong.sum())


def worst_png(path: Path, classes: Sequence[str], results: Results, limit: int) -> list[Path]:
    """Contact sheet of the most confidently wrong pictures; of the least sure ones where none is wrong."""
    from dao.dataloaders.datasets.image_io import read_image
    from dao.utils.visualize import contact_sheet, thumbnail, write_image

    order, wrong = worst_order(results)
    chosen = order[: min(limit, wrong) if wrong else limit]
    tiles, captions = [], []
    for i in chosen:
        said, true = int(results.said[i].argmax()), int(results.truth[i].argmax())
        try:
            tiles.append(thumbnail(read_image(results.paths[i])))
        except DataError:  # it was readable a minute ago; the table still lists it
            continue
        said_so = f"said {classes[said]} {results.scores[i, said]:.2f}"
        captions.append(f"is {classes[true]}, {said_so}\n{Path(results.paths[i]).name}")
    if not tiles:
        return []
    shown = f"{len(tiles)} of {len(order)} pictures"
    title = f"{wrong} wrong, the surest first: {shown}" if wrong else f"None is wrong; the least sure: {shown}"
    write_image(path, contact_sheet(tiles, captions, title=title))
    return [path]


def factory_png(path: Path, badness: NDArray[np.floating], bad: NDArray[np.bool_], rates: dict[str, Any]) -> list[Path]:
    """Escape rate against false-alarm rate over all thresholds, with the point where the model stands.

    badness: (N,) how bad each part looks; bad: (N,) whether it is; rates: the report's "factory".
    """
    curve = factory.curve(badness, bad)
    if curve is None:
        return []
    figure = new_figure(6.4, 4.8)
    axes = figure.subplots()
    axes.step(curve.false_alarm * 100, curve.escape * 100, where="post", linewidth=2, label="by threshold")
    here = rates["false_alarm_rate"], rates["escape_rate"]
    spread = [[[(r["value"] - r["low"]) * 100], [(r["high"] - r["value"]) * 100]] for r in here]
    axes.errorbar(
        here[0]["value"] * 100, here[1]["value"] * 100, xerr=spread[0], yerr=spread[1],
        fmt="o", color="crimson", capsize=3, label="the model's own verdict, 95 % interval",
    )  # fmt: skip
    axes.set_xlabel("false alarms: good parts called bad (%)")
    axes.set_ylabel("escapes: bad parts called good (%)")
    title = f"{curve.bad_total} bad and {curve.good_total} good parts, AUROC {rates['auroc']:.4f}"
    hollow = remarks.verdict_of(*(factory.Rate(**rates[key]) for key in ("escape_rate", "false_alarm_rate")))
    axes.set_title(f"{title}\n{hollow}" if hollow else title)
    axes.set_xlim(-2, 102)
    axes.set_ylim(-2, 102)
    axes.grid(alpha=0.3)
    axes.legend()
    return [save_figure(figure, path)]
