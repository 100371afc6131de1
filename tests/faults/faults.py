"""Fail every file operation of a run in turn, and kill it at every one, and see whether anything is lost.

    python tests/faults/faults.py --stages cls seg det anomaly export --stride 1

In the spirit of SQLite's tests: a layer in front of libc (faults.c) fails the n-th open, read, write, fsync, rename or
mkdir below the run's folder, for n = 1, 2, ... until a run passes untouched; once, or from there on as a full disk does;
with ENOSPC, EIO, EMFILE, a short write, or SIGKILL. After each: no traceback, one message where the run failed, every
file that was whole before is whole, no torn file under a final name, and a resume ends bit-equal to the run that nothing
befell. Every try is forked from one process that has imported everything, so that a try takes about a second.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SHORT, KILL = -1, -2
ALL = b"orwsnd"
LIMIT = 60  # seconds for one try
TASKS = ("cls", "seg", "det", "anomaly")


@dataclass(frozen=True)
class Fault:
    """What fails: kinds of operations (letters of faults.c), whether all later ones fail too, and how."""

    name: str
    kinds: bytes
    action: int
    lasting: bool = False


FAULTS = (
    Fault("full disk", b"owsnd", errno.ENOSPC, lasting=True),
    Fault("I/O error", ALL, errno.EIO),
    Fault("no more files", b"o", errno.EMFILE),
    Fault("short write", b"w", SHORT),
    Fault("SIGKILL", ALL, KILL),
)


def compiled(folder: Path) -> Path | None:
    """The layer as a library; None where there is no C compiler for it, or another system than Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    library = folder / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def main() -> int:
    """All faults of all stages asked for; 0 when nothing was lost."""
    args = arguments()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    if "faults.so" not in os.environ.get("LD_PRELOAD", ""):
        library = compiled(folder)
        if library is None:
            print("skipped: this needs Linux and a C compiler")
            return 0
        environment = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
        code = subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode
        shutil.rmtree(folder, ignore_errors=True)
        return code
    try:
        return Trial(folder, args).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", nargs="+", default=[*TASKS, "export"], choices=[*TASKS, "export"])
    parser.add_argument("--faults", nargs="+", default=[fault.name for fault in FAULTS])
    parser.add_argument("--stride", type=int, default=1, help="try every so manieth operation")
    parser.add_argument("--offset", type=int, default=1, help="the first operation that is tried")
    parser.add_argument("--tries", type=int, default=sys.maxsize, help="operations of each stage and fault, at most")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so long")
    return parser.parse_args()


