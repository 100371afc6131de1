"""What a demo leaves behind for people: drawn pictures, a contact sheet, results.json and the tables of other tools."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.answers.operating import SET_BY
from dao.drawing.pictures import write_image, write_pixels
from dao.drawing.plates import of_verdict
from dao.drawing.sheet import Cell, contact_sheet
from dao.drawing.text import Color
from dao.files.output import write_json
from dao.runtime.predictor import Predictor
from dao.structures import Prediction
from dao.words.counted import counted
from dao.words.printable import one_line

LONGEST = (
    180  # bytes of a picture's name in those of its results; file systems allow 255, number, word and ending included
)
REASON = 90  # letters of why there is no answer, on the sheet


class ResultFolder:
    """A folder that fills picture by picture. `Demo` and ``python -m dao.runtime`` write the same files.

    sheet: pictures on the contact sheet, at most; 0 for no sheet.
    """

    def __init__(self, folder: Path, predictor: Predictor, sheet: int = 24) -> None:
        self.folder, self.predictor, self.sheet_size = folder, predictor, sheet
        self.results: list[dict[str, Any]] = []
        self.cells: list[Cell] = []
        self.legend: dict[str, Color] = {}

    def add(self, number: int, image: NDArray[np.uint8], prediction: Prediction, **extras: Any) -> str:
        """Write what one picture comes to, under its number in the set and its name. Returns its caption.

        extras: for `Answer.draw`.
        """
        predictor, stem = self.predictor, f"{number:04d}_{_short(Path(prediction.path).stem)}"
        files = {"picture": f"{stem}.png"}
        write_image(self.folder / files["picture"], predictor.draw(image, prediction, **extras))
        for word, picture in predictor.files(prediction).items():
            files[word] = f"{stem}_{word}.png"
            write_pixels(self.folder / files[word], picture)
        self.results.append({**predictor.describe(prediction), **files})
        caption = predictor.caption(prediction)
        if len(self.cells) < self.sheet_size:
            small = predictor.thumbnail(image, prediction)
            self.cells.append(Cell((small,), (caption,), Path(prediction.path).name, of_verdict(prediction.bad)))
            self.legend |= predictor.legend(prediction)
        return caption

    def finish(self, model: str, unreadable: Mapping[str, str]) -> None:
        """Write results.json, the tables and the contact sheet. unreadable: paths of pictures without an answer, and why."""
        content = {"model": model, "classes": self.predictor.classes, "operating_point": self._operating_point()}
        content["results"] = self.results
        content["unreadable"] = [{"path": path, "reason": reason} for path, reason in unreadable.items()]
        write_json(self.folder / "results.json", content)
        for name, table in self.predictor.task_class.tables(self.results, self.predictor.card).items():
            write_json(self.folder / name, table)
        if self.cells:
            legend = {name: self.legend[name] for name in self.predictor.classes if name in self.legend}
            cells = [*self.cells, *self._without_answer(unreadable)]
            sheet = contact_sheet(cells, title=self._title(len(unreadable)), legend=legend)
            write_image(self.folder / "contact_sheet.png", sheet)

    def _title(self, unreadable: int) -> str:
        total = counted(len(self.results) + unreadable, "picture")
        missing = f", {unreadable} without an answer" if unreadable else ""
        return f"{len(self.cells)} of {total} shown{missing}"

    def _without_answer(self, unreadable: Mapping[str, str]) -> list[Cell]:
        """The last of the sheet: pictures that nothing can be shown of, as many as find room."""
        room = self.sheet_size - len(self.cells)
        return [
            Cell(("no answer",), (shorten(one_line(reason), REASON),), Path(path).name)
            for path, reason in islice(unreadable.items(), room)
        ]

    def _operating_point(self) -> dict[str, Any]:
        """What verdicts were given by, and who set it."""
        kind, card = self.predictor.task_class, self.predictor.card
        known = kind.completed(card.facts)
        return {name: known[name] for name in (*kind.operating, SET_BY)}


def _short(stem: str) -> str:
    """The beginning of a name; its number tells it from others."""
    while len(os.fsencode(stem)) > LONGEST:
        stem = stem[:-1]
    return stem
