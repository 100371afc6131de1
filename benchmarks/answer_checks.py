"""What the checks of pictures and answers cost: their share of the CPU time of reading 1,000 pictures and of answering for 1,000.

    OMP_NUM_THREADS=1 python benchmarks/answer_checks.py

Checks: a picture's head and ends before it is decoded, and every array of an answer before it becomes a prediction. Both
are timed inside the whole, in CPU time and in one run, so that the share holds on a machine that is busy with other things.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from dao.dataloaders.datasets import image_io
from dao.preprocess import Preprocess
from dao.register import import_all_modules_for_register
from dao.tasks import build

READ, ANSWERED = 500, 250  # pictures of each format, and of each task
MODELS = {
    "cls": ({"type": "TimmClassifier", "kwargs": {"model_name": "resnet18"}}, 224),
    "seg": ({"type": "Unet", "kwargs": {"encoder_name": "tu-resnet18", "encoder_weights": None}}, 256),
    "det": ({"type": "YOLOX", "kwargs": {"size": "nano"}}, 320),
    "anomaly": ({"type": "STFPM", "kwargs": {"backbone": "resnet18", "layers": ["layer1", "layer2"]}}, 256),
}


class Watch:
    """Seconds spent inside functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def over(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - start

        return timed


def share_of_reading(suffix: str) -> str:
    """Of reading a 1024 x 768 picture: its head, its ends, its limits."""
    watch, names = Watch(), ("head_of", "find_damage", "refuse_unfit", "unwrapped")
    before = {name: getattr(image_io, name) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        noise = np.random.default_rng(0).integers(90, 130, (768, 1024, 3), dtype=np.uint8)
        cv2.imwrite(str(path), cv2.GaussianBlur(noise, (5, 5), 0))
        for name, function in before.items():
            setattr(image_io, name, watch.over(function))
        start = time.process_time()
        for _ in range(READ):
            image_io.read_image(path)
        whole = time.process_time() - start
    for name, function in before.items():
        setattr(image_io, name, function)
    return f"reading {suffix}: {whole:.1f} s, checks {watch.seconds:.3f} s = {watch.seconds / whole:.2%}"


def share_of_answering(kind: str) -> str:
    """Of answering for a picture of the model's size: shapes and finiteness of all arrays."""
    section, size = MODELS[kind]
    torch.manual_seed(0)
    classes = ["good", "bad"]
    model = build.build_model({"type": kind, "model": section}, classes, 3).eval()
    facts = {"multi_label": False} if kind == "cls" else None
    task = build.task_class(kind)(model, Preprocess(size=(size, size)), classes, facts=facts)
    watch, card = Watch(), task.card()
    picture = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    type(task).checked = staticmethod(watch.over(type(task).checked))  # type: ignore[method-assign]
    task.answer(task.run, picture, card)
    watch.seconds, start = 0.0, time.process_time()
    for _ in range(ANSWERED):
        task.answer(task.run, picture, card)
    whole = time.process_time() - start
    return f"answering, {kind}: {whole:.1f} s, checks {watch.seconds:.3f} s = {watch.seconds / whole:.2%}"


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    import_all_modules_for_register()
    for suffix in (".png", ".jpg"):
        print(share_of_reading(suffix), flush=True)
    for kind in MODELS:
        print(share_of_answering(kind), flush=True)


if __name__ == "__main__":
    main()