class Trial:
    """A folder with pictures and configs, the runs that nothing befell, and what befalls the others."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self.folder, self.args = folder, args
        self.layer = ctypes.CDLL(os.environ["LD_PRELOAD"].split(":")[0])
        self.layer.faults_seen.restype = ctypes.c_long
        self.counts: Counter[str] = Counter()
        self.lost: list[str] = []
        self.data = write_data(folder / "data")
        import_everything()
        self.until = time.monotonic() + args.seconds

    def run(self) -> int:
        """Every stage; what was lost, at the end."""
        for stage in self.args.stages:
            self.stage(stage)
        told = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        print(f"{sum(self.counts.values())} faults ({told}); {len(self.lost)} lost something")
        print("\n".join(f"  {text}" for text in self.lost[:40]))
        return 1 if self.lost else 0

    def stage(self, stage: str) -> None:
        """The run that nothing befalls, then one for each operation that can fail."""
        runs = self.folder / "runs"
        self.config = self.folder / f"{stage}.json"
        task = "cls" if stage == "export" else stage
        self.config.write_text(json.dumps(config(task, self.data, runs)))
        code, said, _ = self.attempt(None, 0, ["-c", str(self.config)])
        if code:
            sys.exit(f"{stage}: the undisturbed run failed:\n{said[-3000:]}")
        whole = fingerprint(runs / task)
        if stage == "export":
            (runs / task).rename(self.folder / "trained")
            self.config.write_text(json.dumps(export_config(self.folder / "trained")))
        shutil.rmtree(runs, ignore_errors=True)
        for fault in (fault for fault in FAULTS if fault.name in self.args.faults):
            self.every_operation(stage, fault, runs, whole)

    def every_operation(self, stage: str, fault: Fault, runs: Path, whole: dict[str, Any]) -> None:
        """n = 1, 2, ... until a run passes untouched."""
        numbers = range(self.args.offset, sys.maxsize, self.args.stride)
        for number in itertools.islice(numbers, self.args.tries):
            if time.monotonic() > self.until:
                break
            watched = self.folder / "trained" / "export" if stage == "export" else runs
            code, said, seen = self.attempt(fault, number, ["-c", str(self.config)], watched)
            if seen is not None and seen < number:
                print(f"{stage}: {fault.name}: {seen} operations tried, every {self.args.stride}. of them", flush=True)
                break
            where = f"{stage}, {fault.name} at operation {number}"
            self.counts[fault.name] += 1
            complaints = wrong_words(code, said, fault)
            after = self.exported(watched) if stage == "export" else self.resumed(runs, stage, whole)
            self.lost += [f"{where}: {text}" for text in (*complaints, *after)]
            if complaints or after:
                print(f"LOST {self.lost[-1]}\n{said[-1500:]}", flush=True)
            shutil.rmtree(watched, ignore_errors=True)
        shutil.rmtree(runs, ignore_errors=True)

    def resumed(self, runs: Path, task: str, whole: dict[str, Any]) -> Iterator[str] | list[str]:
        """What is wrong with what a struck run left, and with the run that goes on from it."""
        found = list(torn(runs))
        code, said, _ = self.attempt(None, 0, ["-c", str(self.config), "--resume"])
        if code:
            return [*found, f"the resume failed with {code}: {said[-600:]}"]
        newest = max(runs.iterdir(), key=lambda run: (run / "checkpoints" / "latest.ckpt").stat().st_mtime_ns
                     if (run / "checkpoints" / "latest.ckpt").is_file() else 0)  # fmt: skip
        ended = fingerprint(newest)
        return [
            *found,
            *(f"{key} is another than the undisturbed run's" for key in whole if ended.get(key) != whole[key]),
        ]

    def exported(self, folder: Path) -> list[str]:
        """A file under its final name must be a proven one."""
        finals = [path for path in folder.rglob("*.onnx") if not path.name.startswith(".")]
        return [*torn(folder), *(f"{path.name} lies there without its proof" for path in finals
                                 if not (path.parent / "parity.json").is_file())]  # fmt: skip

    def attempt(
        self, fault: Fault | None, number: int, argv: list[str], watched: Path | None = None
    ) -> tuple[int, str, int | None]:
        """One run in a forked process: its exit code, what it said, and how many operations it came to (None: killed)."""
        said, told = self.folder / "said.txt", self.folder / "seen.txt"
        told.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            self.in_child(fault, number, argv, watched, said, told)
        until = time.monotonic() + LIMIT
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > until:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return 124, f"hung for {LIMIT} seconds\n{said.read_text(errors='replace')}", None
            time.sleep(0.01)
        seen = int(told.read_text()) if told.is_file() else None
        return os.waitstatus_to_exitcode(status), said.read_text(errors="replace"), seen

    def in_child(
        self, fault: Fault | None, number: int, argv: list[str], watched: Path | None, said: Path, told: Path
    ) -> None:
        """Never returns."""
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        import main as entry

        if fault is not None:
            self.layer.faults_arm(str(watched).encode(), fault.kinds, ctypes.c_long(number), int(fault.lasting), fault.action)  # fmt: skip
        code = 70
        try:
            code = entry.main([*argv, "--device", "cpu"])
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        self.layer.faults_disarm()
        told.write_text(str(self.layer.faults_seen()))
        os._exit(code)


def import_everything() -> None:
    """What each run would spend seconds on."""
    sys.path.insert(0, str(ROOT))
    import cv2
    import matplotlib.pyplot
    import onnxruntime
    import torch
    import torch.utils.tensorboard

    import main as entry
    from dao.register import import_all_modules_for_register

    import_all_modules_for_register()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    assert entry and matplotlib.pyplot and onnxruntime and torch.utils.tensorboard


def wrong_words(code: int, said: str, fault: Fault) -> list[str]:
    """A run that failed says so in our words; one that was killed may say nothing."""
    if fault.action == KILL:
        return [] if code in (-signal.SIGKILL, 0) else [f"ended with {code} instead of by SIGKILL"]
    found = ["a traceback"] if "Traceback (most recent call last)" in said else []
    if code not in (0, 2):
        found.append(f"exit code {code}")
    if fault.action == SHORT and code:
        found.append("a short write is no error")
    return found


def torn(folder: Path) -> Iterator[str]:
    """Files under their final names that are not whole."""
    from dao.errors import CheckpointError
    from dao.utils import checkpoint

    for path in folder.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            if path.suffix == ".ckpt":
                checkpoint.load(path)
            elif path.suffix == ".json":
                json.loads(path.read_text())
        except (CheckpointError, ValueError) as error:
            yield f"{path.name} is torn: {str(error)[:200]}"


def fingerprint(run: Path) -> dict[str, Any]:
    """What a run came to, in numbers that any changed bit changes."""
    from dao.utils import checkpoint
    from dao.verify_resume import COMPARED

    content = checkpoint.load(run / "checkpoints" / "latest.ckpt")
    return {key: checkpoint.checksum(content[key]) for key in COMPARED}


def write_data(folder: Path) -> Path:
    """Grey pictures with a bright square: by class folders, with masks in a CSV, with boxes in COCO files, MVTec's way."""
    import cv2
    import numpy as np

    for split, count in (("train", 8), ("val", 4)):
        rows, images, boxes = ["image,mask,split"], [], []
        for i in range(count):
            rng = np.random.default_rng((i, count))
            image, mask = rng.integers(90, 130, (40, 48, 3), dtype=np.uint8), np.zeros((40, 48), np.uint8)
            bad = i % 2 == 1
            if bad:
                y, x = (int(v) for v in rng.integers(4, 24, 2))
                image[y : y + 12, x : x + 12], mask[y : y + 12, x : x + 12] = 250, 1
                boxes.append({"id": i + 1, "image_id": i, "category_id": 1, "bbox": [x, y, 12, 12], "iscrowd": 0, "area": 144})  # fmt: skip
            for place in (
                f"cls/{split}/{'bad' if bad else 'good'}/{i}.png", f"flat/{split}{i}.png",
                f"parts/{'train/good' if split == 'train' else 'test/' + ('bad' if bad else 'good')}/{split}{i}.png",
            ):  # fmt: skip
                if "parts/train" in place and bad:
                    continue
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / place), image)
            if split == "val" and bad:
                truth = folder / "parts" / "ground_truth" / "bad" / f"{split}{i}_mask.png"
                truth.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(truth), mask * 255)
            cv2.imwrite(str(folder / "flat" / f"{split}{i}_mask.png"), mask)
            rows.append(f"{split}{i}.png,{split}{i}_mask.png,{split}")
            images.append({"id": i, "file_name": f"{split}{i}.png", "height": 40, "width": 48})
        (folder / "flat" / f"{split}.csv").write_text("\n".join(rows) + "\n")
        coco = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "dent"}]}
        (folder / "flat" / f"{split}.json").write_text(json.dumps(coco))
    return folder


