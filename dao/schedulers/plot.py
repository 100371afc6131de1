"""A picture of every schedule over a run: ``python -m dao.schedulers.plot --out schedulers.png``."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from loguru import logger

from dao.register import Registers
from dao.schedulers import cycles, decay, plateau  # noqa: F401  (they register the schedules)
from dao.schedulers.base import Scheduler

EPOCHS, ITERS_PER_EPOCH, NO_AUG_EPOCHS = 60, 20, 5
# What is drawn: the schedule, its settings, and what to read in its curve.
EXAMPLES: list[tuple[str, dict[str, object], str]] = [
    ("warm_cos_lr", {"warmup_epochs": 5}, "quadratic warm-up, cosine,\nlast 5 epochs without augmentation"),
    ("multistep_lr", {"milestones": [30, 45], "warmup_epochs": 5}, "linear warm-up, x 0.1 at epochs 30 and 45"),
    ("poly_lr", {"warmup_epochs": 5}, "linear warm-up, power 0.9"),
    (
        "cosine_restarts_lr",
        {"cycle_epochs": 4, "cycle_mult": 2, "decay": 0.8},
        "each cycle twice as long,\neach peak x 0.8",
    ),
    ("one_cycle_lr", {}, "peak after 30 % of the run"),
    (
        "plateau_lr",
        {"patience": 5, "factor": 0.3},
        "x 0.3 after 6 epochs that are no better\n(metric rises 20 epochs, then is flat)",
    ),
    ("constant_lr", {"warmup_epochs": 5}, "linear warm-up only"),
]


def rates(scheduler: Scheduler) -> list[float]:
    """The factor at every update of a run whose metric rises for 20 epochs and then stays."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler.attach(optimizer)
    seen = []
    for epoch in range(EPOCHS):
        for _ in range(ITERS_PER_EPOCH):
            seen += scheduler.lrs
            scheduler.step()
        scheduler.epoch_end(min(epoch, 20) / 20)
    return seen


def draw(path: Path) -> None:
    """Write the picture, one panel a schedule on shared axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    run = {"total_iters": EPOCHS * ITERS_PER_EPOCH, "iters_per_epoch": ITERS_PER_EPOCH}
    run["no_aug_iters"] = NO_AUG_EPOCHS * ITERS_PER_EPOCH
    figure, panels = plt.subplots(2, 4, figsize=(15, 7), sharex=True, sharey=True, layout="constrained")
    epochs = [i / ITERS_PER_EPOCH for i in range(EPOCHS * ITERS_PER_EPOCH)]
    for panel, (name, kwargs, note) in zip(panels.flat, EXAMPLES):
        scheduler = Registers.schedulers.build({"type": name, "kwargs": kwargs}, "lr_scheduler", **run)
        panel.plot(epochs, rates(scheduler), linewidth=2)
        panel.set_title(name, fontweight="bold", pad=30)
        panel.text(0.5, 1.02, note, transform=panel.transAxes, ha="center", va="bottom", fontsize=9, linespacing=1.1)
        panel.grid(alpha=0.3)
        panel.xaxis.set_tick_params(labelbottom=True)
    for panel in panels.flat[len(EXAMPLES) :]:
        panel.set_visible(False)
    figure.suptitle(f"Learning rate over a run of {EPOCHS} epochs", fontsize=14)
    figure.supxlabel("epoch")
    figure.supylabel("learning rate / base rate (no unit)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draw the rate of every schedule over a run.")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    path = parser.parse_args().out
    draw(path)
    logger.info("wrote {}", path)


if __name__ == "__main__":
    main()
