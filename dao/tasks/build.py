"""Builds what a config's sections name: datasets, loaders, models, and whole tasks, from a config or a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from loguru import logger
from torch import nn

from dao.answers.card import plain_json
from dao.checkpoints import checkpoint
from dao.config.contracts import check_dataset, check_output
from dao.config.reading import Raw
from dao.dataloaders import survey
from dao.errors import CheckpointError, ConfigError, Problem
from dao.models import offline
from dao.preprocess.module import Preprocess
from dao.processes import dist
from dao.register import Registers, to_plain
from dao.tasks.base import ModelCard, Task
from dao.words.counted import counted

# what a model starts from, or is trained with
WEIGHT_SOURCES = ("pretrained", "encoder_weights", "checkpoint_path", "teacher_path", "penalty_folder", "freeze")


def build_dataset(
    section: Mapping[str, Any], where: str, classes: Sequence[str] | None = None, announce: bool = True
) -> Any:
    """The dataset of a section; ``classes``, when known from the training data, fix the order of names.

    announce: say in the log what its files held and was not taken; `--check` has a report of its own.

    Raises ConfigError where the section insists on another order: every label would mean another class.
    """
    context = {} if classes is None else {"classes": list(classes)}
    dataset = Registers.datasets.build(section, where, **context)
    check_dataset(dataset, section["type"], where)
    if classes is not None and dataset.classes and list(dataset.classes) != list(classes):
        names = f"the model's are {', '.join(classes)}; here they are {', '.join(dataset.classes)}"
        message = f"classes in another order mean other classes: {names}. Leave 'classes' out"
        raise ConfigError(Problem(f"{where}.kwargs.classes", message))
    survey.look_at(dataset)
    if announce and dist.is_main():
        dataset.census.log(f"{where} ({dataset.origin})")
    return dataset


def build_loader(
    section: Mapping[str, Any], where: str, dataset: Any, preprocess: Preprocess, training: bool, seed: int
) -> Any:
    """The dataloader of a section, over a dataset that was built before."""
    from dao.dataloaders.fixed_transforms import refuse_fixed
    from dao.dataloaders.transforms import build_transforms

    deep = survey.depth_problem(getattr(dataset, "deep_pictures", ()), preprocess.bit_depth) if dist.is_main() else ""
    if deep:
        logger.warning("{}: {}", where, deep)
    place = f"{where}.dataset.transforms"
    transforms = build_transforms(to_plain(section["dataset"].get("transforms", [])), place)
    if training:
        refuse_fixed(transforms, place)
    try:
        return Registers.dataloaders.build(
            section, where, dataset=dataset, transforms=transforms, preprocess=preprocess, training=training, seed=seed
        )
    except ConfigError as error:  # a loader knows its place as "dataloader", and may be the evaluator's
        named = [
            Problem(p.where.replace("dataloader", where, 1) if p.where.startswith("dataloader") else p.where, p.what)
            for p in error.problems
        ]
        raise ConfigError(named, error.source) from error


def task_class(name: str) -> type[Task]:
    """The task that a config's ``type`` names."""
    return Registers.tasks.get(name)  # type: ignore[return-value]


def build_model(raw: Mapping[str, Any], classes: Sequence[str], in_channels: int) -> Any:
    """The model of a config; its number of classes is the data's, and a config that says otherwise is refused."""
    given = raw["model"].get("kwargs", {}).get("num_classes")
    if given is not None and given != len(classes):
        message = f"is {given}, but the data has {counted(len(classes), 'class')}: {', '.join(classes)}"
        raise ConfigError(Problem("model.kwargs.num_classes", message))
    chans = raw["model"].get("kwargs", {}).get("in_chans")
    if chans is not None and chans != in_channels:
        message = f"is {chans}, but preprocess.in_channels is {in_channels}"
        raise ConfigError(Problem("model.kwargs.in_chans", message))
    register = getattr(Registers, task_class(raw["type"]).models)
    return register.build(raw["model"], "model", num_classes=len(classes), in_chans=in_channels)