def config(task: str, data: Path, runs: Path) -> dict[str, Any]:
    """A small whole run of a task: two epochs, reports and all."""
    trainer = {"log_dir": str(runs), "max_epochs": 2, "save_iters": 2}
    base: dict[str, Any] = {"name": task, "type": task, "trainer": {"type": "TrainVal", "kwargs": trainer},
            "preprocess": {"size": [32, 32]}, "optimizer": {"type": "adamw", "kwargs": {"lr": 0.003}}}  # fmt: skip

    def loader(kind: str, dataset: str, **kwargs: Any) -> dict[str, Any]:
        return {
            "type": kind,
            "kwargs": {"batch_size": 2, "num_workers": 0},
            "dataset": {"type": dataset, "kwargs": kwargs},
        }

    if task == "cls":
        base |= {
            "model": {"type": "TimmClassifier", "kwargs": {"model_name": "test_resnet"}},
            "loss": {"type": "CrossEntropyLoss"},
        }
        sets = [
            loader("ClsDataloader", "FolderDataset", data_dir=str(data / "cls"), split=split)
            for split in ("train", "val")
        ]
        evaluator = "ClsEvaluator"
    elif task == "seg":
        model = {"encoder_name": "tu-test_resnet", "encoder_depth": 3, "decoder_channels": [16, 8, 8]}
        base |= {"model": {"type": "Unet", "kwargs": model}, "loss": {"type": "CrossEntropyLoss"}}
        sets = [loader("SegDataloader", "SegCsvDataset", csv_file=str(data / "flat" / f"{split}.csv"), classes=["background", "dent"]) for split in ("train", "val")]  # fmt: skip
        evaluator = "SegEvaluator"
    elif task == "det":
        base |= {"model": {"type": "YOLOX", "kwargs": {"size": "nano"}}, "loss": {"type": "YOLOXLoss"}}
        sets = [
            loader("DetDataloader", "CocoDetection", json_file=str(data / "flat" / f"{split}.json"))
            for split in ("train", "val")
        ]
        evaluator = "DetEvaluator"
    else:
        del base["optimizer"], trainer["max_epochs"], trainer["save_iters"]
        base |= {"model": {"type": "PaDiM", "kwargs": {"backbone": "test_resnet", "layers": ["layer1", "layer2"], "dimensions": 8, "sigma": 1.0}}}  # fmt: skip
        sets = [
            loader("AnomalyDataloader", "MVTecDataset", data_dir=str(data / "parts"), split=split)
            for split in ("train", "test")
        ]
        evaluator = "AnomalyEvaluator"
    return {**base, "dataloader": sets[0], "evaluator": {"type": evaluator, "dataloader": sets[1]}}


def export_config(run: Path) -> dict[str, Any]:
    return {
        "trainer": {"type": "Export", "kwargs": {"ckpt": str(run), "parity_images": 2}},
        "export": {"type": "OnnxExporter"},
    }


if __name__ == "__main__":
    sys.exit(main())
