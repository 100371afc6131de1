"""Speed of segmentation: see train_speed.py.

step        the trainer with every default hook, fed the same tensors from memory, against a bare loop
end to end  the trainer with its loader on files, against the same network in Lightning with a dataset of PIL pictures
            and torchvision transforms: same files, batch, resize, flip, worker and thread count. Lightning is put into
            a folder of its own (benchmarks/.peers) by the first run
evaluation  our pixel metrics against torchmetrics' on the same masks: the same numbers, and the time as a ratio
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from speed_common import alternate, build_trainer, epochs_of, step_of, summary

DEFAULTS = {"data": "magnetic_tile/seg_split.csv", "model": "Unet", "batch_size": 8, "size": 256}
PEERS = Path(__file__).parent / ".peers"
ENCODER = "resnet18"
CLASSES = 6


def config(args: argparse.Namespace, runs: str) -> dict:
    columns = {"class_column": "class", "mask_format": "binary", "split_column": "split", "split": "train"}
    dataset = {"type": "SegCsvDataset", "kwargs": {"csv_file": str(args.data), **columns}}
    flip = [{"type": "HorizontalFlip", "kwargs": {"p": 0.5}}]
    loader = {"batch_size": args.batch_size, "num_workers": args.workers}
    return {
        "name": "speed",
        "type": "seg",
        "trainer": {"type": "TrainVal", "kwargs": {"log_dir": runs, "max_epochs": 1_000_000, "log_interval": 20}},
        "preprocess": {"size": [args.size, args.size], "resize": "stretch"},
        "model": {"type": args.model, "kwargs": {"encoder_name": ENCODER}},
        "loss": {"type": "CrossEntropyLoss"},
        "optimizer": {"type": "sgd", "kwargs": {"lr": 0.001}},
        "dataloader": {"type": "SegDataloader", "kwargs": loader, "dataset": {**dataset, "transforms": flip}},
    }


def network(args: argparse.Namespace):
    import segmentation_models_pytorch as smp

    return smp.create_model(args.model, encoder_name=ENCODER, encoder_weights=None, classes=CLASSES).train()


def step(args: argparse.Namespace) -> dict:
    """The trainer's iteration, hooks and all, against the least code that trains the same model on the same tensors."""
    import torch

    from dao.structures import Batch

    torch.manual_seed(0)
    shape, sizes = (args.batch_size, 3, args.size, args.size), [(args.size, args.size)] * args.batch_size
    images = [
        torch.randint(0, 256, shape, dtype=torch.uint8).to(memory_format=torch.channels_last) for _ in range(args.iters)
    ]
    masks = [torch.randint(0, CLASSES, (shape[0], *shape[2:]), dtype=torch.uint8) for _ in range(args.iters)]
    names = [str(i) for i in range(args.batch_size)]
    with tempfile.TemporaryDirectory() as runs:
        trainer = build_trainer(config(args, runs))
        trainer.before_train()
        model = network(args).to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, nesterov=True)
        mean, std = trainer.preprocess.mean, trainer.preprocess.std

        def bare() -> float:
            started = time.perf_counter()
            for x, y in zip(images, masks):
                loss = torch.nn.functional.cross_entropy(model((x.float() - mean) / std), y.long())
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            return args.iters * args.batch_size / (time.perf_counter() - started)

        batches = [Batch(x, y, names, list(range(args.batch_size)), sizes) for x, y in zip(images, masks)]
        rates = alternate(args.rounds, {"trainer step": step_of(trainer, batches), "bare loop": bare})
        trainer.after_train()
    return summary(rates, "trainer step")


# -- end to end ------------------------------------------------------------------------------------------------------


def import_lightning():
    """Lightning from a folder of its own; it is nobody's dependency here."""
    if not (PEERS / "lightning").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(PEERS)]
        subprocess.run([*command, "lightning", "pytorch-lightning"], check=True)
    sys.path.append(str(PEERS))
    import lightning

    return lightning


