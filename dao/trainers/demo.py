"""Stage three: pictures that a client looks at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from dao.answers.operating import SET_BY
from dao.config import Config, Raw
from dao.errors import AnswerError, DataError, Problem
from dao.predictor import Predictor
from dao.register import Registers
from dao.signature import out_of_limits
from dao.structures import Prediction, Sample, Unreadable
from dao.tasks import build
from dao.trainers.answering import complete_from_checkpoint, facts_as_configured, readable, stage_folder
from dao.trainers.base import Options, Trainer, kept
from dao.utils import logger as log
from dao.utils import run_folder
from dao.utils.counted import counted
from dao.utils.printable import one_line
from dao.utils.text import Color
from dao.utils.visualize import write_image, write_pixels
from dao.utils.visualize_sheet import Cell, contact_sheet


@Registers.trainers.register()
class Demo(Trainer):
    """Draw a model's answers on pictures: annotated copies, a contact sheet, results.json.

    ckpt: a checkpoint, a run folder, or an exported file; all give the same answer.
    Verdicts go by the model's operating point; keywords of an "evaluator" section that set another one count here too.
    trust: show an exported file that can run code of whoever made it (.pt2) as well; all others are data.
    heatmap: show where the model looked (needs a checkpoint). sheet: pictures on the contact sheet, at
    most; 0 for no sheet.
    """

    needs = ("images",)

    @classmethod
    def complete(cls, raw: Raw) -> Raw:
        return complete_from_checkpoint(raw, raw["trainer"].get("kwargs", {}).get("ckpt"))

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Numbers that are out of range."""
        return out_of_limits(kwargs, {"sheet": (0, float("inf"))}, where)

    def __init__(
        self,
        config: Config,
        options: Options,
        ckpt: str,
        heatmap: bool = True,
        sheet: int = 24,
        trust: bool = False,
    ) -> None:
        super().__init__(config, options)
        self.ckpt, self.with_heatmap, self.sheet_size, self.trust = ckpt, heatmap, sheet, trust
        self.results: list[dict[str, Any]] = []
        self.cells: list[Cell] = []
        self.legend: dict[str, Color] = {}

    def setup(self) -> None:
        self.predictor = Predictor(self.ckpt, str(self.device), trust=self.trust)
        facts = facts_as_configured(self.config, self.predictor.card)
        if facts:
            self.predictor.card = self.predictor.task_class.at(self.predictor.card, facts, "evaluator.kwargs")
        self.dataset = build.build_dataset(self.config.images, "images")
        self.bad.total = self.iters_per_epoch = len(self.dataset)
        self.run_dir = stage_folder(self.ckpt, "demo", "pictures")
        log.to_file(self.run_dir / "log.txt")
        run_folder.write_json(self.run_dir / "config.json", kept(self.config))
        logger.info("{} on {} -> {}", self.ckpt, counted(len(self.dataset), "picture"), self.run_dir)

    def fetch(self) -> Iterator[Any]:
        """One picture after the other; those that cannot be read are named and left out."""
        return readable(self.dataset, range(len(self.dataset)), self.predictor.card.preprocess, self.bad)

    def before_iter(self) -> None:
        self.call_hooks("before_iter")

    def train_one_iter(self) -> None:
        """Answer, draw, write."""
        sample: Sample = self.batch  # type: ignore[assignment]
        try:
            prediction = self.predictor(sample.image)
        except AnswerError as error:
            self.bad.add_one(Unreadable(sample.path, sample.index, str(error)))
            return
        prediction.path = sample.path
        drawn = self.predictor.draw(sample.image, prediction, heatmap=self._heatmap(sample, prediction))
        stem = f"{self.iter:04d}_{Path(sample.path).stem}"
        files = {"picture": f"{stem}.png"}
        write_image(self.run_dir / files["picture"], drawn)
        for word, picture in self.predictor.files(prediction).items():
            files[word] = f"{stem}_{word}.png"
            write_pixels(self.run_dir / files[word], picture)
        self.results.append({**self.predictor.describe(prediction), **files})
        caption = self.predictor.caption(prediction)
        if len(self.cells) < self.sheet_size:
            small = self.predictor.thumbnail(sample.image, prediction)
            self.cells.append(Cell((small,), (caption,), Path(sample.path).name, prediction.bad))
            self.legend |= self.predictor.legend(prediction)
        logger.info("{}  {}", one_line(sample.path), one_line(caption))

    def _heatmap(self, sample: Sample, prediction: Prediction) -> NDArray[np.float32] | None:
        """Where the model looked, in the original picture's frame."""
        if not self.with_heatmap:
            return None
        found = self.predictor.heatmap(sample.image, prediction)
        return None if found is None else to_original(found, sample.original_hw, self.predictor.card.preprocess)

    def after_epoch(self) -> None:
        super().after_epoch()
        content = {"model": self.ckpt, "classes": self.predictor.classes, "operating_point": self._operating_point()}
        content["results"] = self.results
        content["unreadable"] = [{"path": path, "reason": reason} for path, reason in self.bad.reasons.items()]
        run_folder.write_json(self.run_dir / "results.json", content)
        for name, table in self.predictor.task_class.tables(self.results, self.predictor.card).items():
            run_folder.write_json(self.run_dir / name, table)
        if not self.results:
            total, told = counted(len(self.dataset), "picture"), self.run_dir / "results.json"
            raise DataError(f"not one of {total} could be read and answered; see {told}")
        if self.cells:
            title = f"{len(self.cells)} of {counted(len(self.results), 'picture')} shown"
            legend = {name: self.legend[name] for name in self.predictor.classes if name in self.legend}
            write_image(self.run_dir / "contact_sheet.png", contact_sheet(self.cells, title=title, legend=legend))
        sheet = ", contact_sheet.png" if self.cells else ""
        drawn = counted(len(self.results), "picture")
        logger.success("{}{} and results.json in {}", drawn, sheet, self.run_dir)

    def _operating_point(self) -> dict[str, Any]:
        """What verdicts were given by, and who set it."""
        kind, card = self.predictor.task_class, self.predictor.card
        known = kind.completed(card.facts)
        return {name: known[name] for name in (*kind.operating, SET_BY)}

    def unfinished(self) -> str:
        drawn = f"{len(self.results)} of {counted(self.iters_per_epoch, 'picture')} drawn"
        return f"{drawn}; results.json and the contact sheet were not written"

    def close(self) -> None:
        log.close_file()


def to_original(
    heat: NDArray[np.float32], original_hw: tuple[int, int], preprocess: dict[str, Any]
) -> NDArray[np.float32]:
    """A map over the model's input -> the same map over the original picture; 0 where the model saw nothing of it."""
    import cv2

    from dao.preprocess import Preprocess

    place = Preprocess(**preprocess).settings.place(original_hw)
    canvas = np.zeros((place.height, place.width), np.float32)
    top, left = max(place.top, 0), max(place.left, 0)
    seen = heat[top : top + place.height, left : left + place.width]
    y, x = max(-place.top, 0), max(-place.left, 0)
    canvas[y : y + seen.shape[0], x : x + seen.shape[1]] = seen
    return cv2.resize(canvas, (original_hw[1], original_hw[0]), interpolation=cv2.INTER_LINEAR)
