"""What the speed benchmarks share: alternating rounds, ratios, a trainer without its own data."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable


def settings(args: argparse.Namespace) -> dict:
    import timm
    import torch

    versions = {"torch": torch.__version__, "timm": timm.__version__}
    return {**versions, **{k: v for k, v in vars(args).items() if k not in ("data", "json", "only")}}


def alternate(rounds: int, runs: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Pictures per second of each, round after round; one round of each is warm-up."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            rate = run()
            if number:
                rates[name].append(rate)
    return rates


def summary(rates: dict[str, list[float]], ours: str) -> dict:
    """Medians, and our ratio to each of the others, pair by pair."""
    found: dict = {f"{name}, pictures/s": round(statistics.median(values), 1) for name, values in rates.items()}
    for name, values in rates.items():
        if name != ours:
            ratios = [a / b for a, b in zip(rates[ours], values)]
            low, high = min(ratios), max(ratios)
            found[f"ours / {name}"] = f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"
    return found


def build_trainer(content: dict):
    """The trainer of a whole config, on the CPU, without its log."""
    import torch
    from loguru import logger

    from dao.config.reading import freeze
    from dao.register import Registers, import_all_modules_for_register
    from dao.trainers.base import Options

    logger.remove()
    import_all_modules_for_register()
    options = Options(torch.device("cpu"))
    return Registers.trainers.build(content["trainer"], config=freeze(content), options=options)


def step_of(trainer, batches: list) -> Callable[[], float]:
    """Pictures per second of the whole iteration, hooks and all, on batches from memory."""
    trainer.hooks = [h for h in trainer.hooks if type(h).__name__ != "LatestCheckpoint"]  # saving is not the step
    trainer.loader, trainer.iters_per_epoch = FromMemory(batches), len(batches)
    count = sum(len(batch) for batch in batches)

    def run() -> float:
        started = time.perf_counter()
        trainer.before_epoch()
        trainer.train_in_iter()
        trainer.after_epoch()
        return count / (time.perf_counter() - started)

    return run


def epochs_of(trainer) -> Callable[[], float]:
    """Pictures per second of whole epochs over files, from the first batch asked for to the last update."""

    def run() -> float:
        started = time.perf_counter()
        trainer.before_epoch()
        trainer.train_in_iter()
        rate = len(trainer.dataset) / (time.perf_counter() - started)
        trainer.after_epoch()
        trainer.epoch += 1
        return rate

    return run


class FromMemory:
    """A loader that only hands out: what remains of an epoch is the trainer itself."""

    def __init__(self, batches: list) -> None:
        self.batches = batches

    def set_epoch(self, epoch: int, start_iter: int = 0, augment: bool = True) -> None:
        """Every epoch is alike."""

    def __iter__(self):
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)

    def close(self) -> None:
        """Nothing is open."""
