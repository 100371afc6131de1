"""A stage built and tried on a batch or two, for --check: what fails there fails before hours are spent.

Everything is built as the stage itself builds it, in a folder that is gone afterwards.
"""

from __future__ import annotations

import copy
import itertools
import tempfile
import time
from typing import TYPE_CHECKING, Any

import torch

from dao.config import reading
from dao.config.reading import Raw
from dao.config.signature import config_parameters
from dao.errors import RunError
from dao.loggers import logger as log
from dao.processes import failures
from dao.register import Registers
from dao.trainers.base import Options, Trainer
from dao.trainers.evaluation import to_device
from dao.trainers.hooks.console import memory_gib
from dao.trainers.update import GradientUpdate
from dao.words.counted import counted

if TYPE_CHECKING:
    from dao.trainers.eval import Eval
    from dao.trainers.trainval import TrainVal

# what would start processes, fill the memory, touch another run, or stop at pictures that --check lists by itself
QUIET_LOADER = {"num_workers": 0, "cache": False}
QUIET_STAGE = {"resume": None, "max_bad_fraction": 1.0}
LOADERS = ("dataloader", "evaluator.dataloader", "calibration.dataloader")
BATCHES = 2  # the first one pays for what is set up once


def rehearse(raw: Raw, device: torch.device) -> str:
    """One line on what a batch took and gave; "" for a stage that has nothing to try."""
    with tempfile.TemporaryDirectory(prefix="check-") as folder:
        quiet = quieted(raw, folder)
        trainer: Trainer = Registers.trainers.build(
            quiet["trainer"], "trainer", config=reading.freeze(quiet), options=Options(device)
        )
        log.to_terminal(level="WARNING")  # a run's own lines would say that it has begun
        try:
            return trainer.rehearse()
        except Exception as error:
            if not failures.out_of_memory(error):
                raise
            raise RunError(f"a batch does not fit: {failures.memory_message(error, device)}") from error
        finally:
            trainer.close()


def quieted(raw: Raw, folder: str) -> Raw:
    """The config with what a rehearsal does otherwise than a run."""
    quiet = copy.deepcopy(raw)
    stage = {**QUIET_STAGE, "log_dir": folder}
    _set(quiet["trainer"], stage, Registers.trainers)
    for place in LOADERS:
        node: Any = quiet
        for key in place.split("."):
            node = node.get(key, {})
        if node:
            _set(node, QUIET_LOADER, Registers.dataloaders)
    return quiet


def _set(section: Raw, values: dict[str, Any], register: Any) -> None:
    """Set those keywords that the section's component takes."""
    taken = config_parameters(register.get(section["type"]))
    section["kwargs"] = {**section.get("kwargs", {}), **{k: v for k, v in values.items() if k in taken}}


def of_training(trainer: TrainVal) -> str:
    """Batches through loader, hooks, model, loss and update; then one through the evaluator, where the model can answer."""
    trainer.setup()
    trainer.call_hooks("before_train")
    trainer.before_epoch()
    size, seconds = (), 0.0
    for number, batch in enumerate(itertools.islice(trainer.fetch(), BATCHES)):
        trainer.iter, trainer.batch = number, batch
        trainer.before_iter()
        started = time.perf_counter()
        trainer.train_one_iter()
        _wait_for(trainer.device)
        seconds, size = time.perf_counter() - started, tuple(trainer.batch.images.shape)
        trainer.after_iter()
    trainer.refuse_non_finite()
    values = ", ".join(f"{name} {value.item():.4f}" for name, value in trainer.losses.items())
    if trainer.evaluator is not None and isinstance(trainer.update, GradientUpdate):  # one that is fitted cannot yet
        with trainer.task.using(trainer.answering_model):
            _judge(trainer.task, trainer.eval_loader, trainer.evaluator, trainer.device)
    trainer.call_hooks("after_train")
    cost = f"{seconds:.3f} s and {memory_gib(trainer.device):.2f} GiB on {trainer.device}"
    return f"one batch: {counted(size[0], 'picture')}, input {size}, {values or 'collected'}; {cost}"


def of_evaluation(trainer: Eval) -> str:
    """One batch through the checkpoint's model and the evaluator."""
    trainer.build()
    started = time.perf_counter()
    size = _judge(trainer.task, trainer.loader, trainer.evaluator, trainer.device)
    _wait_for(trainer.device)
    cost = f"{time.perf_counter() - started:.3f} s and {memory_gib(trainer.device):.2f} GiB on {trainer.device}"
    return f"one batch: {counted(size[0], 'picture')}, input {size}; {cost}"


def _judge(task: Any, loader: Any, evaluator: Any, device: torch.device) -> tuple[int, ...]:
    batch = to_device(next(iter(loader)), device)
    evaluator.update(task.predict(batch), batch)
    return tuple(batch.images.shape)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
