"""The parts of a training run, built from the sections of its config."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from loguru import logger

from dao.checkpoints import checkpoint
from dao.config.reading import freeze
from dao.dataloaders.fingerprint import fingerprint
from dao.dataloaders.inherited import left_over
from dao.errors import ConfigError, Problem
from dao.models.expected import preprocess_of
from dao.preprocess.module import Preprocess
from dao.processes import dist
from dao.processes.seeding import mix
from dao.register import Registers
from dao.tasks import build
from dao.tasks.base import Task
from dao.trainers import strategies
from dao.trainers.apart import judged_by_its_own, refuse_leaks
from dao.trainers.base import BadPictures, plain
from dao.trainers.evaluation import answering_as_counted
from dao.trainers.known_pictures import KnownPictures, require_every_class, say_unjudged
from dao.trainers.update import GradientUpdate, NoUpdate, updates_per_epoch
from dao.words.counted import counted, of_number

if TYPE_CHECKING:
    from dao.trainers.trainval import TrainVal

SET_APART = 0xC  # sets the random numbers of pictures set apart from those of the others


def build_data(trainer: TrainVal) -> None:
    """Preprocessing, dataset and loader. Raises ConfigError when they give no batch."""
    section = trainer.config.dataloader
    if "dataset" not in section:
        raise ConfigError(Problem("dataloader.dataset", "the section is missing; TrainVal needs it"))
    resolve_preprocess(trainer)
    trainer.dataset = build.build_dataset(section.dataset, "dataloader.dataset")
    trainer.loader = build.build_loader(section, "dataloader", trainer.dataset, trainer.preprocess, True, trainer.seed)
    trainer.data_state = fingerprint(trainer.dataset.records) if dist.is_main() else None
    require_every_class(trainer.dataset, trainer.allow_empty_classes)
    trainer.iters_per_epoch = len(trainer.loader)
    trainer.bad = BadPictures(len(trainer.dataset), trainer.max_bad_fraction)
    if trainer.iters_per_epoch == 0:
        few, make = counted(len(trainer.dataset), "picture"), of_number(len(trainer.dataset), "makes", "make")
        raise ConfigError(Problem("dataloader.kwargs.batch_size", f"{few} {make} not a single batch"))


def resolve_preprocess(trainer: TrainVal) -> None:
    """Preprocessing as the config says, and where it says nothing, as the weights were made with; the run's config, its
    checkpoints and the card hold the outcome."""
    raw = plain(trainer.config)
    register = getattr(Registers, build.task_class(raw["type"]).models)
    ckpt = str(checkpoint.find(trainer.ckpt)) if trainer.ckpt else None
    settings = preprocess_of(register, raw["model"], raw.get("preprocess", {}), ckpt)
    if settings != raw.get("preprocess", {}):
        trainer.config = freeze({**raw, "preprocess": settings})
    trainer.preprocess = Preprocess(**settings)


def build_task(trainer: TrainVal) -> None:
    """The model with its loss, in the task that trains it."""
    raw = plain(trainer.config)
    task = build.task_class(raw["type"])
    facts = task.facts_of(trainer.dataset)
    model = build.build_model(raw, trainer.dataset.classes, trainer.preprocess.in_channels)
    settings = trainer.preprocess.settings
    expected = task.expected_output(len(trainer.dataset.classes), tuple(settings.size))
    build.check_input(model, trainer.preprocess, expected)
    model = model.to(trainer.device, memory_format=trainer.memory_format)
    loss = build.build_loss(raw, trainer.dataset, trainer.device)
    trainer.task = task(model, trainer.preprocess.to(trainer.device), trainer.dataset.classes, loss=loss, facts=facts)
    trainer.task.prepare(trainer.dataset)
    trainer.task.use_loader(trainer.loader)
    trainer.trained = strategies.shard(trainer, model) if trainer.sharded else model
    if task_passes := trainer.task.passes:
        if "max_epochs" in trainer.config.trainer.get("kwargs", {}) and trainer.max_epochs != task_passes:
            logger.info("{} pass over the data is all that this model takes", task_passes)
        trainer.max_epochs = task_passes
    trainer.task.plan(trainer.max_epochs * trainer.iters_per_epoch)


def build_update(trainer: TrainVal) -> None:
    """A gradient step when there is an optimizer; a model without one is fitted by its own `end_of_pass`."""
    trainer.scheduler = None
    trainer.update = NoUpdate()
    if "optimizer" not in trainer.config:
        strategies.refuse_for_fitted(trainer)
        return
    trainer.optimizer = Registers.optimizers.build(trainer.config.optimizer, "optimizer", model=trainer.trained)
    if trainer.strategy == "fsdp":
        strategies.refuse_with_shares(trainer)
    per_epoch = updates_per_epoch(trainer.iters_per_epoch, trainer.accumulate)
    section = trainer.config.get("lr_scheduler", {"type": "constant_lr"})
    trainer.scheduler = Registers.schedulers.build(
        section,
        "lr_scheduler",
        total_iters=per_epoch * trainer.max_epochs,
        iters_per_epoch=per_epoch,
        no_aug_iters=per_epoch * trainer.no_aug_epochs,
    )
    trainer.scheduler.attach(trainer.optimizer)
    trainer.update = GradientUpdate(
        trainer.optimizer,
        trainer.trained,
        trainer.device,
        trainer.accumulate,
        trainer.clip_norm,
        trainer.amp,
        trainer.sharded,
    )


def build_ema(trainer: TrainVal, resumed: dict[str, Any] | None) -> None:
    """The average starts from the weights that training starts from."""
    if not trainer.ema:
        return
    trainer.ema_model = copy.deepcopy(trainer.task.model).eval().requires_grad_(False)
    if callable(drop := getattr(trainer.ema_model, "stop_learning", None)):
        drop()
    if resumed is not None and resumed["ema"]:
        trainer.ema_model.load_state_dict(resumed["ema"])


def build_calibration(trainer: TrainVal) -> None:
    """The rule, and the pictures, that thresholds are found by after each pass, where the config names some."""
    section = trainer.config.get("calibration", {})
    if section and type(trainer.task).calibrate is Task.calibrate:
        message = "finds no threshold while this task trains: judge the trained model with it (Eval takes the section)"
        raise ConfigError(Problem("calibration", message))
    trainer.calibrator = Registers.calibrators.build(section, "calibration") if section else None
    if "dataloader" in section:
        where = "calibration.dataloader"
        say_inherited(trainer, section, where)
        dataset = build.build_dataset(section.dataloader.dataset, f"{where}.dataset", trainer.dataset.classes)
        trainer.calibration_loader = build.build_loader(
            section.dataloader, where, dataset, trainer.preprocess, False, trainer.seed
        )
        trainer.calibration_bad = BadPictures(len(dataset), trainer.max_bad_fraction)
        refuse_leaks(trainer.dataset, dataset, None)
    _build_kept(trainer)


def _build_kept(trainer: TrainVal) -> None:
    """The training pictures that the task sets apart, read as in evaluation."""
    kept = trainer.task.set_apart(trainer.dataset, calibrated=trainer.calibration_loader is not None)
    if kept is None:
        return
    section = plain(trainer.config.dataloader)
    section["kwargs"] = {**section.get("kwargs", {}), "cache": False}  # they are read once a pass, in full size
    seed = mix(trainer.seed, SET_APART)  # views of a picture are to be others than those it is learnt by
    trainer.kept_loader = build.build_loader(section, "dataloader", kept, trainer.preprocess, False, seed)


def build_evaluator(trainer: TrainVal) -> None:
    """What validates, and by which pictures, where the config names some."""
    section = trainer.config.get("evaluator")
    if section is None:
        trainer.eval_interval = 0
        return
    where = "evaluator.dataloader"
    say_inherited(trainer, section, where)
    if "dataloader" not in section or "dataset" not in section.dataloader:
        raise ConfigError(Problem(f"{where}.dataset", "the section is missing; TrainVal validates on it"))
    dataset = build.build_dataset(section.dataloader.dataset, f"{where}.dataset", trainer.dataset.classes)
    if trainer.calibration_loader is not None:
        refuse_leaks(trainer.dataset, trainer.calibration_loader.dataset, dataset)
    trainer.eval_loader = build.build_loader(
        section.dataloader, where, dataset, trainer.preprocess, False, trainer.seed
    )
    trainer.evaluator = Registers.evaluators.build(section, "evaluator", classes=trainer.dataset.classes)
    trainer.task = answering_as_counted(trainer.task, trainer.evaluator)
    trainer.eval_bad = BadPictures(len(dataset), trainer.max_bad_fraction)
    say_unjudged(dataset)
    thresholds_of = trainer.kept_loader if trainer.calibration_loader is None else None
    if note := judged_by_its_own(thresholds_of and thresholds_of.dataset, dataset):
        logger.warning("{}", note)
        trainer.evaluator.notes = (note,)


def say_inherited(trainer: TrainVal, section: Any, where: str) -> None:
    """Warn of a set that came with an inherited config; before it is read, as it may not fit the model's classes."""
    judging = plain(section).get("dataloader", {}).get("dataset") or {}
    if dist.is_main() and (note := left_over(plain(trainer.config.dataloader.dataset), judging, f"{where}.dataset")):
        logger.warning("{}", note)


def know_pictures(trainer: TrainVal) -> None:
    """Fingerprints of all sets, by process 0, which says what they share; see `KnownPictures`."""
    if dist.is_main():
        others = {"calibration": trainer.calibration_loader, "validation": trainer.eval_loader}
        sets = {name: getattr(loader, "dataset", None) for name, loader in others.items()}
        trainer.known = KnownPictures(trainer.dataset, **sets)
