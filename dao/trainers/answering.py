"""What the stages that start from a checkpoint share: eval, demo and export."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from loguru import logger

from dao.answers.operating import SET_BY
from dao.checkpoints import checkpoint
from dao.config.merge import Raw, merge
from dao.errors import DataError, Problem
from dao.files import run_folder
from dao.processes import dist
from dao.register import Registers
from dao.runtime.backends import backend_of, open_file
from dao.structures import Sample, Unreadable
from dao.tasks import build
from dao.tasks.backends import TorchBackend
from dao.tasks.base import ModelCard
from dao.trainers.base import BadPictures, plain
from dao.words.counted import of_number

# what a stage takes over from the config that a checkpoint was trained with
INHERITED = ("name", "type", "fullName", "preprocess", "limits", "model", "evaluator")


def complete_from_checkpoint(raw: Raw, path: str | None, judges: bool = False) -> Raw:
    """The config with what its checkpoint, or exported file, knows filled in; what the config says itself wins.

    The preprocessing and the model are the checkpoint's in any case: it cannot answer with others. Its card holds the
    operating point: what the training config said of it has gone into that, and whatever was set later counts.
    judges: of checkpoints whose card does not hold it yet, what the training config said counts, as it always did.
    """
    if not isinstance(path, str) or not path:
        return raw
    if is_exported(path):
        return _complete_from_file(raw, path)
    found = checkpoint.find(path)
    content = checkpoint.load(found)
    known, card = build.config_of(content, str(found)), build.card_of(content, str(found))
    base = {key: known[key] for key in INHERITED if key in known}
    base["model"] = build.without_pretrained(base["model"])
    if "evaluator" in base and not (judges and _before_points(content)):
        base["evaluator"] = _without_point(base["evaluator"])
    merged = _with_evaluator(merge(base, raw), card)
    return {**merged, "type": card.task, "model": base["model"], "preprocess": card.preprocess}


def _before_points(content: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's card is of before cards said who set what; a card that was read has all facts of today."""
    return SET_BY not in json.loads(content["card"]).get("facts", {})


def say_left_out(dataset: Any, section: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Say how many pictures a split leaves out: a warning where the division was made for other pictures.

    section: the dataset's, known: the config of the checkpoint, whose division another set of pictures inherits.
    """
    whole = getattr(dataset, "of_all", len(dataset))
    if whole <= len(dataset):
        return
    kwargs, trained = section.get("kwargs", {}), _dataset_kwargs(known)
    out = whole - len(dataset)
    belong, are = of_number(out, "belongs", "belong"), of_number(out, "is", "are")
    what = f"{out} of {whole} pictures {belong} to another split than '{kwargs.get('split')}' and {are} left out"
    ratio, column = kwargs.get("split_ratio"), kwargs.get("split_column")
    inherited = trained.get("split_ratio") == ratio and trained.get("split_column") == column
    where = {k: v for k, v in kwargs.items() if k not in ("split", "split_ratio", "split_column", "split_seed")}
    if inherited and any(trained.get(key) != value for key, value in where.items()):
        place = "evaluator.dataloader.dataset.kwargs"
        logger.warning("{}: the division is the training's; for all of them add -o {}.split=all", what, place)
    else:
        logger.info("{}", what)


def _dataset_kwargs(config: Mapping[str, Any]) -> Mapping[str, Any]:
    node: Any = config
    for key in ("evaluator", "dataloader", "dataset", "kwargs"):
        node = node.get(key) or {}
    return node


def _complete_from_file(raw: Raw, path: str) -> Raw:
    """An exported file knows its task and its preprocessing. Raises CheckpointError where it cannot be read."""
    trust = raw["trainer"].get("kwargs", {}).get("trust") is True
    card = open_file(Path(path), torch.device("cpu"), trust).card
    name = re.sub(r"[/\\\x00-\x1f]+", "_", Path(path).stem).strip(". ") or "model"
    return _with_evaluator({"name": name, **raw, "type": card.task, "preprocess": card.preprocess}, card)


def _with_evaluator(raw: Raw, card: ModelCard) -> Raw:
    """The evaluator's type where a config only says by what it is to judge."""
    section = raw.get("evaluator")
    usual = build.task_class(card.task).evaluator if card.task in Registers.tasks else ""
    if isinstance(section, dict) and "type" not in section and usual:
        return {**raw, "evaluator": {"type": usual, **section}}
    return raw


def _without_point(section: Any) -> Any:
    """An evaluator's section without what sets an operating point."""
    if not isinstance(section, dict) or section.get("type") not in Registers.evaluators:
        return section
    points = point_keys(section["type"])
    kwargs = {key: value for key, value in section.get("kwargs", {}).items() if key not in points}
    return {**section, "kwargs": kwargs}


def point_keys(evaluator: str) -> tuple[str, ...]:
    """The keywords of an evaluator that set the operating point."""
    kind = Registers.evaluators.get(evaluator)
    return (*getattr(kind, "operating", ()), *getattr(kind, "naming", ()))


def facts_as_configured(config: Any, card: ModelCard) -> dict[str, Any]:
    """The operating point that a stage's own "evaluator" section sets, for stages that do not judge; {} for none."""
    section = config.get("evaluator", {})
    if not section or not set(plain(section.get("kwargs", {}))) & set(point_keys(section.type)):
        return {}
    evaluator = Registers.evaluators.build(section, "evaluator", classes=list(card.classes))
    evaluator.model_facts = card.facts  # which classes are bad, the model knows better than their names
    return evaluator.facts


def is_exported(path: str) -> bool:
    """Whether a file answers without the model it was made from; weights as safetensors do not."""
    return backend_of(path) not in (None, TorchBackend)


def refuse_exported(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
    """For stages that need a checkpoint: an exported file has the answers of a model, and not its parts."""
    if not is_exported(kwargs["ckpt"]):
        return []
    message = "is an exported file, and a run folder or checkpoint is needed here; Demo and dao.predictor take one"
    return [Problem(f"{where}.ckpt", message)]


def stage_folder(ckpt: str, stage: str, name: str) -> Path:
    """A new folder ``<run>/<stage>/<name>`` beside the checkpoint, the same on every process."""
    folder = Path()
    if dist.is_main():
        file = Path(ckpt) if Path(ckpt).is_file() else checkpoint.find(ckpt)
        folder = run_folder.fresh(relative(run_folder.of_checkpoint(file)) / stage, name)
    return dist.broadcast_object(folder)


def relative(path: Path) -> Path:
    """The path as seen from the working directory where that is shorter to read."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path


def section_name(section: Any) -> str:
    """What to call a set of pictures in a folder name: its split where it has one; never a path."""
    kwargs = section.get("kwargs", {})
    name = str(kwargs.get("split") or Path(str(kwargs.get("list_file") or kwargs.get("csv_file") or "set")).stem)
    return re.sub(r"[/\\\x00-\x1f]+", "_", name).strip(". ") or "set"


def readable(dataset: Any, indices: Iterable[int], preprocess: Mapping[str, Any], bad: BadPictures) -> Iterator[Sample]:
    """The samples at ``indices``, decoded as the model takes them; those that cannot be read are named in ``bad``."""
    for index in indices:
        try:
            yield dataset.read(index, preprocess["in_channels"], preprocess["bit_depth"])
        except DataError as error:
            path = dataset.records[index].path
            bad.add_one(Unreadable(path, index, str(error).removeprefix(f"{path}: ")))
