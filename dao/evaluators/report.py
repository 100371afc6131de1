"""What an evaluation leaves on disk: metrics.json, tables as CSV, and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from dao.answers.verdicts import badness_words
from dao.errors import DataError, RunError
from dao.evaluators import factory, remarks
from dao.evaluators.confusion import confusion_png, matrix_csv, row_rates
from dao.evaluators.files import new_figure, save_figure, write_csv
from dao.files.run_folder import write_json
from dao.words.counted import counted

if TYPE_CHECKING:
    from dao.evaluators.base import Evaluator
    from dao.evaluators.classification import ClsEvaluator, Results


def write_report(evaluator: ClsEvaluator, folder: Path) -> list[Path]:
    """Everything an evaluation of a classifier has to show; returns the files."""
    make_folder(folder)
    classes, details = evaluator.classes, evaluator.details
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
        written += worst_png(folder / "worst.png", evaluator)
    if evaluator.bad:
        known = evaluator.results.only_labelled()
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
    if isinstance(value, (list, tuple)) and set(map(type, value)) <= {int}:
        return value  # a matrix of a thousand classes has a million
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# -- tables ----------------------------------------------------------------------------------------------------------


def predictions_csv(path: Path, evaluator: ClsEvaluator) -> Path:
    """Every picture: its labels, what was said, and the score of each class."""
    results, classes = evaluator.results, evaluator.classes
    said = evaluator.verdict_of(results)
    right = (said == results.truth).all(1).tolist()
    labels, answers = label_texts(results.truth, classes), label_texts(said, classes)
    rows = (
        [path, label if known else "", answer, int(hit) if known else ""]
        for path, known, label, answer, hit in zip(results.paths, results.labelled.tolist(), labels, answers, right)
    )
    header = ["path", "label", "predicted", "correct", *(f"score_{name}" for name in classes)]
    return write_csv(path, header, rows, results.scores)


def label_texts(labels: NDArray[np.bool_], classes: Sequence[str]) -> list[str]:
    """The names of each row's classes, with ";" between. labels: (N, K)."""
    texts: list[list[str]] = [[] for _ in labels]
    for row, k in np.argwhere(labels).tolist():
        texts[row].append(classes[k])
    return [";".join(names) for names in texts]


def per_class_csv(path: Path, rows: dict[str, dict[str, Any]]) -> Path:
    """One row a class; "-" where the set cannot say."""
    columns = ["support", "precision", "recall", "f1", "auroc", "average_precision"]

    def cell(value: Any) -> Any:
        return "-" if value is None else f"{value:.6f}" if isinstance(value, float) else value

    return write_csv(
        path, ["class", *columns], ([name, *(cell(row[c]) for c in columns)] for name, row in rows.items())
    )


# -- pictures --------------------------------------------------------------------------------------------------------


def worst_order(results: Results) -> tuple[NDArray[np.int64], int]:
    """Wrong pictures first, each side by the score of its true class, the lowest first; and how many of them are wrong."""
    truth = results.truth.argmax(1)
    wrong = results.said.argmax(1) != truth
    return np.lexsort((results.scores[np.arange(len(truth)), truth], ~wrong)), int(wrong.sum())


def worst_png(path: Path, evaluator: ClsEvaluator) -> list[Path]:
    """Contact sheet of the wrong pictures whose true class scores lowest; of the least sure ones where none is wrong."""
    from dao.drawing.pictures import thumbnail, write_image
    from dao.drawing.plates import of_mistake
    from dao.drawing.sheet import Cell, contact_sheet
    from dao.images.image_io import read_image

    results = evaluator.results.only_labelled()  # type: ignore[union-attr]
    order, wrong = worst_order(results)
    badness, bad = evaluator.verdicts(results.scores, results.truth) if evaluator.bad else (None, None)
    cells = []
    for i in order[: min(evaluator.worst, wrong) if wrong else evaluator.worst]:
        try:
            picture = thumbnail(read_image(results.paths[i]))
        except DataError:  # it was readable a minute ago; the table still lists it
            continue
        said = worst_words(evaluator, results, int(i), None if badness is None else float(badness[i]))
        called = evaluator.classes[int(results.said[i].argmax())] in evaluator.bad
        plate = None if bad is None else of_mistake(bool(bad[i]), called)
        cells.append(Cell((picture,), said, Path(results.paths[i]).name, plate))
    if not cells:
        return []
    shown = f"{len(cells)} of {counted(len(order), 'picture')}"
    which = f"{wrong} wrong" if wrong else "None is wrong; the least sure"
    title = f"{which}, sorted by the score of the true class, the lowest first: {shown}"
    write_image(path, contact_sheet(cells, title=title))
    return [path]


def worst_words(evaluator: ClsEvaluator, results: Results, i: int, badness: float | None) -> tuple[str, ...]:
    """What the worst-N sheet says of picture ``i``, a line each: the true class and the one that was said, each with its
    score; where a threshold of badness had the say, not the highest score, that as well."""
    classes, scores = evaluator.classes, results.scores[i]
    said, true = int(results.said[i].argmax()), int(results.truth[i].argmax())
    lines = [f"said {classes[said]}: score {scores[said]:.2f}", f"is {classes[true]}: score {scores[true]:.2f}"]
    if badness is not None and said != int(scores.argmax()):
        lines.append(badness_words(badness, evaluator.operating_point.get("threshold")))
    return tuple(lines)


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
