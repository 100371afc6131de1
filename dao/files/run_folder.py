"""Where a run lies on disk. An existing folder is never deleted or written over: it is resumed, or gets a neighbour."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dao import __version__
from dao.config import modules
from dao.errors import CheckpointError, RunError
from dao.files import atomic
from dao.files.output import fresh as fresh
from dao.files.output import write_json as write_json
from dao.processes import failures

ORPHANS_GONE = 10.0  # seconds in which the loader processes of a killed run notice it and let go of its folder
PACKAGES = ("torch", "torchvision", "timm", "albumentations", "opencv-python-headless", "numpy", "onnx", "onnxruntime")


def newest_run(parent: Path, name: str) -> Path | None:
    """Of ``name``, ``name-2``, ..., the run whose latest checkpoint is the youngest; None when there is none."""
    found = [
        (latest.stat().st_mtime_ns, folder)
        for folder in (parent.iterdir() if parent.is_dir() else ())
        if folder.name == name or folder.name.removeprefix(f"{name}-").isdigit()
        if (latest := folder / "checkpoints" / "latest.ckpt").is_file() and _name_in(folder, name) == name
    ]
    return max(found)[1] if found else None


def _name_in(folder: Path, otherwise: str) -> str:
    """What the run in a folder is called: "steel-2" may be the second run of "steel", or the first of "steel-2"."""
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError):
        return otherwise


def lock(folder: Path) -> Any:
    """Keep other runs out of a folder for as long as the returned file is open; the system lets go when we die.

    Raises RunError when another process holds it. Where files cannot be locked (some network disks) nothing is kept out.
    """
    try:
        file = (folder / ".lock").open("a+")
    except OSError as error:
        raise RunError(f"the run folder {folder} cannot be written to: {failures.of_system(error)}") from None
    if os.name != "posix":
        return file
    import fcntl

    deadline = time.monotonic() + ORPHANS_GONE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.seek(0)
                holder = file.read().strip()
                file.close()
                raise RunError(f"another run ({holder}) writes into {folder}: wait for it, or end it") from None
            time.sleep(0.2)
        except OSError:
            return file
    for folder_of_files in (folder, folder / "checkpoints"):  # what a run that was killed in mid-write has left
        for half in folder_of_files.glob(".*.tmp"):
            half.unlink(missing_ok=True)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}")
    file.flush()
    return file


def write_config(folder: Path, config: Any) -> None:
    """config.json as it holds now; one that held before a resume and was another is kept as config-before-N.json."""
    path = folder / "config.json"
    before = path.read_text(encoding="utf-8") if path.is_file() else None
    write_json(path, config)
    if before is None or before == path.read_text(encoding="utf-8"):
        return
    number = sum(1 for _ in folder.glob("config-before-*.json")) + 1
    atomic.write_text(folder / f"config-before-{number}.json", before)


def of_checkpoint(path: Path) -> Path:
    """The run folder a checkpoint or an exported file lies in; its own folder when it stands alone."""
    path = path.resolve()
    for folder in path.parents[:3]:
        if (folder / "checkpoints").is_dir():
            return folder
    return path.parent


def resume_checkpoint(resume: str, parent: Path, name: str) -> Path | None:
    """The checkpoint that ``--resume`` means: "auto" looks for the newest run of this name and may find none."""
    if resume == "auto":
        run = newest_run(parent, name)
        return run / "checkpoints" / "latest.ckpt" if run else None
    path = Path(resume)
    candidates = [path, path / "latest.ckpt", path / "checkpoints" / "latest.ckpt"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise CheckpointError(f"--resume {resume}: no checkpoint there; looked for {', '.join(map(str, candidates))}")


def config_of_run(resume: str) -> tuple[Path, str | None]:
    """The config that the run was started with, overrides and all, and what -m named then. Raises CheckpointError
    where ``resume`` leads to no run folder."""
    checkpoint = resume_checkpoint(resume, Path(), "")
    path = of_checkpoint(checkpoint or Path(resume)) / "config.json"
    if not path.is_file():
        raise CheckpointError(f"--resume {resume}: there is no {path}; give the run's config with -c")
    try:
        known = json.loads(path.with_name("environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    return path, known.get("modules") if isinstance(known, dict) else None


def environment() -> dict[str, Any]:
    """What a run depends on beyond its config: date, versions, the code's commit, machine, command, what -m named."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "aicore": __version__,
        "commit": commit(Path(__file__).parents[2]),
        "python": sys.version.split()[0],
        "packages": package_versions(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "gpus": gpus,
        "command": sys.argv,
        "modules": modules.named_file,
    }


def commit(root: Path) -> str | None:
    """The git commit that a folder is checked out at, "-dirty" behind it where tracked files were changed; None where
    it is no checkout, or there is no git."""
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def package_versions() -> Mapping[str, str]:
    """Installed versions of what decides results: ours, Python's and the packages'."""
    found = {"aicore": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
