"""Stage two: the numbers a factory accepts or rejects a model by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from loguru import logger

from dao.checkpoints import checkpoint
from dao.config.reading import Config, Raw
from dao.config.signature import out_of_limits
from dao.errors import ConfigError, Problem
from dao.evaluators.headline import judged_at, two_numbers
from dao.files import run_folder
from dao.launch.preflight import check_same_data
from dao.loggers import logger as log
from dao.processes import dist
from dao.register import Registers
from dao.tasks import build
from dao.trainers import recalibrate, rehearsal
from dao.trainers.answering import complete_from_checkpoint, is_exported, say_left_out, section_name, stage_folder
from dao.trainers.answering_file import AnsweringFile
from dao.trainers.apart import refuse_judges
from dao.trainers.base import BadPictures, Options, Trainer, kept, plain
from dao.trainers.evaluation import Counted, answering_as_counted, to_device
from dao.trainers.known_pictures import note_of_taught
from dao.words.counted import counted


@Registers.trainers.register()
class Eval(Trainer):
    """Evaluate a checkpoint on any set of pictures and write the full report.

    ckpt: a checkpoint, a run folder, or an exported file. prefer: which of a run folder's checkpoints, "best" or "latest".
    max_bad_fraction: share of pictures that may be unreadable before the run stops.
    trust: judge an exported file that can run code of whoever made it (.pt2) as well; all others are data.
    save: write the operating point that was set here or found by "calibration" into a copy of the checkpoint, beside it.
    With a "calibration" section thresholds are found anew on its pictures, and the verdicts go by them.
    """

    needs = ("type", "evaluator")
    many_processes = True

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Numbers that are out of range, and an exported file that is to be written to."""
        problems = out_of_limits(kwargs, {"max_bad_fraction": (0, 1)}, where)
        if kwargs.get("save") and is_exported(kwargs["ckpt"]):
            message = (
                "cannot change an exported file: export the checkpoint with this operating point (export.kwargs.facts)"
            )
            problems.append(Problem(f"{where}.save", message))
        return problems

    @classmethod
    def complete(cls, raw: Raw) -> Raw:
        return complete_from_checkpoint(raw, raw["trainer"].get("kwargs", {}).get("ckpt"), judges=True)

    def __init__(
        self,
        config: Config,
        options: Options,
        ckpt: str,
        prefer: Literal["best", "latest"] = "best",
        max_bad_fraction: float = 0.01,
        save: bool = False,
        trust: bool = False,
    ) -> None:
        super().__init__(config, options)
        self.ckpt, self.prefer, self.max_bad_fraction, self.save = ckpt, prefer, max_bad_fraction, save
        self.trust = trust
        self.loader: Any = ()
        self.calibration_loader: Any = None
        self.calibration_bad = BadPictures()
        self.known: dict[str, Any] = {}  # the config that the checkpoint was trained with
        self.taught: Any = None  # fingerprints of the pictures that trained the model, where the checkpoint has them

    def rehearse(self) -> str:
        return rehearsal.of_evaluation(self)

    def build(self) -> Path:
        """Model, pictures and evaluator; returns the checkpoint that was taken."""
        path = self._build_task()
        section = self.config.evaluator
        if "dataloader" not in section or "dataset" not in section.dataloader:
            raise ConfigError(Problem("evaluator.dataloader.dataset", "the section is missing; Eval needs pictures"))
        self.loader = self._build_loader("evaluator.dataloader", section.dataloader)
        check_same_data(evaluation=self.loader.dataset)
        say_left_out(self.loader.dataset, plain(section.dataloader.dataset), self.known)
        self.iters_per_epoch = len(self.loader)
        self.bad = BadPictures(len(self.loader.dataset), self.max_bad_fraction)
        self.evaluator = Registers.evaluators.build(section, "evaluator", classes=self.task.classes)
        self.task = answering_as_counted(self.task, self.evaluator)
        self._say_of_taught(self.loader.dataset)
        if "calibration" in self.config:
            self._build_calibration()
        return path

    def _say_of_taught(self, dataset: Any) -> None:
        if dist.is_main() and (note := note_of_taught(self.taught, dataset)):
            logger.warning("{}", note)
            self.evaluator.notes = (*self.evaluator.notes, note)

    def _build_task(self) -> Path:
        """What answers: a checkpoint's model, or an exported file as it is."""
        if is_exported(self.ckpt):
            self.task: Any = AnsweringFile(self.ckpt, self.device, self.trust)
            return Path(self.ckpt)
        path = checkpoint.find(self.ckpt, self.prefer)
        content = checkpoint.load(path)
        self.task = build.task_from_checkpoint(content, str(path))
        self.task.model.to(self.device)
        self.task.preprocess.to(self.device)
        self.taught, self.known = content.get("pictures"), json.loads(content["config"])
        return path

    def _build_loader(self, where: str, section: Any) -> Any:
        dataset = build.build_dataset(section.dataset, f"{where}.dataset", self.task.classes)
        section = plain(section)
        if isinstance(self.task, AnsweringFile):  # a file takes pictures as they are
            section["kwargs"] = {**section.get("kwargs", {}), "keep_samples": True}
        return build.build_loader(section, where, dataset, self.task.preprocess, False, seed=0)

    def _build_calibration(self) -> None:
        recalibrate.refuse_contradiction(self.config, self.evaluator.facts)
        where = "calibration.dataloader"
        self.calibration_loader = self._build_loader(where, self.config.calibration.dataloader)
        dataset = self.calibration_loader.dataset
        refuse_judges(dataset, self.loader.dataset)
        self._say_of_taught(dataset)
        self.calibration_bad = BadPictures(len(dataset), self.max_bad_fraction)

    def _recalibrate(self) -> None:
        """Before anything is judged."""
        batches = Counted(self.calibration_loader, self.calibration_bad.add)
        on_device = (to_device(batch, self.device) for batch in batches)
        self.task = recalibrate.recalibrate(self.task, on_device, self.evaluator, self.config)
        self.calibration_bad.gather()

    def setup(self) -> None:
        path = self.build()
        section = self.config.evaluator
        self.run_dir = stage_folder(str(path), "eval", section_name(section.dataloader.dataset))
        if dist.is_main():
            log.to_file(self.run_dir / "log.txt")
            run_folder.write_json(self.run_dir / "config.json", kept(self.config))
        logger.info("{} on {} -> {}", path, counted(self.bad.total, "picture"), self.run_dir)
        self.path = path
        if self.calibration_loader is not None:
            self._recalibrate()

    def before_epoch(self) -> None:
        self.evaluator.reset()
        self.evaluator.model_facts = self.task.facts
        super().before_epoch()

    def train_one_iter(self) -> None:
        """Answer for a batch and count."""
        predictions = self.task.predict_and_leave_out(to_device(self.batch, self.device))
        self.bad.add(self.batch)
        self.evaluator.update(predictions, self.batch)

    def after_epoch(self) -> None:
        self.bad.gather()  # each process has seen its share of the pictures
        self.metrics = self.evaluator.compute()
        super().after_epoch()
        if dist.is_main():
            self.evaluator.report(self.run_dir)
            recalibrate.write_card(self.task, self.run_dir)
            if self.save:
                recalibrate.save(self.path, self.task)
        logger.success("{}", self.evaluator.headline(self.metrics))
        logger.info("{}", judged_at(self.evaluator.operating_point))
        logger.success("report: {}", self.run_dir)
        for line in two_numbers(self.evaluator.details):
            logger.info("{}", line)

    def unfinished(self) -> str:
        return "no report was written: an evaluation counts every picture or none"

    def close(self) -> None:
        self.calibration_bad.summary()
        for loader in (self.loader, self.calibration_loader):
            if hasattr(loader, "close"):  # not where building it failed
                loader.close()
        log.close_file()