def peer_dataset(args: argparse.Namespace):
    """Pictures and masks as a torch dataset is usually written: PIL, then torchvision's transforms."""
    import numpy as np
    import torch
    from PIL import Image
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    with args.data.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    kinds = sorted({row["class"] for row in rows if row["mask"]})
    change = v2.Compose(
        [
            v2.Resize((args.size, args.size), antialias=True),
            v2.RandomHorizontalFlip(0.5),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    class Pictures(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int):
            row = rows[index]
            image = Image.open(args.data.parent / row["image"]).convert("RGB")
            if row["mask"]:
                grey = np.array(Image.open(args.data.parent / row["mask"]).convert("L"))
                mask = np.where(grey >= 128, kinds.index(row["class"]) + 1, 0)
            else:
                mask = np.zeros((image.height, image.width), np.int64)
            pixels, target = change(tv_tensors.Image(image), tv_tensors.Mask(torch.from_numpy(mask)[None]))
            return torch.Tensor(pixels), torch.as_tensor(target)[0].long()

    return Pictures()


def lightning_epochs(args: argparse.Namespace, channels_last: bool) -> Callable[[], float]:
    """Each call is one epoch of a Lightning trainer that is kept going."""
    import logging
    import warnings

    import torch

    lightning = import_lightning()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    layout = torch.channels_last if channels_last else torch.contiguous_format

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network(args).to(memory_format=layout)

        def training_step(self, batch, index: int):
            x, y = batch
            loss = torch.nn.functional.cross_entropy(self.net(x.contiguous(memory_format=layout)), y)
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.001, momentum=0.9, nesterov=True)

    data = peer_dataset(args)
    loader = torch.utils.data.DataLoader(
        data,
        args.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
    )
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(max_epochs=0, accelerator="cpu", devices=1, **quiet)
    module = Module()

    def run() -> float:
        trainer.fit_loop.max_epochs = trainer.current_epoch + 1
        started = time.perf_counter()
        trainer.fit(module, loader)
        return len(loader) * args.batch_size / (time.perf_counter() - started)

    return run


def end_to_end(args: argparse.Namespace) -> dict:
    """Epochs over files, from the first batch that is asked for to the last weight update."""
    with tempfile.TemporaryDirectory() as runs:
        trainer = build_trainer(config(args, runs))
        trainer.before_train()
        rates = alternate(
            args.rounds,
            {
                "trainer": epochs_of(trainer),
                "Lightning as it comes": lightning_epochs(args, False),
                "Lightning with channels_last": lightning_epochs(args, True),
            },
        )
        trainer.after_train()
    return summary(rates, "trainer")


# -- evaluation ------------------------------------------------------------------------------------------------------


def evaluation(args: argparse.Namespace) -> dict:
    """IoU of every class over random masks: the same numbers as torchmetrics', and pictures per second of both."""
    import numpy as np
    import torch
    from torchmetrics.classification import MulticlassJaccardIndex

    from dao.evaluators import pixels

    rng = np.random.default_rng(0)
    pairs = [rng.integers(0, CLASSES, (2, args.size, args.size)).astype(np.uint8) for _ in range(32)]
    for truth, _ in pairs:
        truth[rng.random(truth.shape) < 0.05] = 255
    tensors = [tuple(torch.from_numpy(mask.astype(np.int64)) for mask in pair) for pair in pairs]
    found: dict[str, np.ndarray] = {}

    def ours() -> float:
        started = time.perf_counter()
        counts = sum(pixels.confusion(truth, said, CLASSES) for truth, said in pairs)
        found["ours"] = pixels.iou(counts)
        return len(pairs) / (time.perf_counter() - started)

    def theirs() -> float:
        metric = MulticlassJaccardIndex(num_classes=CLASSES, average=None, ignore_index=255)
        started = time.perf_counter()
        for truth, said in tensors:
            metric.update(said, truth)
        found["torchmetrics"] = metric.compute().numpy()
        return len(pairs) / (time.perf_counter() - started)

    rates = alternate(args.rounds, {"ours": ours, "torchmetrics": theirs})
    gap = float(np.abs(found["ours"] - found["torchmetrics"]).max())
    return {**summary(rates, "ours"), "largest difference of an IoU": gap}


PARTS = {"step": step, "end_to_end": end_to_end, "evaluation": evaluation}
