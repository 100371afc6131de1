"""What an evaluation of masks leaves on disk: metrics.json, tables as CSV, and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from dao.errors import DataError
from dao.evaluators import defects
from dao.evaluators.confusion import confusion_png, matrix_csv, row_rates
from dao.evaluators.factory import mistake
from dao.evaluators.files import new_figure, save_figure, write_csv
from dao.evaluators.packed import from_png
from dao.evaluators.report import factory_png, finite, make_folder, notes_of
from dao.files.run_folder import write_json
from dao.words.counted import counted

if TYPE_CHECKING:
    from dao.evaluators.segmentation import PictureRow, SegEvaluator

HEADS = ("picture", "truth", "prediction")  # what is beside each other on the worst-N sheet
TILE = 210  # pixels to a side, about, of each
PER_CLASS = ("iou", "dice", "boundary_f1", "precision", "recall", "pixels")


def write_report(evaluator: SegEvaluator, folder: Path) -> list[Path]:
    """Everything an evaluation of masks has to show; returns the files."""
    make_folder(folder)
    classes, details, rows = evaluator.classes, evaluator.details, evaluator.all_rows
    told = {"classes": classes, "operating_point": evaluator.operating_point, "notes": notes_of(evaluator)}
    write_json(folder / "metrics.json", finite({**told, **details}))
    written = [folder / "metrics.json"]
    if not rows:
        return written
    counts = np.array(details["confusion_matrix"])
    written += [
        per_class_csv(folder / "per_class.csv", details),
        pictures_csv(folder / "pictures.csv", rows, classes),
        matrix_csv(folder / "confusion_matrix.csv", classes, counts.tolist()),
        matrix_csv(folder / "confusion_matrix_rates.csv", classes, row_rates(counts)),
        confusion_png(folder / "confusion_matrix.png", classes, counts, unit="pixels"),
    ]
    if evaluator.froc is not None and details["defects"]["recall"]["total"]:
        written.append(froc_png(folder / "defects_vs_false_alarms.png", evaluator.froc, details))
    written += factory_png(folder / "escape_vs_false_alarm.png", *evaluator.scored(), details["factory"])
    return written + worst_png(folder / "worst.png", evaluator)


def per_class_csv(path: Path, details: dict[str, Any]) -> Path:
    """One row a class, with the defects of it that were found; "-" where the set cannot say."""

    def cell(value: Any) -> Any:
        if isinstance(value, float):
            return "-" if np.isnan(value) else f"{value:.6f}"
        return value

    def found(name: str) -> list[Any]:
        rate = details["defects"]["per_class"].get(name)
        return [rate["total"], rate["count"]] if rate else ["-", "-"]

    rows = ([name, *(cell(row[c]) for c in PER_CLASS), *found(name)] for name, row in details["per_class"].items())
    return write_csv(path, ["class", *PER_CLASS, "defects", "found"], rows)


def pictures_csv(path: Path, rows: list[PictureRow], classes: list[str]) -> Path:
    """Every picture: what is marked, what was called, its score, its defects and false alarms, what kind of mistake it is.

    One with marks below ``min_area`` alone is "undecided", and neither bad nor good.
    """

    def row(picture: PictureRow) -> list[Any]:
        counts, undecided = picture.counted, picture.counted.undecided
        return [
            picture.path, ";".join(classes[k] for k in marked_kinds(picture)), "" if undecided else int(picture.bad),
            int(picture.called_bad), f"{picture.score:.9g}", f"{picture.iou:.6f}", picture.wrong_pixels,
            len(counts.defects), sum(defect.found for defect in counts.defects), counts.alarms,
            "undecided" if undecided else mistake(picture.bad, picture.called_bad),
        ]  # fmt: skip

    header = ["path", "marked", "is_bad", "called_bad", "score", "iou", "wrong_pixels", "defects", "found", "alarms"]
    return write_csv(path, [*header, "mistake"], map(row, rows))


def marked_kinds(row: PictureRow) -> list[int]:
    """The classes of a picture's marks that count; where none is large enough to, of all marks."""
    return list(row.marked) if row.counted.undecided else sorted({defect.label for defect in row.counted.defects})


def froc_png(path: Path, froc: defects.Froc, details: dict[str, Any]) -> Path:
    """Share of defects found against false alarms per picture, over all thresholds, and where the class map stands."""
    figure = new_figure(6.4, 4.8)
    axes = figure.subplots()
    axes.plot(froc.alarms_per_picture, froc.recall * 100, marker=".", label="by threshold on the defect probability")
    here = details["defects"]
    axes.plot(
        here["false_alarms_per_picture"], here["recall"]["value"] * 100, "o", color="crimson",
        label="the model's own class map",
    )  # fmt: skip
    axes.axvline(0.1, color="grey", linewidth=0.8, linestyle=":")
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xlim(left=0)
    axes.set_ylim(-2, 102)
    axes.set_xlabel("false alarms per picture (regions in which nothing is marked)")
    axes.set_ylabel("marked defects that were found (%)")
    marked = counted(here["recall"]["total"], "defect")
    axes.set_title(f"{marked} in {counted(details['pictures'], 'picture')}")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return save_figure(figure, path)


def worst_png(path: Path, evaluator: SegEvaluator) -> list[Path]:
    """Contact sheet of the pictures whose masks fit worst: picture, truth and prediction side by side."""
    from dao.drawing.masks import mask_legend, views
    from dao.drawing.pictures import write_image
    from dao.drawing.plates import of_mistake
    from dao.drawing.sheet import Cell, contact_sheet
    from dao.images.image_io import read_image

    chosen = sorted((row for row in evaluator.all_rows if row.masks), key=lambda row: row.rank)[: evaluator.worst]
    cells, shown = [], []
    for row in chosen:
        truth, mask = (from_png(data) for data in row.masks or ())
        try:
            pictures = views(read_image(row.path), [truth, mask], TILE)
        except (DataError, ValueError) as error:  # readable a minute ago; the table still lists it
            logger.warning("not on the worst-N sheet: {}", error)
            continue
        shown += [truth, mask]
        said = worst_words(row, evaluator.classes, mask)
        plate = of_mistake(None if row.counted.undecided else row.bad, row.called_bad)
        cells.append(Cell(pictures, said, Path(row.path).name, plate))
    if not cells:
        return []
    total = counted(len(evaluator.all_rows), "picture")
    least = evaluator.operating_point.get("threshold")
    known = f"; bad from score {least:g}" if least else ""
    title = f"The {len(cells)} of {total} that fit worst, sorted by IoU, the lowest first{known}"
    legend = mask_legend(shown, evaluator.classes)
    write_image(path, contact_sheet(cells, tile=TILE, title=title, heads=HEADS, legend=legend))
    return [path]


def worst_words(row: PictureRow, classes: list[str], mask: NDArray[np.uint8]) -> tuple[str, ...]:
    """What the worst-N sheet says of a picture, a line each: what was called, what is marked, how both fit. mask: the
    prediction, class indices."""
    called = ", ".join(classes[k] for k in np.unique(mask).tolist() if k) or "good"
    marked = ", ".join(classes[k] for k in marked_kinds(row)) or "good"
    marked += " below min_area" if row.counted.undecided else ""
    fit = [f"IoU {row.iou:.2f}"]
    if row.counted.defects:
        found = sum(defect.found for defect in row.counted.defects)
        fit.append(f"found {found} of {counted(len(row.counted.defects), 'defect')}")
    if row.counted.alarms:
        fit.append(counted(row.counted.alarms, "false alarm"))
    return f"said {called}: score {row.score:.2f}", f"is {marked}", ", ".join(fit)
