"""What a run's pictures are, by content and by class: what may not be in two sets, and what may not be missing in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from loguru import logger
from torch import Tensor

from dao.dataloaders import content
from dao.dataloaders.datasets.base import some
from dao.errors import DataError
from dao.words.counted import counted, of_number

SHOWN = 3  # pairs that a warning names


def teaching_paths(dataset: Any) -> list[str]:
    """Paths of the pictures that a model learns from, each once."""
    return list(dict.fromkeys(r.path for r in dataset.records if not getattr(r, "held_out", False)))


def paths_of(dataset: Any) -> list[str]:
    """Paths of all pictures of a set, each once."""
    return list(dict.fromkeys(record.path for record in dataset.records))


class KnownPictures:
    """Fingerprints of a training run's pictures, made once when it starts; see `dao.dataloaders.content`.

    taught: (N,) int64, sorted, of those that teach: what a checkpoint carries, so that an evaluation knows them again.
    sets: for environment.json, by the set's name: how many pictures, and one fingerprint for all of them.
    """

    def __init__(self, training: Any, **others: Any) -> None:
        """others: the sets that calibrate and judge, by name; None for one that the config does not name."""
        self.paths = teaching_paths(training)
        every = paths_of(training)
        prints = dict(zip(every, content.of_files(every)))
        self.prints = np.array([prints[path] for path in self.paths], np.int64)
        self.taught = torch.from_numpy(np.unique(self.prints[self.prints != content.UNREADABLE]))
        self.sets = {"training": _described(np.array(list(prints.values()), np.int64))}
        for name, dataset in others.items():
            if dataset is not None:
                self._compare(name, paths_of(dataset))

    def _compare(self, name: str, paths: list[str]) -> None:
        prints = content.of_files(paths)
        self.sets[name] = _described(prints)
        pairs = [
            (self.paths[mine], paths[theirs])
            for mine, theirs in content.shared(self.prints, prints)
            if content.same_bytes(self.paths[mine], paths[theirs])
        ]
        if pairs:
            shown = ", ".join(one if one == other else f"{one} = {other}" for one, other in pairs[:SHOWN])
            more = f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
            logger.warning(
                "{} of the {} {} pictures {} too, by content ({}{}): what is measured on them says "
                "nothing of new parts",
                len(pairs), len(paths), name, of_number(len(pairs), "is a training picture", "are training pictures"), shown,
                more,
            )  # fmt: skip


def _described(prints: content.Prints) -> dict[str, Any]:
    return {"pictures": len(prints), "content": content.of_set(prints)}


def note_of_taught(taught: Tensor | None, dataset: Any) -> str:
    """What is to be said where a model is judged by pictures that trained it, wherever they lie now; "" otherwise.

    taught: from its checkpoint; None in those of older versions, which cannot tell.
    """
    if taught is None:
        return ""
    paths = paths_of(dataset)
    prints = content.of_files(paths)
    known = [paths[i] for i in np.flatnonzero(np.isin(prints, taught.numpy()) & (prints != content.UNREADABLE))]
    if not known:
        return ""
    return (
        f"{len(known)} of the {len(paths)} pictures trained this model, by content (e.g. {', '.join(known[:SHOWN])}): "
        "what is measured on them says nothing of new parts"
    )


def require_every_class(dataset: Any, allowed: bool) -> None:
    """Raise DataError where the model would have a class that nothing teaches, unless that was asked for.

    In detection it is said: exporting tools write names there that no box bears.
    """
    missing = classes_without(dataset, dataset.learns_without)
    if not missing:
        return
    message = (
        f"no training picture shows {some(missing)} (of {counted(len(dataset.classes), 'class')}; {dataset.origin})"
    )
    if dataset.needs_every_class and not allowed:
        raise DataError(
            f"{message}: nothing would teach the model that class. Bring pictures of it, leave it out of the classes, or "
            'set "allow_empty_classes": true in trainer.kwargs to train without'
        )
    logger.warning("{}", message)


def say_unjudged(dataset: Any) -> None:
    """Name classes of which an evaluation has no picture: its numbers say nothing of them."""
    missing = classes_without(dataset, dataset.judges_without)
    if missing:
        logger.warning(
            "no validation picture shows {}: its numbers say nothing of that ({})", some(missing), dataset.origin
        )


def classes_without(dataset: Any, allowed: Sequence[str]) -> list[str]:
    """Names of classes that no picture shows; none where to know would mean to read every mask (`--check` does)."""
    if dataset.counts_by_reading or not dataset.classes:
        return []
    counts = dataset.class_counts()
    if not any(counts):  # nothing is labelled: another message's business
        return []
    return [name for name, count in zip(dataset.classes, counts, strict=True) if count == 0 and name not in allowed]
