"""Speed of detection: see train_speed.py. The figures are of YOLOX by size (--model nano), batch 8, 416 px.

parts       milliseconds a picture of forward, assignment (SimOTA), the losses, backward and update, and of the
            postprocessing of an answer, for each number of objects in every picture; SimOTA's share of the step
data        milliseconds a picture of the loader with mosaic, and of the evaluator with its AP
step        the trainer with every default hook, fed batches from memory, against a loop of eight lines
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import contextmanager

from speed_common import FromMemory, alternate, build_trainer, step_of, summary

DEFAULTS = {"data": "deeppcb", "model": "nano", "batch_size": 8, "size": 416}
BOXES = (10, 100, 500)  # objects in every picture
CLASSES = 80
DEVICE = "cpu"


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
    images = images.to(DEVICE).contiguous(memory_format=torch.channels_last)
    targets = BoxTargets(torch.cat([low, low + extent], -1), labels).to(DEVICE)
    return Batch(images, targets, [str(i) for i in range(count)], list(range(count)), [(side, side)] * count)


def make_task(args: argparse.Namespace):
    """A detection task as training builds it."""
    import torch

    from dao.losses.weighted_sum import build_loss
    from dao.preprocess.module import Preprocess
    from dao.register import Registers, import_all_modules_for_register
    from dao.tasks.detection import DetectionTask

    import_all_modules_for_register()
    torch.manual_seed(0)
    section = {"type": "YOLOX", "kwargs": {"size": args.model}}
    model = Registers.det_models.build(section, "model", num_classes=CLASSES, in_chans=3)
    model = model.to(DEVICE, memory_format=torch.channels_last)
    names = [f"class {i}" for i in range(CLASSES)]
    preprocess = Preprocess(size=[args.size, args.size]).to(DEVICE)
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
    for boxes in BOXES:
        batch = make_batch(args, boxes)
        rounds = [one_step(task, batch, optimizer, Clock(DEVICE)) for _ in range(args.rounds + 1)][1:]
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
    batches = [make_batch(args, BOXES[0], seed) for seed in range(args.iters)]
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
        rates = alternate(args.rounds, {"trainer step": step_of(trainer, batches), "bare loop": bare})
        trainer.after_train()
    return summary(rates, "trainer step")


def make_trainer(args: argparse.Namespace, runs: str, batches: list):
    """TrainVal over batches that lie in memory."""
    from dao.register import Registers

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

    Registers.datasets.register("BenchmarkNoise")(Noise)

    def from_memory(dataset: object, training: bool) -> FromMemory:
        return FromMemory(batches)

    Registers.dataloaders.register("BenchmarkMemory")(from_memory)
    config = {
        "name": "speed",
        "type": "det",
        "trainer": {"type": "TrainVal", "kwargs": {"log_dir": runs, "max_epochs": 1_000_000, "log_interval": 20}},
        "preprocess": {"size": [args.size, args.size]},
        "model": {"type": "YOLOX", "kwargs": {"size": args.model}},
        "loss": {"type": "YOLOXLoss"},
        "optimizer": {"type": "sgd", "kwargs": {"lr": 1e-4}},
        "dataloader": {"type": "BenchmarkMemory", "dataset": {"type": "BenchmarkNoise"}},
    }
    return build_trainer(config)


# -- data ------------------------------------------------------------------------------------------------------------


def data(args: argparse.Namespace) -> dict:
    """Real boards through mosaic, and made-up answers through the evaluator."""
    import numpy as np
    import torch

    from dao.dataloaders.datasets.detection import CocoDetection
    from dao.dataloaders.det_reader import DetDataloader
    from dao.dataloaders.transforms import build_transforms
    from dao.evaluators.detection import DetEvaluator
    from dao.preprocess.module import Preprocess
    from dao.structures import Batch, Prediction

    files = {"json_file": f"{args.data}/annotations/instances_train.json", "data_dir": f"{args.data}/images/train"}
    pictures = CocoDetection(**files)
    names = ("Mosaic", "RandomHsv", "HorizontalFlip")
    loader = DetDataloader(
        dataset=pictures, transforms=build_transforms([{"type": name} for name in names]), training=True, seed=0,
        preprocess=Preprocess(size=[args.size, args.size]), batch_size=args.batch_size, num_workers=0,
    )  # fmt: skip
    started = time.perf_counter()
    seen = sum(len(batch) for _, batch in zip(range(12), loader))
    found = {"loader with mosaic, no workers": 1e3 * (time.perf_counter() - started) / seen}
    evaluator, dice = DetEvaluator(pictures.classes), np.random.default_rng(0)
    started = time.perf_counter()
    for index in range(100):
        truth = pictures.ground_truth(index)
        count = len(truth.labels)
        moved = truth.boxes_xyxy + dice.normal(0, 2, (count, 4)).astype(np.float32)
        said = Prediction(
            "", (640, 640), boxes_xyxy=moved, box_labels=truth.labels, box_scores=dice.random(count, np.float32)
        )
        evaluator.update([said], Batch(torch.zeros(1), [truth], [""], [index], [(640, 640)]))
    evaluator.compute()
    found["evaluator with AP"] = 1e3 * (time.perf_counter() - started) / 100
    return {name: round(value, 2) for name, value in found.items()}


PARTS = {"parts, ms a picture": parts, "data, ms a picture": data, "step": step}
