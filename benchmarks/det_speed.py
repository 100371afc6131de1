"""Detection speed: where the time of a YOLOX step goes, and the whole trainer against a bare loop over the same model.

    OMP_NUM_THREADS=1 python benchmarks/det_speed.py --boxes 10 100 500

parts       milliseconds a picture of forward, assignment (SimOTA), the losses, backward and update, and of the
            postprocessing of an answer, for each number of objects in every picture; SimOTA's share of the step
step        the trainer with every default hook, fed batches from memory, against a loop of eight lines

Rounds alternate; medians are quoted. `benchmarks/train_speed.py det` runs the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
CLASSES = 80


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    args = parser.parse_args()
    text = json.dumps(measure(args), indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--det-size", default="nano", help="of YOLOX: nano, tiny, s, m, l, x")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--size", type=int, default=416, help="side of the input, pixels")
    parser.add_argument("--boxes", type=int, nargs="+", default=[10, 100, 500], help="objects in every picture")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iters", type=int, default=4, help="iterations of one round of the step comparison")
    parser.add_argument("--only", choices=("parts", "step"))
    parser.add_argument("--json", type=Path, help="write the figures here as well")


def measure(args: argparse.Namespace) -> dict:
    """All figures, ready for JSON."""
    import torch

    torch.set_num_threads(args.threads)
    keys = ("det_size", "batch_size", "size", "device", "threads", "rounds", "iters")
    settings = {"torch": torch.__version__, **{key: getattr(args, key) for key in keys}}
    wanted = {"parts, ms a picture": parts, "step": step}
    return {"settings": settings, **{k: f(args) for k, f in wanted.items() if args.only in (None, f.__name__)}}


# -- what both need ----------------------------------------------------------------------------------------------------


def make_batch(args: argparse.Namespace, boxes: int, seed: int = 0):
    """A batch of noise with ``boxes`` random objects of 12 to 120 pixels in every picture."""
    import torch

    from dao.structures import Batch, BoxTargets

    dice = torch.Generator().manual_seed(seed)
    count, side = args.batch_size, args.size
    extent = 12 + 108 * torch.rand((count, boxes, 2), generator=dice)
    low = torch.rand((count, boxes, 2), generator=dice) * (side - extent)
    labels = torch.randint(0, CLASSES, (count, boxes), generator=dice)
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=dice)
    images = images.to(args.device).contiguous(memory_format=torch.channels_last)
    targets = BoxTargets(torch.cat([low, low + extent], -1), labels).to(args.device)
    return Batch(images, targets, [str(i) for i in range(count)], list(range(count)), [(side, side)] * count)


def make_task(args: argparse.Namespace):
    """A detection task as training builds it."""
    import torch

    from dao.losses.weighted_sum import build_loss
    from dao.preprocess import Preprocess
    from dao.register import Registers, import_all_modules_for_register
    from dao.tasks.detection import DetectionTask

    import_all_modules_for_register()
    torch.manual_seed(0)
    section = {"type": "YOLOX", "kwargs": {"size": args.det_size}}
    model = Registers.det_models.build(section, "model", num_classes=CLASSES, in_chans=3)
    model = model.to(args.device, memory_format=torch.channels_last)
    names = [f"class {i}" for i in range(CLASSES)]
    preprocess = Preprocess(size=[args.size, args.size]).to(args.device)
    return DetectionTask(model, preprocess, names, build_loss({"type": "YOLOXLoss"}))


# -- parts -------------------------------------------------------------------------------------------------------------


class Clock:
    """Adds up seconds under names; waits for the device at every reading."""

    def __init__(self, device: str) -> None:
        self.device, self.seconds = device, {}

    @contextmanager
    def __call__(self, name: str):
        self.wait()
        started = time.perf_counter()
        yield
        self.wait()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def wait(self) -> None:
        if self.device != "cpu":
            import torch

            torch.cuda.synchronize()


def parts(args: argparse.Namespace) -> dict:
    """Medians over the rounds of every part, for each number of boxes."""
    import torch

    task = make_task(args)
    optimizer = torch.optim.SGD(task.model.parameters(), lr=1e-4, momentum=0.9)
    found = {}
    for boxes in args.boxes:
        batch = make_batch(args, boxes)
        rounds = [one_step(task, batch, optimizer, Clock(args.device)) for _ in range(args.rounds + 1)][1:]
        per_picture = {k: statistics.median(r[k] for r in rounds) * 1e3 / args.batch_size for k in rounds[0]}
        whole = sum(value for name, value in per_picture.items() if name != "postprocess")
        shares = {"step": whole, "SimOTA, share of the step": per_picture["assignment"] / whole}
        found[f"{boxes} boxes"] = {name: round(value, 3) for name, value in {**per_picture, **shares}.items()}
    return found


def one_step(task, batch, optimizer, clock: Clock) -> dict[str, float]:
    """Seconds of each part of one training step, and of answering the batch beyond the forward pass."""
    import torch

    import dao.losses.yolox as module

    assign = module.assign

    def timed(*given, **named):
        with clock("assignment"):
            return assign(*given, **named)

    task.model.train()
    with clock("forward"):
        outputs = task.net(task.preprocess.normalise(batch.images))
    module.assign = timed
    try:
        with clock("losses"):
            loss = task.loss(outputs, batch.targets)["loss"]
    finally:
        module.assign = assign
    with clock("backward"):
        loss.backward()
    with clock("update"):
        optimizer.step()
        optimizer.zero_grad()
    seconds = clock.seconds
    seconds["losses"] -= seconds["assignment"]
    with torch.inference_mode():
        outputs = outputs._replace(**{k: getattr(outputs, k).detach() for k in ("offsets", "objectness", "classes")})
        forward, task.model.forward = task.model.forward, lambda images: outputs
        try:
            with clock("postprocess"):
                task.predict(batch)
        finally:
            task.model.forward = forward
    return seconds


# -- step --------------------------------------------------------------------------------------------------------------


def step(args: argparse.Namespace) -> dict:
    """The trainer's iteration, hooks and all, against the least code that trains the same model with the same loss."""
    import torch

    task = make_task(args)
    optimizer = torch.optim.SGD(task.model.parameters(), lr=1e-4, momentum=0.9, nesterov=True)
    batches = [make_batch(args, args.boxes[0], seed) for seed in range(args.iters)]
    pictures = args.iters * args.batch_size

    def bare() -> float:
        started = time.perf_counter()
        task.model.train()
        for batch in batches:
            images = (batch.images.float() - task.preprocess.mean) / task.preprocess.std
            task.loss(task.model(images), batch.targets)["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
        return pictures / (time.perf_counter() - started)

    with tempfile.TemporaryDirectory() as runs:
        trainer = make_trainer(args, runs, batches)
        trainer.before_train()
        trainer.hooks = [h for h in trainer.hooks if type(h).__name__ != "LatestCheckpoint"]  # saving is not the step

        def ours() -> float:
            started = time.perf_counter()
            trainer.before_epoch()
            trainer.train_in_iter()
            trainer.after_epoch()
            return pictures / (time.perf_counter() - started)

        runs_of: dict[str, Callable[[], float]] = {"trainer step": ours, "bare loop": bare}
        rates: dict[str, list[float]] = {name: [] for name in runs_of}
        for number in range(args.rounds + 1):
            for name, run in runs_of.items():
                rate = run()
                if number:
                    rates[name].append(rate)
        trainer.after_train()
    ratios = [a / b for a, b in zip(*rates.values())]
    found = {f"{name}, pictures/s": round(statistics.median(values), 2) for name, values in rates.items()}
    return {**found, "ours / bare loop": f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"}


def make_trainer(args: argparse.Namespace, runs: str, batches: list):
    """TrainVal over batches that lie in memory."""
    import torch
    from loguru import logger

    from dao.config import freeze
    from dao.register import Registers
    from dao.trainers.base import Options

    class Noise:
        """A dataset in name only."""

        def __init__(self) -> None:
            self.classes = [f"class {i}" for i in range(CLASSES)]

        def __len__(self) -> int:
            return args.batch_size * len(batches)

        def class_counts(self) -> list[int]:
            return [1] * CLASSES

        def summary(self) -> str:
            return "noise"

    class FromMemory:
        """A loader that only hands out: what remains of an epoch is the trainer itself."""

        def __init__(self, dataset: object, training: bool) -> None:
            self.dataset = dataset

        def set_epoch(self, epoch: int, start_iter: int = 0, augment: bool = True) -> None:
            """Every epoch is alike."""

        def __iter__(self):
            return iter(batches)

        def __len__(self) -> int:
            return len(batches)

        def close(self) -> None:
            """Nothing is open."""

    logger.remove()
    Registers.datasets.register("BenchmarkNoise")(Noise)
    Registers.dataloaders.register("BenchmarkMemory")(FromMemory)
    config = {
        "name": "speed",
        "type": "det",
        "trainer": {"type": "TrainVal", "kwargs": {"log_dir": runs, "max_epochs": 1_000_000, "log_interval": 20}},
        "preprocess": {"size": [args.size, args.size]},
        "model": {"type": "YOLOX", "kwargs": {"size": args.det_size}},
        "loss": {"type": "YOLOXLoss"},
        "optimizer": {"type": "sgd", "kwargs": {"lr": 1e-4}},
        "dataloader": {"type": "BenchmarkMemory", "dataset": {"type": "BenchmarkNoise"}},
    }
    options = Options(torch.device(args.device))
    return Registers.trainers.build(config["trainer"], config=freeze(config), options=options)


if __name__ == "__main__":
    sys.exit(main())
