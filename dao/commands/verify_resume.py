"""`python main.py --verify-resume -c config.json`: prove on this config and machine that a stopped run loses nothing.

The config is run for a number of iterations; once more, stopped at an iteration drawn by chance; and that one is gone on
with. Weights, average, optimizer and everything else the two last checkpoints hold must be the same bit for bit.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from loguru import logger
from torch import Tensor

from dao.checkpoints import checkpoint
from dao.config.reading import Raw
from dao.errors import ConfigError, Problem, RunError
from dao.words.counted import counted, of_number

COMPARED = ("model", "ema", "update", "scheduler", "hooks", "epoch", "iter", "metrics", "best", "card")
SHOWN = 10  # differences


def verify(args: argparse.Namespace, raw: Raw) -> int:
    """Run, stop, go on, compare: 0 when both are equal, 1 when not. Raises RunError when a run fails."""
    if raw["trainer"]["type"] != "TrainVal":
        raise ConfigError(
            Problem("trainer.type", f"--verify-resume needs a training run, got {raw['trainer']['type']}")
        )
    if args.verify_resume < 2:
        raise ConfigError(Problem("--verify-resume", f"needs at least 2 iterations, got {args.verify_resume}"))
    if args.num_machines > 1:
        raise ConfigError(Problem("--verify-resume", "runs on one machine; --devices is honoured, --num_machines not"))
    log_dir = Path(raw["trainer"].get("kwargs", {}).get("log_dir", "runs"))
    log_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="verify-resume-", dir=log_dir))
    try:
        return _verify(args, raw, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _verify(args: argparse.Namespace, raw: Raw, folder: Path) -> int:
    fitted = "optimizer" not in raw  # is whole only after its pass
    end = [] if fitted else [args.verify_resume]
    logger.info("1 of 3: {}, uninterrupted", "the run" if fitted else counted(args.verify_resume, "iteration"))
    whole = _run(args, raw, folder, "whole", end)
    done = whole["epoch"] * whole["iters_per_epoch"] + whole["iter"]
    if done < 2:
        raise RunError(f"the run has {counted(done, 'iteration')}: there is nothing to stop in between")
    stop = random.randint(1, done - 1)
    logger.info("2 of 3: the same, stopped at iteration {}", stop)
    _run(args, raw, folder, "parts", [stop])
    logger.info("3 of 3: going on with it")
    parts = _run(args, raw, folder, "parts", end, resume=True)
    return _report(list(differences({k: whole[k] for k in COMPARED}, {k: parts[k] for k in COMPARED})), stop, done)


def _report(found: list[str], stop: int, done: int) -> int:
    if not found:
        logger.success("equal: stopped at iteration {} of {} and resumed, every bit is the same", stop, done)
        return 0
    more = [f"... and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    hint = "on a GPU some operations sum in an order of their own: torch.use_deterministic_algorithms tells which"
    differ = f"{counted(len(found), 'entry')} {of_number(len(found), 'differs', 'differ')}"
    logger.error("stopped at iteration {} of {} and resumed, {} ({}):\n  {}",
                 stop, done, differ, hint, "\n  ".join([*found[:SHOWN], *more]))  # fmt: skip
    return 1


def _run(
    args: argparse.Namespace, raw: Raw, folder: Path, name: str, stop: list[int], resume: bool = False
) -> dict[str, Any]:
    """One run as a user would start it; what its latest checkpoint holds."""
    hooks = [*raw.get("hooks", []), *({"type": "StopAt", "kwargs": {"iteration": n}} for n in stop)]
    changes = {"name": name, "hooks": hooks, "trainer.kwargs.log_dir": str(folder),
               "trainer.kwargs.test_after_train": False, "trainer.kwargs.resume": None}  # fmt: skip
    command = [sys.executable, sys.argv[0] if sys.argv[0].endswith(".py") else "main.py", "-c", args.exp_file]
    command += ["--devices", args.devices, "--device", args.device]
    command += ["--gpu", str(args.gpu)] if args.gpu is not None else []
    command += ["--dist-backend", args.dist_backend]
    command += ["-m", args.cus_file] if args.cus_file else []
    command += [flag for flag in ("amp", "ema", "cache") if getattr(args, flag) for flag in (f"--{flag}",)]
    command += ["--seed", str(args.seed)] if args.seed is not None else []
    command += ["-o", *args.override, *(f"{key}={json.dumps(value)}" for key, value in changes.items())]
    command += ["--resume", str(folder / name)] if resume else []
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    latest = folder / name / "checkpoints" / "latest.ckpt"
    if ended.returncode not in (0, 128 + signal.SIGTERM) or not latest.is_file():
        raise RunError(f"the run '{name}' failed with exit code {ended.returncode}:\n{ended.stderr.strip()[-3000:]}")
    return checkpoint.load(latest)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


def differences(first: Any, second: Any, path: str = "") -> Iterator[str]:
    """Every place where two checkpoints part, in words; tensors must agree in every bit."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in first.keys() | second.keys():
            where = f"{path}.{key}".lstrip(".")
            if key in first and key in second:
                yield from differences(first[key], second[key], where)
            else:
                yield f"{where} is only in one of them"
    elif isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        for number, pair in enumerate(zip(first, second, strict=True)):
            yield from differences(*pair, f"{path}.{number}")
    elif isinstance(first, Tensor) and isinstance(second, Tensor):
        if first.shape != second.shape or first.dtype != second.dtype:
            yield f"{path}: {tuple(first.shape)} {first.dtype} and {tuple(second.shape)} {second.dtype}"
        elif not torch.equal(_bits(first), _bits(second)):
            yield f"{path}: up to {float((first.double() - second.double()).abs().max()):.3g} apart"
    elif first != second and not (first != first and second != second):
        yield f"{path}: {first} and {second}"
