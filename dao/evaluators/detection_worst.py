"""The pictures that a detector does worst on: which they are, and a sheet with truth and answer beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dao.answers.verdicts import box_badness, shown_boxes
from dao.errors import DataError
from dao.evaluators.box_counts import FALSE_ALARM, HIT, Pairing
from dao.evaluators.coco_ap import PictureBoxes
from dao.words.counted import counted

if TYPE_CHECKING:
    from dao.drawing.text import Color, Image
    from dao.evaluators.detection import DetEvaluator

NO_OWN: Mapping[int, float] = MappingProxyType({})
FOUND, MISSED, ALARM, LEFT_OUT = (0, 158, 115), (213, 94, 0), (0, 114, 178), (150, 150, 150)  # of Okabe & Ito, and grey
LEGEND = {"found": FOUND, "missed": MISSED, "false alarm": ALARM}
TILE = 320  # pixels to a side, about, of a picture on the sheet
LETTERS = 12  # pixels
MOST_NAMES = 12  # boxes of a picture that bear their name; more would hide it


def missed_boxes(
    picture: PictureBoxes, pairing: Pairing, score: float, own: Mapping[int, float] = NO_OWN
) -> NDArray[np.bool_]:
    """(G,) the true boxes that are not found from ``score`` on; own: scores of single classes."""
    return ~picture.truth.ignore & ~shown_boxes(picture.truth.labels, pairing.found_at, score, own)


def false_alarms(
    picture: PictureBoxes, pairing: Pairing, score: float, own: Mapping[int, float] = NO_OWN
) -> NDArray[np.bool_]:
    """(N,) the boxes shown from ``score`` on that are none."""
    return (pairing.verdict == FALSE_ALARM) & shown_boxes(picture.labels, picture.scores, score, own)


def is_bad(picture: PictureBoxes) -> bool | None:
    """Whether there is anything to find; None where only ignored boxes are known, as nobody knows then."""
    truth = picture.truth
    return bool(len(truth.labels)) if not len(truth.labels) or (~truth.ignore).any() else None


def worst_order(
    pictures: Sequence[PictureBoxes], pairings: Sequence[Pairing], score: float, own: Mapping[int, float] = NO_OWN
) -> tuple[list[int], int]:
    """Pictures with the most mistakes first (of equal ones, the surest false alarms); and how many have any."""
    keys = []
    for i, (picture, pairing) in enumerate(zip(pictures, pairings)):
        alarms = picture.scores[false_alarms(picture, pairing, score, own)]
        missed = int(missed_boxes(picture, pairing, score, own).sum())
        keys.append((-(len(alarms) + missed), -float(alarms.sum()), i))
    return [i for _, _, i in sorted(keys)], sum(key[0] < 0 for key in keys)


def worst_png(path: Path, evaluator: DetEvaluator) -> list[Path]:
    """Contact sheet of the pictures with the most mistakes; of the first ones where there are none."""
    from dao.drawing.pictures import write_image
    from dao.drawing.plates import of_mistake
    from dao.drawing.sheet import Cell, contact_sheet
    from dao.images.image_io import read_image

    order, wrong = worst_order(evaluator.pictures, evaluator.pairings, evaluator.score, evaluator.own)
    cells, ignored = [], False
    for i in order[: min(evaluator.worst, wrong) if wrong else evaluator.worst]:
        picture, pairing = evaluator.pictures[i], evaluator.pairings[i]
        try:
            image = read_image(picture.path)
        except DataError:  # it was readable a minute ago; the table still lists it
            continue
        at = (evaluator.score, evaluator.own)
        views = verdict_views(image, picture, pairing, evaluator.classes, *at)
        called = bool(box_badness(picture.labels, picture.scores, evaluator.own) >= evaluator.score)
        plate = of_mistake(is_bad(picture), called)
        cells.append(Cell(views, (worst_words(picture, pairing, *at),), Path(picture.path).name, plate))
        ignored |= bool(picture.truth.ignore.any())
    if not cells:
        return []
    shown = f"{len(cells)} of {counted(len(order), 'picture')}"
    which = f"{wrong} with mistakes, the most first: {shown}" if wrong else f"No mistakes: {shown}"
    title = f"{which}. Boxes from score {evaluator.score:g} on"
    legend = {**LEGEND, "ignored": LEFT_OUT} if ignored else LEGEND
    write_image(path, contact_sheet(cells, tile=TILE, title=title, heads=("truth", "answer"), legend=legend))
    return [path]


def worst_words(picture: PictureBoxes, pairing: Pairing, score: float, own: Mapping[int, float] = NO_OWN) -> str:
    """What is right and wrong in a picture, in a line."""
    missed = int(missed_boxes(picture, pairing, score, own).sum())
    total, alarms = int((~picture.truth.ignore).sum()), int(false_alarms(picture, pairing, score, own).sum())
    found = f"found {total - missed} of {counted(total, 'defect')}" if total else "is good"
    return f"{found}, {counted(alarms, 'false alarm')}" if alarms else found


def verdict_views(
    image: Image,
    picture: PictureBoxes,
    pairing: Pairing,
    classes: Sequence[str],
    score: float,
    own: Mapping[int, float] = NO_OWN,
) -> tuple[Image, Image]:
    """Two small copies of the picture: with the true boxes, found or missed, and with those of the answer."""
    truth, missed = picture.truth, missed_boxes(picture, pairing, score, own)
    colors = np.where(missed[:, None], MISSED, FOUND)
    colors[truth.ignore] = LEFT_OUT
    keep = np.flatnonzero(shown_boxes(picture.labels, picture.scores, score, own))
    seen = np.concatenate([truth.boxes_xyxy, picture.boxes_xyxy[keep]])
    there = _marked(image, truth.boxes_xyxy, colors, [classes[k] for k in truth.labels], missed, seen)
    alarms, hits = (pairing.verdict[keep] == verdict for verdict in (FALSE_ALARM, HIT))
    colors = np.where(alarms[:, None], ALARM, np.where(hits[:, None], FOUND, LEFT_OUT))
    names = [f"{classes[picture.labels[i]]} {picture.scores[i]:.2f}" for i in keep]
    return there, _marked(image, picture.boxes_xyxy[keep], colors, names, alarms, seen)


def _marked(
    image: Image,
    xyxy: NDArray[np.floating],
    colors: NDArray[np.integer],
    names: Sequence[str],
    first: NDArray[np.bool_],
    seen: NDArray[np.floating],
) -> Image:
    """A small copy with boxes and their names, mistakes (``first``) first; names cover little of the boxes ``seen``."""
    from dao.drawing.boxes import mark
    from dao.drawing.pictures import thumbnail

    canvas = np.array(thumbnail(image, TILE))
    scale = canvas.shape[1] / image.shape[1]
    order = np.argsort(~first, kind="stable")
    rgb: list[Color] = [tuple(colors[i].tolist()) for i in order]
    shown = [names[i] if rank < MOST_NAMES else "" for rank, i in enumerate(order)]
    mark(canvas, xyxy[order] * scale, rgb, shown, line=2, size=LETTERS, seen=seen * scale)
    return canvas
