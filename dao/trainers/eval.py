"""Stage two: the numbers a factory accepts or rejects a model by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from loguru import logger

from dao.config import Config, Raw
from dao.errors import ConfigError, Problem
from dao.evaluators.headline import two_numbers
from dao.preflight import check_same_data
from dao.register import Registers
from dao.signature import out_of_limits
from dao.tasks import build
from dao.trainers import rehearsal
from dao.trainers.answering import (
    complete_from_checkpoint,
    refuse_exported,
    say_left_out,
    section_name,
    stage_folder,
)
from dao.trainers.base import BadPictures, Options, Trainer, plain
from dao.trainers.evaluation import answering_as_counted, to_device
from dao.trainers.known_pictures import note_of_taught
from dao.utils import checkpoint, dist, run_folder
from dao.utils import logger as log


@Registers.trainers.register()
class Eval(Trainer):
    """Evaluate a checkpoint on any set of pictures and write the full report.

    ckpt: a checkpoint or a run folder. prefer: which of a run folder's checkpoints, "best" or "latest".
    max_bad_fraction: share of pictures that may be unreadable before the run stops.
    """

    needs = ("type", "evaluator")
    many_processes = True

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """An exported file in the checkpoint's place, and numbers that are out of range."""
        return refuse_exported(kwargs, where) + out_of_limits(kwargs, {"max_bad_fraction": (0, 1)}, where)

    @classmethod
    def complete(cls, raw: Raw) -> Raw:
        return complete_from_checkpoint(raw, raw["trainer"].get("kwargs", {}).get("ckpt"))

    def __init__(
        self,
        config: Config,
        options: Options,
        ckpt: str,
        prefer: Literal["best", "latest"] = "best",
        max_bad_fraction: float = 0.01,
    ) -> None:
        super().__init__(config, options)
        self.ckpt, self.prefer, self.max_bad_fraction = ckpt, prefer, max_bad_fraction

    def rehearse(self) -> str:
        return rehearsal.of_evaluation(self)

    def build(self) -> Path:
        """Model, pictures and evaluator; returns the checkpoint that was taken."""
        path = checkpoint.find(self.ckpt, self.prefer)
        content = checkpoint.load(path)
        self.task = build.task_from_checkpoint(content, str(path))
        self.task.model.to(self.device)
        self.task.preprocess.to(self.device)
        section = self.config.evaluator
        if "dataloader" not in section or "dataset" not in section.dataloader:
            raise ConfigError(Problem("evaluator.dataloader.dataset", "the section is missing; Eval needs pictures"))
        where = "evaluator.dataloader"
        dataset = build.build_dataset(section.dataloader.dataset, f"{where}.dataset", self.task.classes)
        check_same_data(evaluation=dataset)
        say_left_out(dataset, plain(section.dataloader.dataset), json.loads(content["config"]))
        self.loader = build.build_loader(section.dataloader, where, dataset, self.task.preprocess, False, seed=0)
        self.iters_per_epoch = len(self.loader)  # type: ignore[arg-type]
        self.bad = BadPictures(len(dataset), self.max_bad_fraction)
        self.evaluator = Registers.evaluators.build(section, "evaluator", classes=self.task.classes)
        self.task = answering_as_counted(self.task, self.evaluator)
        if dist.is_main() and (note := note_of_taught(content.get("pictures"), dataset)):
            logger.warning("{}", note)
            self.evaluator.notes = (*self.evaluator.notes, note)
        return path

    def setup(self) -> None:
        path = self.build()
        section = self.config.evaluator
        self.run_dir = stage_folder(str(path), "eval", section_name(section.dataloader.dataset))
        if dist.is_main():
            log.to_file(self.run_dir / "log.txt")
            run_folder.write_json(self.run_dir / "config.json", plain(self.config))
        logger.info("{} on {} pictures -> {}", path, self.bad.total, self.run_dir)

    def before_epoch(self) -> None:
        self.evaluator.reset()
        self.evaluator.model_facts = self.task.facts
        super().before_epoch()

    def train_one_iter(self) -> None:
        """Answer for a batch and count."""
        self.evaluator.update(self.task.predict(to_device(self.batch, self.device)), self.batch)

    def after_epoch(self) -> None:
        self.metrics = self.evaluator.compute()
        super().after_epoch()
        if dist.is_main():
            self.evaluator.report(self.run_dir)
        logger.success("{}", self.evaluator.headline(self.metrics))
        logger.success("report: {}", self.run_dir)
        for line in two_numbers(self.evaluator.details):
            logger.success("{}", line)

    def unfinished(self) -> str:
        return "no report was written: an evaluation counts every picture or none"

    def close(self) -> None:
        if hasattr(self.loader, "close"):  # not where building it failed
            self.loader.close()
        log.close_file()
