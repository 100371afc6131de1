"""What a training run must remember to go on, and how it is put back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from dao.answers.operating import SET_BY
from dao.checkpoints import checkpoint
from dao.dataloaders import fingerprint
from dao.errors import CheckpointError, RunError
from dao.files import run_folder
from dao.processes import dist
from dao.tasks import build
from dao.trainers import strategies
from dao.trainers.base import kept
from dao.trainers.evaluation import answering_as_counted
from dao.trainers.update import updates_per_epoch

if TYPE_CHECKING:
    from dao.trainers.hooks.base import Hook
    from dao.trainers.trainval import TrainVal


JUDGING = ("evaluator.", "calibration.")  # places of settings that a report's numbers hang on


@dataclass(slots=True)
class Found:
    """A checkpoint to go on from. lock: on its run folder, held by process 0 from before the file was read."""

    path: Path
    content: dict[str, Any]
    lock: Any = None


def find(wanted: str, log_dir: Path, name: str) -> Found | None:
    """The checkpoint to go on from and what it holds; None when "auto" finds none.

    Process 0 looks and decides for all, as it alone writes checkpoints: a machine that does not share its disk is sent
    the file. The folder is locked before the file is read: read first, a run that was still writing there could have
    saved a newer one in between, over which this run would train again.
    Raises CheckpointError when there is none, or a bad one, where one was named; RunError when another run writes there.
    """
    path, content, error, lock = None, None, None, None
    if dist.is_main():
        try:
            path = run_folder.resume_checkpoint(wanted, log_dir, name)
            if path is not None:
                lock = run_folder.lock(run_folder.of_checkpoint(path))
                content = _load_or_previous(path)
        except (CheckpointError, RunError) as refused:
            error = refused
    if content is not None and "update" not in content:
        error = CheckpointError(f"{path} holds weights to answer with; to start from them use trainer.kwargs.ckpt")
        content = None
    path, error = dist.broadcast_object((path, error))
    if error is not None:
        raise error
    if path is None:
        return None
    return Found(path, checkpoint.load_everywhere(path, content), lock)


def _load_or_previous(path: Path) -> dict[str, Any]:
    """A run's latest checkpoint, or, where the disk has spoilt it, the one before. The run folder is locked by us."""
    previous = path.with_name("previous.ckpt")
    try:
        return checkpoint.load(path)
    except CheckpointError as error:
        if path.name != "latest.ckpt" or not previous.is_file():
            raise
        content = checkpoint.load(previous)
        path.replace(path.with_name("damaged.ckpt"))
        checkpoint.keep(previous, path)
        logger.warning(
            "{}; it is kept as damaged.ckpt, and {}, the one before it, is gone on from", error, previous.name
        )
        return content


def content_of(trainer: TrainVal) -> dict[str, Any]:
    """All that is needed to go on, or to answer, as plain values and tensors; see `dao.checkpoints.checkpoint`."""
    done = trainer.iter + 1 >= trainer.iters_per_epoch
    return {
        "model": strategies.full_weights(trainer),
        "ema": trainer.ema_model.state_dict() if trainer.ema_model is not None else None,
        "update": trainer.update.state_dict(),
        "scheduler": trainer.scheduler.state_dict() if trainer.scheduler is not None else None,
        "hooks": {name: hook.state_dict() for name, hook in _named(trainer.hooks)},
        "owes_end_of_epoch": trainer.owes_end_of_epoch,
        "epoch": trainer.epoch + 1 if done else trainer.epoch,
        "iter": 0 if done else trainer.iter + 1,
        "iters_per_epoch": trainer.iters_per_epoch,
        "world_size": dist.world_size(),
        "seed": trainer.seed,
        "data": trainer.data_state,
        "pictures": trainer.known.taught if trainer.known is not None else None,
        "metrics": trainer.metrics,
        "best": trainer.best,
        "config": json.dumps(kept(trainer.config)),
        "card": trainer.task.card().to_json(),
        "versions": dict(run_folder.package_versions()),
    }


