"""Speed of classification: see train_speed.py.

step        the trainer with every default hook, fed the same tensors from memory, against a loop of eight lines
end to end  the trainer with its loader on files, against timm's dataset, loader, transforms, optimizer and update in
            the order of its training script, same files, model, batch, resize, flip, worker and thread count
start-up    --help, and the command to its first iteration, against `import torch, timm` alone
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from speed_common import alternate, build_trainer, epochs_of, step_of, summary

DEFAULTS = {"data": "neu_det/cls_train.csv", "model": "resnet18", "batch_size": 32, "size": 224}


# -- ours ------------------------------------------------------------------------------------------------------------


def config(args: argparse.Namespace, runs: str, epochs: int) -> dict:
    loader = {"batch_size": args.batch_size, "num_workers": args.workers}
    dataset = {"type": "CsvDataset", "kwargs": {"csv_file": str(args.data)}}
    flip = [{"type": "HorizontalFlip", "kwargs": {"p": 0.5}}]
    return {
        "name": "speed",
        "type": "cls",
        "trainer": {"type": "TrainVal", "kwargs": {"log_dir": runs, "max_epochs": epochs, "log_interval": 20}},
        "preprocess": {"size": [args.size, args.size], "resize": "stretch"},
        "model": {"type": "TimmClassifier", "kwargs": {"model_name": args.model}},
        "loss": {"type": "CrossEntropyLoss"},
        "optimizer": {"type": "sgd", "kwargs": {"lr": 0.001}},
        "dataloader": {"type": "ClsDataloader", "kwargs": loader, "dataset": {**dataset, "transforms": flip}},
    }


def make_trainer(args: argparse.Namespace, runs: str, epochs: int = 1_000_000):
    return build_trainer(config(args, runs, epochs))


def step(args: argparse.Namespace) -> dict:
    """The trainer's iteration, hooks and all, against the least code that trains the same model on the same tensors."""
    import timm
    import torch

    from dao.structures import Batch

    torch.manual_seed(0)
    shape = (args.batch_size, 3, args.size, args.size)
    count = 6
    images = [torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(args.iters)]
    images = [x.to(memory_format=torch.channels_last) for x in images]
    labels = [torch.randint(0, count, (args.batch_size,)) for _ in range(args.iters)]
    names = [str(i) for i in range(args.batch_size)]
    sizes = [(args.size, args.size)] * args.batch_size

    with tempfile.TemporaryDirectory() as runs:
        trainer = make_trainer(args, runs)
        trainer.before_train()
        batches = [Batch(x, y, names, list(range(args.batch_size)), sizes) for x, y in zip(images, labels)]

        model = timm.create_model(args.model, num_classes=count).to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, nesterov=True)
        mean, std = trainer.preprocess.mean, trainer.preprocess.std

        def bare() -> float:
            started = time.perf_counter()
            for x, y in zip(images, labels):
                loss = torch.nn.functional.cross_entropy(model((x.float() - mean) / std), y)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            return args.iters * args.batch_size / (time.perf_counter() - started)

        rates = alternate(args.rounds, {"trainer step": step_of(trainer, batches), "bare loop": bare})
        trainer.after_train()
    return summary(rates, "trainer step")


# -- end to end ------------------------------------------------------------------------------------------------------


def timm_epoch(args: argparse.Namespace, folder: Path, channels_last: bool) -> Callable[[], float]:
    """One epoch of timm: its dataset, transforms, loader and optimizer, and its script's update."""
    import torch
    from timm import create_model
    from timm.data import create_dataset, create_loader
    from timm.optim import create_optimizer_v2
    from timm.utils import AverageMeter

    dataset = create_dataset("", root=str(folder), is_training=True)
    loader = create_loader(
        dataset,
        input_size=(3, args.size, args.size),
        batch_size=args.batch_size,
        is_training=True,
        use_prefetcher=True,  # its script's default on every device: uint8 from the workers, normalised by the batch
        scale=(1.0, 1.0),  # the same work as ours: the whole picture, resized, flipped or not
        ratio=(1.0, 1.0),
        hflip=0.5,
        color_jitter=None,
        interpolation="bilinear",
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
        pin_memory=False,
        device=torch.device("cpu"),
    )
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = create_model(args.model, num_classes=6).to(memory_format=layout).train()
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.001, momentum=0.9)
    loss_fn = torch.nn.CrossEntropyLoss()

    def run() -> float:
        losses, seen = AverageMeter(), 0
        started = time.perf_counter()
        for number, (x, y) in enumerate(loader):
            x = x.contiguous(memory_format=layout)
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seen += len(x)
            if number % 20 == 0:
                losses.update(loss.item(), len(x))
        return seen / (time.perf_counter() - started)

    return run


def class_folders(csv_file: Path, folder: Path) -> None:
    """The files of a CSV as the class folders that timm reads, by symbolic links."""
    with csv_file.open(newline="") as file:
        for row in csv.DictReader(file):
            target = folder / row["label"] / Path(row["image"]).name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to((csv_file.parent / row["image"]).resolve())


def end_to_end(args: argparse.Namespace) -> dict:
    """Epochs over files, from the first batch that is asked for to the last weight update."""
    with tempfile.TemporaryDirectory() as runs:
        class_folders(args.data, Path(runs) / "folders")
        trainer = make_trainer(args, runs)
        trainer.before_train()

        rates = alternate(
            args.rounds,
            {
                "trainer": epochs_of(trainer),
                "timm as it comes": timm_epoch(args, Path(runs) / "folders", False),
                "timm with channels_last": timm_epoch(args, Path(runs) / "folders", True),
            },
        )
        trainer.after_train()
    return summary(rates, "trainer")


# -- start-up --------------------------------------------------------------------------------------------------------


def seconds_of(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def startup(args: argparse.Namespace) -> dict:
    """Whole processes, medians of the rounds."""
    with tempfile.TemporaryDirectory() as runs:
        small = argparse.Namespace(**{**vars(args), "size": 64, "workers": 0, "batch_size": 8})
        content = config(small, runs, 1)
        content["hooks"] = [{"type": "LeaveAfterFirst"}]
        (Path(runs) / "c.json").write_text(json.dumps(content))
        (Path(runs) / "leave.py").write_text(LEAVE)
        (Path(runs) / "m.json").write_text(json.dumps([str(Path(runs) / "leave.py")]))
        commands = {
            "--help": [sys.executable, "main.py", "--help"],
            "import torch, timm": [sys.executable, "-c", "import torch, timm"],
            "command to first iteration": [
                sys.executable, "main.py", "-c", f"{runs}/c.json", "-m", f"{runs}/m.json", "--device", "cpu",
            ],
        }  # fmt: skip
        times: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(args.rounds + 1):
            for name, command in commands.items():
                seconds = seconds_of(command)
                if number:
                    times[name].append(seconds)
    return {f"{name}, s": round(statistics.median(values), 3) for name, values in times.items()}


LEAVE = """
import os
from dao.register import Registers
from dao.trainers.hooks.base import Hook

@Registers.hooks.register()
class LeaveAfterFirst(Hook):
    def after_iter(self, trainer):
        os._exit(0)
"""

PARTS = {"step": step, "end_to_end": end_to_end, "startup": startup}