@torch.no_grad()
def check_input(model: nn.Module, preprocess: Preprocess, expected: tuple[int, ...] | None = None) -> None:
    """One blank picture through the model, so that an input size it cannot take is known before data is read.

    expected: the shape that its answer must have; None: any.
    Raises ConfigError with the model's own words (a transformer of fixed size, a picture too small to be pooled), or
    saying what it gave.
    """
    training, device = model.training, next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        output = model.eval()(torch.zeros((1, preprocess.in_channels, *preprocess.size), device=device))
    except (RuntimeError, ValueError, AssertionError) as error:
        size = "x".join(map(str, preprocess.size))
        message = (
            f"the model cannot take {size} pixels: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        )
        raise ConfigError(Problem("preprocess.size", message)) from error
    finally:
        model.train(training)
    check_output(model, output, expected)


def build_loss(raw: Mapping[str, Any], dataset: Any, device: torch.device) -> nn.Module | None:
    """The loss of a config, see `loss_of`; None where a model is fitted without one."""
    return loss_of(raw["loss"], "loss", dataset, device) if "loss" in raw else None


def loss_of(section: Any, where: str, dataset: Any, device: torch.device) -> nn.Module:
    """The loss of a section, with what the data says: class counts for its weights, one label a picture or several."""
    from dao.losses.weighted_sum import build_loss as build_sum

    section = to_plain(section)
    counts = total = None
    if asks_for_counts(section):  # of pixels they cost a look at every mask
        counts, total = dataset.loss_counts(), dataset.loss_total()
    several = getattr(dataset, "multi_label", None)
    context = {"class_counts": counts, "class_total": total, "multi_label": several}
    return build_sum(section, where, num_classes=len(dataset.classes), **context).to(device)


def asks_for_counts(section: Any) -> bool:
    """Whether a loss section says "balanced" anywhere."""
    if isinstance(section, Mapping):
        return any(asks_for_counts(value) for value in section.values())
    if isinstance(section, list):
        return any(asks_for_counts(value) for value in section)
    return section == "balanced"


def card_of(content: Mapping[str, Any], source: str = "the checkpoint") -> ModelCard:
    """The model card in a checkpoint. Raises CheckpointError where it is none."""
    return ModelCard.from_json(content.get("card"), source)


def config_of(content: Mapping[str, Any], source: str = "the checkpoint") -> Raw:
    """The config that a checkpoint was trained with. Raises CheckpointError where it names no model."""
    config = plain_json(content.get("config"), f"{source}: its config")
    model = config.get("model") if isinstance(config, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("type"), str):
        raise CheckpointError(f"{source}: its config is damaged: it names no model")
    if not isinstance(model.get("kwargs", {}), dict):
        raise CheckpointError(f"{source}: its config is damaged: model.kwargs is no object")
    return config


def task_from_checkpoint(content: Mapping[str, Any], source: str) -> Task:
    """The task a checkpoint was saved from, with its weights (the EMA's where there are any), in eval mode.

    Nothing is fetched for it, whatever the checkpoint names. Raises CheckpointError when the weights are not of the model
    its config names, or its card says what cannot be.
    """
    card, raw = card_of(content, source), config_of(content, source)
    preprocess, section = Preprocess(**card.preprocess), without_pretrained(raw["model"])
    try:
        with offline.no_network(source):
            model = build_model({"type": card.task, "model": section}, card.classes, preprocess.in_channels)
        model.load_state_dict(checkpoint.inference_weights(content, source))
    except ConfigError as error:
        said = "; ".join(f"{problem.where}: {problem.what}" for problem in error.problems)
        raise CheckpointError(f"{source}: the model it names cannot be built: {said}") from error
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        said = str(error)[:2000] or type(error).__name__
        raise CheckpointError(f"{source} does not fit the model its config names: {said}") from None
    refuse_non_finite(model, source)
    task = task_class(card.task)(model.eval(), preprocess, card.classes, facts=card.facts)
    task.section = section
    return task


def refuse_non_finite(model: nn.Module, source: str) -> None:
    """Raise CheckpointError for a weight that is NaN or infinite, or a buffer that is NaN (a mask may hold infinities)."""
    bad = [name for name, value in model.named_parameters() if not bool(torch.isfinite(value).all())]
    bad += [
        name for name, value in model.named_buffers() if value.is_floating_point() and bool(torch.isnan(value).any())
    ]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise CheckpointError(
            f"{source}: the weights of {bad[0]}{more} are not finite (NaN or infinity): a training that diverged, or a damaged "
            "file. There is no answer in it; take an earlier checkpoint"
        )


def without_pretrained(model: Mapping[str, Any]) -> Raw:
    """A model section that fetches nothing, at any depth: a model may hold a backbone with settings of its own.

    The weights come from a checkpoint anyhow, and a model that was fetched by a hub's name is built by its bare one.
    """
    return _offline(to_plain(model))


def _offline(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _offline(v) for k, v in value.items() if not _names_weights(k, v)}
    if isinstance(value, list):
        return [_offline(v) for v in value]
    return offline.bare_name(value) if isinstance(value, str) else value


def _names_weights(key: str, value: Any) -> bool:
    """Whether a keyword says where weights come from. Of "weights" in any other name those of numbers mean others."""
    of_a_source = key.startswith(("pretrained", "weights")) or key.endswith(("pretrained", "weights"))
    return key in WEIGHT_SOURCES or (of_a_source and isinstance(value, str | bool))
