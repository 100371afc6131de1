"""Stage four: a file that runs without this code, proven equal on real pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from loguru import logger

from dao.checkpoints import checkpoint
from dao.config.reading import Config, Raw
from dao.config.signature import out_of_limits
from dao.errors import ConfigError, ParityError, Problem
from dao.evaluators.report import finite
from dao.exporters.base import Exporter
from dao.files import run_folder
from dao.loggers import logger as log
from dao.preprocess.tiling import windows
from dao.register import Registers
from dao.structures import Sample
from dao.tasks import build
from dao.trainers.answering import (
    complete_from_checkpoint,
    facts_as_configured,
    readable,
    refuse_exported,
    stage_folder,
)
from dao.trainers.base import Options, Trainer, kept
from dao.trainers.pending import REFUTED, PendingFile
from dao.trainers.proof import Proof
from dao.words.counted import counted

FURTHER = 256  # pictures that are looked at, beyond parity_images, for one in which the model finds something


@Registers.trainers.register()
class Export(Trainer):
    """Write the exported file(s) of a checkpoint and prove on pictures that they answer as it does.

    ckpt: a checkpoint or a run folder; prefer: which of a run folder's checkpoints.
    parity_images: on how many pictures to compare, taken evenly from ``images``, else from the validation set; on some
        more where the model finds nothing in those, as an empty answer proves nothing.
    atol: largest absolute difference of an output that still passes.
    """

    needs = ("type", "export")

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """An exported file in the checkpoint's place, and numbers that are out of range."""
        limits = {"parity_images": (1, float("inf")), "atol": (0, float("inf"))}
        return refuse_exported(kwargs, where) + out_of_limits(kwargs, limits, where)

    @classmethod
    def complete(cls, raw: Raw) -> Raw:
        return complete_from_checkpoint(raw, raw["trainer"].get("kwargs", {}).get("ckpt"))

    def __init__(
        self,
        config: Config,
        options: Options,
        ckpt: str,
        prefer: Literal["best", "latest"] = "best",
        parity_images: int = 16,
        atol: float = 1e-3,
    ) -> None:
        super().__init__(config, options)
        self.ckpt, self.prefer, self.parity_images, self.atol = ckpt, prefer, parity_images, atol

    def setup(self) -> None:
        path = checkpoint.find(self.ckpt, self.prefer)
        self.task = build.task_from_checkpoint(checkpoint.load(path), str(path))
        if facts := facts_as_configured(self.config, self.task.card()):
            self.task = self.task.with_facts(facts, "evaluator.kwargs")
        self.dataset = self._pictures()
        self.bad.total = len(self.dataset)
        self.iters_per_epoch = min(self.parity_images, len(self.dataset))
        self.run_dir = stage_folder(str(path), "export", "model")
        log.to_file(self.run_dir / "log.txt")
        run_folder.write_json(self.run_dir / "config.json", kept(self.config))
        self.proofs: dict[Path, Proof] = {}
        self.scratch = tempfile.TemporaryDirectory(prefix="proof-")
        self.unproven: list[Path] = []
        self.pending: dict[Path, PendingFile] = {}
        several = isinstance(self.config.export, list)
        try:
            for number, section in enumerate(self.config.export if several else [self.config.export]):
                self._export(section, f"export.{number}" if several else "export")
        except BaseException:
            self.close()
            raise

    def _export(self, section: Any, where: str) -> None:
        exporter: Exporter = Registers.exporters.build(section, where)
        if not isinstance(exporter, Exporter):
            message = f"builds a {type(exporter).__name__}, not a dao.exporters.base.Exporter"
            raise ConfigError(Problem(f"{where}.type", message))
        task = self.task.with_facts(exporter.facts, f"{where}.kwargs.facts")
        path = self.run_dir / f"{self.config.name}{exporter.suffix}"
        if path in self.pending:  # a second file of the same kind, with other settings
            path = self.run_dir / f"{self.config.name}-{len(self.pending) + 1}{exporter.suffix}"
        written = self.pending[path] = PendingFile(path)
        self.task.model.cpu()
        self.task.preprocess.cpu()
        exporter.export(task, written.path)
        backend = exporter.opened(written.path, self.device)
        if backend is None:
            self.unproven.append(path)
            logger.warning("{} is not proven: {} names no backend, so nothing here can run the file",
                           path, type(exporter).__name__)  # fmt: skip
        else:
            twin = Path(tempfile.mkdtemp(dir=self.scratch.name)) / path.name
            self.proofs[path] = Proof(task, exporter, backend, self.device, twin)
        self.task.model.to(self.device)
        self.task.preprocess.to(self.device)

    def _pictures(self) -> Any:
        """The pictures to compare on. Raises ConfigError when the config names none: a proof needs some."""
        if "images" in self.config:
            return build.build_dataset(self.config.images, "images")
        section = self.config.get("evaluator", {})
        if "dataloader" in section and "dataset" in section["dataloader"]:
            where = "evaluator.dataloader.dataset"
            return build.build_dataset(section["dataloader"]["dataset"], where, self.task.classes)
        raise ConfigError(
            Problem("images", "the section is missing, and there is no validation set: no picture to prove on")
        )

    def fetch(self) -> Iterator[Any]:
        """Pictures spread evenly over the set, then others until each file has something to be proven on; unreadable ones
        are named and left out."""
        spread = np.linspace(0, len(self.dataset) - 1, self.iters_per_epoch).round().astype(int).tolist()
        preprocess = self.task.card().preprocess
        yield from readable(self.dataset, spread, preprocess, self.bad)
        others = [i for i in range(len(self.dataset)) if i not in set(spread)][:FURTHER]
        further = readable(self.dataset, others, preprocess, self.bad)
        while not all(proof.shows_something(self.atol) for proof in self.proofs.values()):
            sample = next(further, None)
            if sample is None:
                return
            yield sample

    def before_iter(self) -> None:
        self.call_hooks("before_iter")

    def train_one_iter(self) -> None:
        """Compare every exported file with the model on one picture."""
        sample: Sample = self.batch  # type: ignore[assignment]
        image = self._as_given(sample.image)
        for proof in self.proofs.values():
            proof.compare(sample.path, image)

    def _as_given(self, image: np.ndarray) -> np.ndarray:
        """What the file is asked with: the picture, or its middle window where a predictor would cut it."""
        settings = self.task.preprocess.settings
        if not settings.tiled:
            return image
        cut = windows((image.shape[0], image.shape[1]), tuple(settings.size), settings.overlap)
        return cut[len(cut) // 2].of(image)

    def after_epoch(self) -> None:
        super().after_epoch()
        report = {path.name: proof.summary(self.atol) for path, proof in self.proofs.items()}
        content = {"atol": self.atol, "files": report, "unproven": [path.name for path in self.unproven]}
        run_folder.write_json(self.run_dir / "parity.json", finite(content))
        failed = [name for name, summary in report.items() if not summary["passed"]]
        self.proofs.clear()  # whatever holds a file open lets go of it
        for path, written in self.pending.items():
            written.publish(passed=path.name not in failed)
        for name, summary in report.items():
            logger.log(
                "ERROR" if name in failed else "SUCCESS",
                "{}: {}, max abs difference {:.2g}, max rel {:.2g}, same verdict on {:.1%}{}",
                name, counted(summary["pictures"], "picture"), summary["max_abs"], summary["max_rel"], summary["agreement"],
                "" if summary["equal"] == 1 else f", at least {summary['equal']:.4%} of a picture's class map equal",
            )  # fmt: skip
        if failed:
            faults = " ".join(f"{name} {self._fault(report[name])}." for name in failed)
            raise ParityError(f"{faults} What does not agree, or is not proven, is named ...{REFUTED}")
        logger.success("exported to {}", self.run_dir)

    def _fault(self, summary: dict[str, Any]) -> str:
        """Why a file did not pass, to follow its name."""
        where = f"per picture: {self.run_dir / 'parity.json'}"
        if summary["max_abs"] <= self.atol and summary["agreement"] == 1.0:
            return f"is not proven: {summary['not_proven']}; {where}"
        return f"does not answer as the checkpoint does (tolerance {self.atol:g}); {where}"

    def unfinished(self) -> str:
        return "nothing was exported: what was not yet proven is removed"

    def close(self) -> None:
        if hasattr(self, "scratch"):  # not where setting up failed early
            self.proofs.clear()
            self.scratch.cleanup()
        for written in self.pending.values():  # what was not published: a run that failed or was stopped
            written.discard()
        log.close_file()
