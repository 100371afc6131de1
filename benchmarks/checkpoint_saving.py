"""How long a training loop is held up by a save: written on the spot, and written by a thread.

A ResNet-18 with an average of its weights and SGD's momentum, as a classification run keeps them.
python benchmarks/checkpoint_saving.py [--folder DIR] [--rounds N]
"""

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

import timm
import torch

from dao.checkpoints import checkpoint
from dao.checkpoints.saver import Saver


def content() -> dict:
    model = timm.create_model("resnet18")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.rand(2, 3, 64, 64)).sum().backward()
    optimizer.step()
    ema = copy.deepcopy(model).state_dict()
    return {"model": model.state_dict(), "ema": ema, "update": {"optimizer": optimizer.state_dict()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="on the disk that is asked about; default: the system's temporary one")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    state, saver = content(), Saver()
    held: dict[str, list[float]] = {"on the spot": [], "by a thread": [], "by a thread, until whole": []}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "latest.ckpt"
        for _ in range(args.rounds + 1):  # the first round is not counted
            start = time.perf_counter()
            checkpoint.save(state, path, path.with_name("previous.ckpt"))
            held["on the spot"].append(time.perf_counter() - start)
            start = time.perf_counter()
            saver.save(state, path, path.with_name("previous.ckpt"))
            held["by a thread"].append(time.perf_counter() - start)
            saver.wait()
            held["by a thread, until whole"].append(time.perf_counter() - start)
        size = path.stat().st_size
    print(f"{size / 1e6:.0f} MB, median of {args.rounds}")
    for name, seconds in held.items():
        print(f"{name:26} {statistics.median(seconds[1:]) * 1000:6.0f} ms")


if __name__ == "__main__":
    main()