def restore(trainer: TrainVal, path: Path, content: dict[str, Any]) -> None:
    """Put a checkpoint's state into a trainer that is built. Raises CheckpointError when it is of something else."""
    card = build.card_of(content)
    if card.classes != trainer.dataset.classes:
        raise CheckpointError(
            f"{path} was trained on the classes {card.classes}, the data now has {trainer.dataset.classes}; "
            "to start from its weights alone use trainer.kwargs.ckpt"
        )
    trainer.judged_otherwise = judged_by(say_changes(trainer, content))
    _say_changes_of_data(trainer, content)
    _say_changes_of_versions(content)
    try:
        trainer.task.model.load_state_dict(content["model"])
        strategies.spread_weights(trainer)
        _load_update(trainer, content)
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is of another model or optimizer: {str(error).splitlines()[0]}") from None
    for name, hook in _named(trainer.hooks):
        hook.load_state_dict(content["hooks"].get(name, {}))
    take_over_facts(trainer, card.facts)
    trainer.start_epoch, trainer.start_iter = content["epoch"], content["iter"]
    if trainer.task.passes:  # what it had collected is not in the checkpoint
        trainer.start_iter = 0
    trainer.owes_end_of_epoch = bool(content["owes_end_of_epoch"]) and trainer.start_epoch > 0
    trainer.metrics, trainer.best = dict(content["metrics"]), dict(content["best"])
    if trainer.start_iter and _slicing(content) != (trainer.iters_per_epoch, trainer.accumulate, dist.world_size()):
        logger.warning("epochs were cut into other batches than now: epoch {} starts from its beginning",
                       trainer.start_epoch + 1)  # fmt: skip
        trainer.start_iter = 0
    _place_scheduler(trainer, content)
    logger.info("{}", where_it_goes_on(trainer, path))


def where_it_goes_on(trainer: TrainVal, path: Path) -> str:
    """From which iteration a restored run goes on; of a finished one, that it is, and what to set to train longer."""
    done = trainer.start_epoch
    if done < trainer.max_epochs:
        return f"resumed from {path}: epoch {done + 1}, iteration {trainer.start_iter + 1}"
    epochs = "its epoch is" if done == 1 else f"all its {done} epochs are"
    owed = "; what is left is the last validation" if trainer.owes_end_of_epoch else ""
    if trainer.task.passes:
        return f"{path}: {epochs} trained already{owed}, and this model learns no more from another"
    more = f"-o trainer.kwargs.max_epochs={done + max(1, done // 2)}"
    return f"{path}: {epochs} trained already{owed}; to go on, raise trainer.kwargs.max_epochs, e.g. {more}"


def take_over_facts(trainer: TrainVal, known: Mapping[str, Any]) -> None:
    """What training had found out goes on to hold, but for what the config sets by hand: that is what it is now.

    known: the facts of the checkpoint's card.
    """
    task = trainer.task
    task.facts |= {name: known[name] for name in task.learned_facts if name in known}
    if getattr(trainer, "evaluator", None) is not None:
        task.facts |= answering_as_counted(task, trainer.evaluator).facts
        trainer.evaluator.model_facts = task.facts
    for name in task.learned_facts:
        how = known.get(SET_BY, {}).get(name)
        if how and name not in task.facts[SET_BY]:
            logger.warning(
                "{} is no longer set by hand ({:g}, {}): it stays until it is calibrated anew", name, known[name], how
            )


def _named(hooks: Sequence[Hook]) -> Iterator[tuple[str, Hook]]:
    """Each hook by its class, and by its number where there are several of one: "StopAt", "StopAt.2"."""
    seen: Counter[str] = Counter()
    for hook in hooks:
        name = type(hook).__name__
        seen[name] += 1
        yield (name if seen[name] == 1 else f"{name}.{seen[name]}"), hook


