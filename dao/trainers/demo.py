"""Stage three: pictures that a client looks at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from dao.config.reading import Config, Raw
from dao.config.signature import out_of_limits
from dao.errors import AnswerError, DataError, Problem
from dao.files import run_folder
from dao.loggers import logger as log
from dao.preprocess.geometry import map_to_picture
from dao.preprocess.settings import PreprocessSettings
from dao.register import Registers
from dao.runtime.predictor import Predictor
from dao.runtime.results import ResultFolder
from dao.structures import Prediction, Sample, Unreadable
from dao.tasks import build
from dao.trainers.answering import complete_from_checkpoint, facts_as_configured, readable, stage_folder
from dao.trainers.base import Options, Trainer, kept
from dao.words.counted import counted
from dao.words.printable import one_line


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
        self.drawn = 0

    def setup(self) -> None:
        self.predictor = Predictor(self.ckpt, str(self.device), trust=self.trust)
        facts = facts_as_configured(self.config, self.predictor.card)
        if facts:
            self.predictor.card = self.predictor.task_class.at(self.predictor.card, facts, "evaluator.kwargs")
        self.dataset = build.build_dataset(self.config.images, "images")
        self.bad.total = self.iters_per_epoch = len(self.dataset)
        self.run_dir = stage_folder(self.ckpt, "demo", "pictures")
        self.written = ResultFolder(self.run_dir, self.predictor, self.sheet_size)
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
        caption = self.written.add(self.iter, sample.image, prediction, heatmap=self._heatmap(sample, prediction))
        self.drawn += 1
        logger.info("{}  {}", one_line(sample.path), one_line(caption))

    def _heatmap(self, sample: Sample, prediction: Prediction) -> NDArray[np.float32] | None:
        """Where the model looked, in the original picture's frame."""
        if not self.with_heatmap:
            return None
        found = self.predictor.heatmap(sample.image, prediction)
        place = PreprocessSettings.of(self.predictor.card.preprocess).place(sample.original_hw)
        return None if found is None else map_to_picture(found, place, sample.original_hw)

    def after_epoch(self) -> None:
        super().after_epoch()
        self.written.finish(self.ckpt, self.bad.reasons)
        if not self.drawn:
            total, told = counted(len(self.dataset), "picture"), self.run_dir / "results.json"
            raise DataError(f"not one of {total} could be read and answered; see {told}")
        sheet = ", contact_sheet.png" if self.written.cells else ""
        logger.success("{}{} and results.json in {}", counted(self.drawn, "picture"), sheet, self.run_dir)

    def unfinished(self) -> str:
        drawn = f"{self.drawn} of {counted(self.iters_per_epoch, 'picture')} drawn"
        return f"{drawn}; results.json and the contact sheet were not written"

    def close(self) -> None:
        log.close_file()
