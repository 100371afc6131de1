"""What an evaluation of a detector leaves on disk: metrics.json, tables as CSV, curves, and the worst pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dao.errors import RunError
from dao.evaluators import box_counts, report
from dao.evaluators.box_counts import FALSE_ALARM, HIT, IGNORED
from dao.evaluators.coco_ap import RECALL_POINTS
from dao.evaluators.confusion import confusion_png, matrix_csv
from dao.evaluators.detection_worst import missed_boxes, worst_png
from dao.evaluators.files import new_figure, save_figure, write_csv
from dao.files.run_folder import write_json
from dao.words.counted import counted

if TYPE_CHECKING:
    from dao.evaluators.detection import DetEvaluator

BACKGROUND = "background"
VERDICTS = {HIT: "found", FALSE_ALARM: "false alarm", IGNORED: "ignored"}
MAX_CURVES = 12  # classes whose curves are drawn


def write_report(evaluator: DetEvaluator, folder: Path) -> list[Path]:
    """Everything an evaluation of a detector has to show; returns the files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the folder {folder} could not be made: {error}") from None
    classes, details = evaluator.classes, evaluator.details
    told = {"classes": classes, "operating_point": evaluator.operating_point, "notes": report.notes_of(evaluator)}
    write_json(folder / "metrics.json", report.finite({**told, **details}))
    written = [folder / "metrics.json"]
    if not details["pictures"]:
        return written
    written.append(per_class_csv(folder / "per_class.csv", details["per_class"]))
    header = ["path", "verdict", "class", "score", "left", "top", "right", "bottom"]
    rows = list(box_rows(evaluator))
    written.append(write_csv(folder / "boxes.csv", header, (row[:3] for row in rows), (row[3:] for row in rows)))
    names, counts = [*classes, BACKGROUND], np.array(details["confusion_matrix"])
    written.append(matrix_csv(folder / "confusion_matrix.csv", names, counts.tolist()))
    written.append(confusion_png(folder / "confusion_matrix.png", names, counts, "boxes"))
    written += precision_recall_png(folder / "precision_recall.png", evaluator)
    written += false_alarms_png(folder / "recall_vs_false_alarms.png", evaluator)
    written += report.factory_png(folder / "escape_vs_false_alarm.png", *evaluator.verdicts(), details["factory"])
    return written + worst_png(folder / "worst.png", evaluator)


# -- tables ----------------------------------------------------------------------------------------------------------


def per_class_csv(path: Path, rows: dict[str, dict[str, Any]]) -> Path:
    """One row a class; "-" where the set cannot say."""
    columns = list(next(iter(rows.values())))

    def cell(value: Any) -> Any:
        value = value["value"] if isinstance(value, dict) else value
        unknown = value is None or value != value
        return "-" if unknown else f"{value:.6f}" if isinstance(value, float) else value

    return write_csv(
        path, ["class", *columns], ([name, *(cell(row[c]) for c in columns)] for name, row in rows.items())
    )


def box_rows(evaluator: DetEvaluator) -> Iterator[list[Any]]:
    """Every found box with its verdict, and every true box that was not found from the chosen score on."""
    for picture, pairing in zip(evaluator.pictures, evaluator.pairings):
        found = (
            pairing.verdict.tolist(),
            picture.labels.tolist(),
            picture.scores.tolist(),
            picture.boxes_xyxy.tolist(),
        )
        for verdict, label, score, box in zip(*found):
            yield [
                picture.path,
                VERDICTS[verdict],
                evaluator.classes[label],
                f"{score:.6g}",
                *(f"{value:.6g}" for value in box),
            ]
        for i in np.flatnonzero(missed_boxes(picture, pairing, evaluator.score, evaluator.own)):
            box = picture.truth.boxes_xyxy[i].tolist()
            yield [
                picture.path,
                "missed",
                evaluator.classes[picture.truth.labels[i]],
                "",
                *(f"{value:.6g}" for value in box),
            ]


# -- curves ----------------------------------------------------------------------------------------------------------


def precision_recall_png(path: Path, evaluator: DetEvaluator) -> list[Path]:
    """Precision over recall of each class, at the evaluator's overlap; of many classes the ones with the most boxes."""
    rows = evaluator.details["per_class"]
    by_size = sorted(range(len(evaluator.classes)), key=lambda k: -rows[evaluator.classes[k]]["boxes"])
    curves = {k: evaluator.precision.curve(evaluator.iou, k) for k in by_size[:MAX_CURVES]}
    curves = {k: curve for k, curve in curves.items() if curve is not None}
    if not curves:
        return []
    figure = new_figure(7.2, 4.8)
    axes = figure.subplots()
    for k, curve in sorted(curves.items()):
        axes.plot(RECALL_POINTS, curve, label=f"{evaluator.classes[k]}  {curve.mean():.3f}")
    if len(curves) > 1:
        mean = np.mean(list(curves.values()), axis=0)
        axes.plot(RECALL_POINTS, mean, color="black", linewidth=2.5, label=f"mean  {mean.mean():.3f}")
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.set_title(f"boxes that overlap by {evaluator.iou:g} and more; area under each curve")
    _frame(axes)
    return [save_figure(figure, path)]


def false_alarms_png(path: Path, evaluator: DetEvaluator) -> list[Path]:
    """Share of defects found against false alarms per picture, over all scores, with the chosen one marked."""
    details, matches = evaluator.details, evaluator.matches
    total, pictures = len(matches.found_at), details["pictures"]
    _, hits, alarms = box_counts.curve(matches, pictures, evaluator.own)
    if not total or not len(hits):
        return []
    here = details["at_score"]
    figure = new_figure(6.4, 4.8)
    axes = figure.subplots()
    axes.step(np.append(0, alarms), np.append(0, hits / total), where="post", linewidth=2, label="by score")
    axes.plot(
        here["false_alarms_per_picture"],
        here["recall"]["value"],
        "o",
        color="crimson",
        label=f"score {here['score']:g}",
    )
    axes.set_xscale("symlog", linthresh=max(1 / pictures, 1e-4))
    axes.set_xlim(left=0)
    axes.set_xlabel("false alarms per picture")
    axes.set_ylabel("share of boxes found")
    axes.set_title(f"{counted(total, 'box')} in {counted(pictures, 'picture')}")
    _frame(axes)
    return [save_figure(figure, path)]


def _frame(axes: Any) -> None:
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
