"""What an evaluation of an anomaly model leaves on disk: metrics.json, tables as CSV, and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from loguru import logger
from numpy.typing import NDArray

from dao.answers.verdicts import verdict
from dao.errors import DataError
from dao.evaluators.factory import mistake
from dao.evaluators.files import new_figure, save_figure, write_csv
from dao.evaluators.packed import from_png
from dao.evaluators.report import factory_png, finite, make_folder, notes_of
from dao.files.run_folder import write_json
from dao.words.counted import counted

if TYPE_CHECKING:
    from dao.evaluators.anomaly import AnomalyEvaluator, PictureRow

PER_KIND = ("auroc", "average_precision", "f1_max")
PER_KIND_PIXELS = (*PER_KIND, "aupro", "regions")
BINS = 40
HEADS = ("picture", "truth", "heat map")  # what is beside each other on the worst-N sheet
TILE = 210  # pixels to a side, about, of each
UNKNOWN = 255
NO_MASK, EMPTY_MASK = "bad, no mask given", "bad, its mask marks nothing"


def write_report(evaluator: AnomalyEvaluator, folder: Path) -> list[Path]:
    """Everything an evaluation has to show; returns the files."""
    make_folder(folder)
    rows, details = evaluator.all_rows, evaluator.details
    wrong = {
        "escapes": [row.path for row in rows if row.bad and not row.called_bad],
        "false_alarms": [row.path for row in rows if not row.bad and row.called_bad],
    }
    write_json(folder / "metrics.json", finite({**details, **wrong, **judged_by(evaluator)}))
    written = [folder / "metrics.json", pictures_csv(folder / "pictures.csv", rows)]
    if not rows:
        return written
    written.append(per_kind_csv(folder / "per_kind.csv", details))
    scores, bad = np.array([row.score for row in rows]), np.array([row.bad for row in rows], bool)
    raw = np.array([row.raw_score for row in rows])
    written.append(histogram_png(folder / "scores.png", scores, bad, details["factory"]))
    written += factory_png(folder / "escape_vs_false_alarm.png", raw, bad, details["factory"])
    return written + worst_png(folder / "worst.png", evaluator)


def judged_by(evaluator: AnomalyEvaluator) -> dict[str, Any]:
    """The thresholds that verdicts were given by, where they come from, and what is to be said of that."""
    facts = evaluator.model_facts
    known = {name: facts[name] for name in ("picture_threshold", "pixel_threshold") if name in facts}
    told = {"operating_point": evaluator.operating_point, "thresholds": known}
    return {**told, "calibration": facts.get("calibration", ""), "notes": notes_of(evaluator)}


def pictures_csv(path: Path, rows: list[PictureRow]) -> Path:
    """Every picture: its kind, the verdict, what kind of mistake it is, its scores."""
    header = ["path", "kind", "is_bad", "called_bad", "mistake", "score", "raw_score"]
    content = (
        [
            r.path,
            r.kind,
            int(r.bad),
            int(r.called_bad),
            mistake(r.bad, r.called_bad),
            f"{r.score:.9g}",
            f"{r.raw_score:.9g}",
        ]
        for r in rows
    )
    return write_csv(path, header, content)


def per_kind_csv(path: Path, details: dict[str, Any]) -> Path:
    """One row for each kind of defect and one for all; "-" where the set cannot say."""

    def cell(value: Any) -> Any:
        return (
            "-"
            if isinstance(value, float) and np.isnan(value)
            else f"{value:.6f}"
            if isinstance(value, float)
            else value
        )

    total = sum(part["pictures"] for part in details["per_kind"].values())
    everything = {**details, "pictures": total, "escape_rate": details["factory"]["escape_rate"]}
    parts = {**details["per_kind"], "all": everything}
    rows = (
        [
            name, part["pictures"], part["escape_rate"]["count"],
            *(cell(part["picture"][key]) for key in PER_KIND), *(cell(part["pixel"][key]) for key in PER_KIND_PIXELS),
        ]
        for name, part in parts.items()
    )  # fmt: skip
    header = [
        "kind",
        "pictures",
        "escapes",
        *(f"picture_{k}" for k in PER_KIND),
        *(f"pixel_{k}" for k in PER_KIND_PIXELS),
    ]
    return write_csv(path, header, rows)


def histogram_png(path: Path, scores: NDArray[np.floating], bad: NDArray[np.bool_], rates: dict[str, Any]) -> Path:
    """Scores of good against bad pictures, with the threshold between them. rates: the report's "factory"."""
    figure = new_figure(6.8, 4.2)
    axes = figure.subplots()
    edges = np.linspace(0, 1, BINS + 1)
    for chosen, name, colour in ((~bad, "good", "#0072b2"), (bad, "bad", "#d55e00")):
        if chosen.any():
            share = np.full(int(chosen.sum()), 100 / chosen.sum())
            axes.hist(scores[chosen], edges, weights=share, alpha=0.6, color=colour, label=f"{name} ({chosen.sum()})")
    axes.axvline(0.5, color="black", linewidth=1.2, label="threshold")
    axes.set_xlim(0, 1)
    axes.set_xlabel("score (normalised: 0.1 a usual good part, 0.5 the threshold)")
    axes.set_ylabel("share of the pictures (%)")
    escapes, alarms = rates["escape_rate"]["count"], rates["false_alarm_rate"]["count"]
    axes.set_title(
        f"escapes: {escapes} of {counted(int(bad.sum()), 'bad part')}, false alarms: {alarms} of "
        f"{counted(int((~bad).sum()), 'good one')}"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return save_figure(figure, path)


def worst_png(path: Path, evaluator: AnomalyEvaluator) -> list[Path]:
    """Contact sheet of the bad pictures that score lowest and the good ones that score highest: picture, truth, map."""
    from dao.drawing.pictures import write_image
    from dao.drawing.plates import of_mistake
    from dao.drawing.sheet import Cell, contact_sheet
    from dao.images.image_io import read_image

    chosen = sorted((row for row in evaluator.all_rows if row.maps), key=lambda row: row.rank)[: evaluator.worst]
    cells = []
    for row in chosen:
        try:
            views = worst_views(read_image(row.path), *(from_png(data) for data in row.maps or ()), row.bad)
        except DataError as error:  # readable a minute ago; the table still lists it
            logger.warning("not on the worst-N sheet: {}", error)
            continue
        said = f"said {verdict(row.called_bad)}: score {row.score:.3f}"
        cells.append(Cell(views, (said, f"is {row.kind}"), Path(row.path).name, of_mistake(row.bad, row.called_bad)))
    if not cells:
        return []
    which = f"The {len(cells)} of {counted(len(evaluator.all_rows), 'picture')} that fit worst"
    title = f"{which}: bad ones by how low they score, good ones by how high (bad from 0.5)"
    write_image(path, contact_sheet(cells, tile=TILE, title=title, heads=HEADS))
    return [path]


def worst_views(
    image: NDArray[np.uint8], heat: NDArray[np.uint8], mask: NDArray[np.uint8], bad: bool
) -> tuple[NDArray[np.uint8] | str, ...]:
    """Picture, truth and heat map. heat: (h, w) of the normalised map; mask: (h, w), 1 marked, 255 where it is not known."""
    from dao.drawing.anomaly import heat_overlay, outlined
    from dao.drawing.masks import shrunk
    from dao.drawing.pictures import thumbnail

    small = thumbnail(image, TILE)
    size = (small.shape[1], small.shape[0])
    hot = heat_overlay(small, cv2.resize(heat.astype(np.float32) / 255, size, interpolation=cv2.INTER_LINEAR))
    if bad and not (mask == 1).any():
        return small, NO_MASK if (mask == UNKNOWN).any() else EMPTY_MASK, hot
    return small, outlined(small, shrunk(mask, size) == 1), hot