def _load_update(trainer: TrainVal, content: dict[str, Any]) -> None:
    """The optimizer's memory from the checkpoint; where its section of the config was changed, its settings from there.

    Not otherwise: some optimizers (Prodigy) keep what they have learnt among their settings.
    """
    optimizer = getattr(trainer.update, "optimizer", None)
    groups = optimizer.param_groups if optimizer is not None else []
    settings = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    trainer.update.load_state_dict(content["update"])
    if json.loads(content["config"]).get("optimizer") == kept(trainer.config).get("optimizer"):
        return
    for group, own in zip(optimizer.param_groups if optimizer is not None else [], settings, strict=True):
        group.update(own)


def _slicing(content: dict[str, Any]) -> tuple[int, int, int]:
    """How a stopped run cut its epochs: iterations in one, iterations in a window, processes."""
    accumulate = json.loads(content["config"])["trainer"].get("kwargs", {}).get("accumulate", 1)
    return content["iters_per_epoch"], accumulate, content["world_size"]


def _place_scheduler(trainer: TrainVal, content: dict[str, Any]) -> None:
    """The rate belongs to the share of the run that is done, however many updates an epoch had then and has now."""
    if trainer.scheduler is None or not content["scheduler"]:
        return
    state = dict(content["scheduler"])
    iters, accumulate, _ = _slicing(content)
    was = content["epoch"] * updates_per_epoch(iters, accumulate) + content["iter"] // accumulate
    now = trainer.start_epoch * updates_per_epoch(trainer.iters_per_epoch, trainer.accumulate)
    now += trainer.start_iter // trainer.accumulate
    state["updates"] += now - was
    trainer.scheduler.load_state_dict(state)


def say_changes(trainer: TrainVal, content: dict[str, Any]) -> list[str]:
    """Name every setting that is not what it was: they hold from here on. Returns their places."""
    before, now = flat(json.loads(content["config"])), flat(kept(trainer.config))
    silent = {"trainer.kwargs.resume", "fullName"}
    keys = sorted((before.keys() | now.keys()) - silent)
    changed = [key for key in keys if before.get(key, "not set") != now.get(key, "not set")]
    for key in changed:
        logger.warning("changed since the checkpoint: {} was {}, is {}",
                       key, before.get(key, "not set"), now.get(key, "not set"))  # fmt: skip
    return changed


def judged_by(places: Sequence[str]) -> bool:
    """Whether the numbers of a report hang on one of these settings."""
    return any(place.startswith(JUDGING) for place in places)


def _say_changes_of_data(trainer: TrainVal, content: dict[str, Any]) -> None:
    """A run that goes on with other pictures is another run: say how many. Checkpoints of older versions cannot tell."""
    if dist.is_main() and content.get("data") is not None:
        found = fingerprint.changes(content["data"], trainer.data_state)
        if found:
            logger.warning("the training data is not what it was when the checkpoint was saved: {}", found)


def _say_changes_of_versions(content: dict[str, Any]) -> None:
    """Other versions compute other bits: a run that goes on under them is no longer the same to the last one."""
    before, now = content.get("versions", {}), run_folder.package_versions()
    changed = [f"{name} {before[name]} -> {now.get(name, 'gone')}" for name in before if before[name] != now.get(name)]
    if changed:
        logger.warning(
            "the checkpoint was written under other versions: {}; the run goes on, and not bit for bit as it would have",
            ", ".join(changed),
        )


def flat(node: Any, path: str = "") -> dict[str, Any]:
    """A config as one level: {"a.b.0": value}.

    >>> flat({"a": {"b": [1, 2]}})
    {'a.b.0': 1, 'a.b.1': 2}
    """
    if not isinstance(node, dict | list) or not node:
        return {path: node}
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    return {k: v for key, value in pairs for k, v in flat(value, f"{path}.{key}".lstrip(".")).items()}


def fine_tune(trainer: TrainVal, path: Path) -> None:
    """Start from what fits of another checkpoint's weights, and say what did not."""
    weights = checkpoint.load_weights(path)
    report = checkpoint.fit(trainer.task.model, weights)
    if not report.loaded:
        raise CheckpointError(f"{path} is of another model: {report.render()}")
    strategies.spread_weights(trainer)
    logger.info("fine-tuning from {}: {}", path, report.render())
