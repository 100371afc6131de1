"""Before the first step: are all processes of a run of one mind? What differs is named with its rank and machine."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loguru import logger

from dao.errors import ConfigError, Problem
from dao.files import run_folder
from dao.processes import dist
from dao.words.counted import counted

MISSING = "missing"
CODE = Path(__file__).parents[1]


def check_same_everywhere(config: Any) -> None:
    """Compare versions, code and resolved config with process 0's; every process must call.

    Raises ConfigError on all of them when one differs.
    """
    if not dist.is_active():
        return
    own = {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        **run_folder.package_versions(),
        "the code of AICore": code_hash(),
        "the number of processes": dist.world_size(),
        **{f"config {place}": value for place, value in leaves(config)},
    }
    hosts = compare(own, "--num_machines")
    places = ", ".join(f"{count} on {host}" for host, count in Counter(hosts).items())
    logger.info("{} ({}), all of one code, config and set of packages", counted(len(hosts), "process"), places)


def leaves(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a config with its place. Absolute paths are alike: a disk may be mounted elsewhere on each machine,
    and what lies in them is compared by `check_same_data`."""
    children = (
        node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else None
    )
    if children is None:
        yield place, "a path" if isinstance(node, str) and Path(node).is_absolute() else node
        return
    for key, value in children:
        yield from leaves(value, f"{place}.{key}" if place else str(key))


def check_same_data(**datasets: Any) -> None:
    """Compare listings with process 0's: pictures as they lie below their common folder, in order, labels and sizes.

    datasets: by their place in the config; None for one that the config does not name. As `check_same_everywhere`.
    """
    if dist.is_active():
        compare({name: listing(dataset) for name, dataset in datasets.items() if dataset is not None}, "dataset")


def listing(dataset: Any) -> str:
    """How many pictures, and a hash of what they are called, how they are labelled and how large their files are."""
    paths = [os.path.abspath(record.path) for record in dataset.records]  # noqa: PTH100 (many)
    root = os.path.commonpath(paths) if len(paths) > 1 else str(Path(paths[0]).parent)
    digest = hashlib.sha256()
    for path, record in zip(paths, dataset.records, strict=True):
        size = os.path.getsize(path) if os.path.isfile(path) else -1  # noqa: PTH113, PTH202 (many)
        digest.update(
            f"{os.path.relpath(path, root)} {getattr(record, 'labels', None)} {size}\n".encode(errors="surrogateescape")
        )
    return f"{len(paths)} pictures {digest.hexdigest()[:12]}"


def compare(own: dict[str, Any], where: str) -> list[str]:
    """Every process's machine. Raises ConfigError, on all alike, naming each entry in which one differs from process 0."""
    everyone = dist.all_gather_object((platform.node(), own))
    first = everyone[0][1]
    problems = [
        Problem(where, f"{key} of rank {rank} on {host} is {theirs}, of rank 0 on {everyone[0][0]} {value}")
        for rank, (host, found) in enumerate(everyone)
        for key in {**first, **found}
        if (theirs := found.get(key, MISSING)) != (value := first.get(key, MISSING))
    ]
    if problems:
        raise ConfigError(problems)
    return [host for host, _ in everyone]


def code_hash() -> str:
    """Of every source file of ours, whatever folder it lies in."""
    digest = hashlib.sha256()
    for path in sorted(CODE.rglob("*.py")):
        digest.update(str(path.relative_to(CODE)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
