"""Kill a training run again and again, at any moment and in every way, and see whether it ends as if nothing had been.

    python tests/chaos/chaos.py --kills 50 --seed 0
    python tests/chaos/chaos.py --kills 20 --task efficient_ad   # struck while its teacher is distilled, or its student learns
    python tests/chaos/chaos.py --kills 10 --task patchcore      # struck while it collects, or chooses its coreset

A small run, which early stopping ends, is made whole once by one process and once by two. Then runs of the same config
are started, by one and by two in turn, and struck down by chance: SIGKILL to the main process, to one of two training
processes, to a process that reads pictures; SIGTERM; a checkpoint torn after a kill; a disk that is full for a while
(where this user may mount a tmpfs). Each is gone on with by --resume until it ends, and its last checkpoint must equal
the whole run's in every bit. Prints the kills survived and the runs that ended equal.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
STARTED = "iterations an epoch"
EPOCHS = {"cls": 40, "efficient_ad": 16, "patchcore": 1}
GIVE_UP = 180  # seconds for one start to end in, or ten times what the undisturbed run took
WHOLE = 1800  # seconds for an undisturbed run
DISK = {"cls": "64m", "efficient_ad": "2g", "patchcore": "64m"}  # its checkpoints have 130 MB each


def main() -> int:
    """All kills; 0 when every run ended equal."""
    args = arguments()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        devices, epochs = [args.devices] if args.devices else [1, 2], args.epochs or EPOCHS[args.task]
        return Chaos(Path(name), rng, devices, args.task, epochs).run(args.kills)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--epochs", type=int, default=0, help="of each run, some 12 iterations long; 0: as the task needs"
    )
    parser.add_argument("--task", choices=[*EPOCHS], default="cls")
    parser.add_argument("--devices", type=int, default=0, help="training processes; 0: one and two in turn")
    return parser.parse_args()


class Chaos:
    """A folder with pictures and a config, the whole runs' checkpoints, and what is done to the others."""

    def __init__(self, folder: Path, rng: random.Random, devices: list[int], task: str, epochs: int) -> None:
        self.folder, self.rng, self.devices = folder, rng, devices
        self.config = write_config(folder, epochs) if task == "cls" else write_anomaly_config(folder, task, epochs)
        self.struck: Counter[str] = Counter()
        self.patience: float = GIVE_UP
        self.strikes: list[Callable[[subprocess.Popen[bytes], str], None]] = [
            self.kill_main, self.kill_main, self.kill_child, self.terminate, self.kill_and_tear,
        ]  # fmt: skip
        self.mounted = mount(folder / "runs", DISK[task])
        if self.mounted:
            self.strikes.append(self.fill_disk)
        else:
            print("this user may not mount a tmpfs: no full disk is tried")

    def run(self, kills: int) -> int:
        """Runs until so many strikes have hit; how they ended."""
        try:
            return self._run(kills)
        finally:
            if self.mounted:
                subprocess.run(["umount", "-l", str(self.folder / "runs")], check=False)

    def _run(self, kills: int) -> int:
        seconds = {devices: self.whole(devices) for devices in self.devices}
        equal = runs = 0
        while sum(self.struck.values()) < kills:
            devices = self.devices[runs % len(self.devices)]
            runs += 1
            self.until_the_end(f"run{runs:04}", devices, seconds[devices], kills)
            equal += self.same_as_whole(f"run{runs:04}", devices)
            print(f"{sum(self.struck.values())} of {kills} kills, {equal} of {runs} runs ended equal", flush=True)
        how = ", ".join(f"{name} {count}" for name, count in sorted(self.struck.items()))
        print(f"{sum(self.struck.values())} kills survived ({how}); {equal} of {runs} runs bit-equal")
        return 0 if equal == runs else 1

    def start(self, name: str, devices: int) -> tuple[subprocess.Popen[bytes], Path]:
        command = [sys.executable, "main.py", "-c", str(self.config), "--device", "cpu", "--devices", str(devices)]
        command += ["--resume", "-o", f"name={name}"]
        said = self.folder / f"{name}.txt"
        with said.open("wb") as file:
            return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env=environment()), said

    def whole(self, devices: int) -> float:
        """The run that nobody disturbs; seconds it trained for."""
        process, said = self.start(f"whole{devices}", devices)
        wait_for(process, said)
        started = time.monotonic()
        if self.end_of(process, said, WHOLE):
            sys.exit(f"the undisturbed run failed:\n{said.read_text()[-3000:]}")
        taken = time.monotonic() - started
        self.patience = max(self.patience, 10 * taken)
        return taken

    def end_of(self, process: subprocess.Popen[bytes], said: Path, seconds: float) -> int:
        """Its exit code; one that does not end is ended, and so is this."""
        try:
            return process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            for pid in (*children(process.pid), process.pid):
                end(pid, signal.SIGKILL)
            sys.exit(f"hung for {seconds:.0f} seconds:\n{said.read_text()[-3000:]}")

    def until_the_end(self, name: str, devices: int, seconds: float, kills: int) -> None:
        """Start, strike, start again, until a start comes to the end."""
        while True:
            process, said = self.start(name, devices)
            wait_for(process, said)
            if sum(self.struck.values()) < kills:
                time.sleep(self.rng.uniform(0, 0.6 * seconds))
                if process.poll() is None:
                    self.rng.choice(self.strikes)(process, name)
            code = self.end_of(process, said, self.patience)
            if code == 0:
                return
            tracebacks = said.read_text().split("Traceback (most recent call last)")[1:]
            # Python's own thread that hands file descriptors over prints one when a killed process was asking for one
            if any("resource_sharer" not in traceback for traceback in tracebacks):
                sys.exit(f"{name} fell by itself:\n{said.read_text()[-3000:]}")

    def same_as_whole(self, name: str, devices: int) -> bool:
        from dao.checkpoints import checkpoint
        from dao.commands.verify_resume import COMPARED, differences

        both = [checkpoint.load(self.latest(n)) for n in (f"whole{devices}", name)]
        found = list(differences(*({key: content[key] for key in COMPARED} for content in both)))
        print("\n".join(f"  {name}: {line}" for line in found[:5]), end="\n" if found else "")
        for folder in (self.folder / "runs").glob(f"{name}*"):
            shutil.rmtree(folder)
        return not found

    def latest(self, name: str) -> Path:
        """A run that is struck before its first checkpoint begins anew, in a folder beside."""
        from dao.files import run_folder

        found = run_folder.newest_run(self.folder / "runs", name) or self.folder / "runs" / name
        return found / "checkpoints" / "latest.ckpt"

    # -- the strikes

    def kill_main(self, process: subprocess.Popen[bytes], name: str) -> None:
        self.struck["main"] += 1
        end(process.pid, signal.SIGKILL)

    def kill_child(self, process: subprocess.Popen[bytes], name: str) -> None:
        """One of the processes below it: of training, or one that reads."""
        below = children(process.pid)
        if below:
            self.struck["child"] += 1
            end(self.rng.choice(below), signal.SIGKILL)

    def terminate(self, process: subprocess.Popen[bytes], name: str) -> None:
        self.struck["SIGTERM"] += 1
        end(process.pid, signal.SIGTERM)

    def kill_and_tear(self, process: subprocess.Popen[bytes], name: str) -> None:
        self.kill_main(process, name)
        process.wait()
        latest = self.latest(name)
        if not latest.is_file() or not latest.with_name("previous.ckpt").is_file():
            return
        self.struck["main"] -= 1
        self.struck["main and its checkpoint"] += 1
        data = latest.read_bytes()
        torn = latest.with_name(
            "torn"
        )  # a file of its own: in mid-save the one before may be the same one by another name
        torn.write_bytes(data[: self.rng.randrange(len(data))])
        torn.replace(latest)

    def fill_disk(self, process: subprocess.Popen[bytes], name: str) -> None:
        """Not a byte is left; the run must say so, and leave what it had saved whole."""
        filler = self.folder / "runs" / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(b"0" * 2**16):
                    pass
            except OSError:
                pass
        self.end_of(process, self.folder / f"{name}.txt", self.patience)
        filler.unlink()
        said = (self.folder / f"{name}.txt").read_text()
        if process.returncode and not any(words in said for words in ("disk full", "disk is full", "could not be")):
            sys.exit(f"{name} fell on a full disk without saying so:\n{said[-3000:]}")
        self.struck["full disk"] += process.returncode != 0  # it may have been done before it had to write


def mount(folder: Path, size: str) -> bool:
    """A small disk of its own for the runs, where this user may make one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "chaos", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def wait_for(process: subprocess.Popen[bytes], said: Path) -> None:
    """Until training has begun, or the process has ended."""
    until = time.monotonic() + GIVE_UP
    while STARTED not in said.read_text(errors="replace") and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    import psutil

    try:
        found = psutil.Process(pid).children(recursive=True)
        return [child.pid for child in found if "resource_tracker" not in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def end(pid: int, number: int) -> None:
    """A signal to a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def write_config(folder: Path, epochs: int) -> Path:
    """Pictures of three colours, and a run with all that a checkpoint must remember."""
    import cv2
    import numpy as np

    for split, count in (("train", 16), ("val", 4)):
        for label, name in enumerate(("blue", "green", "red")):
            place = folder / "data" / split / name
            place.mkdir(parents=True)
            for i in range(count):
                rng = np.random.default_rng((label, i, count))
                image = rng.integers(40, 90, (40, 48, 3), dtype=np.uint8)
                image[8:-8, 8:-8, label] = 200
                cv2.imwrite(str(place / f"{i}.png"), image)

    def loader(split: str, **more: object) -> dict[str, object]:
        dataset = {"type": "FolderDataset", "kwargs": {"data_dir": str(folder / "data"), "split": split}, **more}
        return {"type": "ClsDataloader", "kwargs": {"batch_size": 4, "num_workers": 1}, "dataset": dataset}

    flip = [{"type": "HorizontalFlip", "kwargs": {"p": 0.5}}]
    trainer = {"log_dir": str(folder / "runs"), "max_epochs": epochs, "ema": True, "accumulate": 2, "save_iters": 5,
               "test_after_train": False, "eval_interval": 3}  # fmt: skip
    config = {
        "name": "chaos",
        "type": "cls",
        "trainer": {"type": "TrainVal", "kwargs": trainer},
        "preprocess": {"size": [32, 32]},
        "model": {"type": "TimmClassifier", "kwargs": {"model_name": "test_resnet", "drop_rate": 0.2}},
        "loss": {"type": "CrossEntropyLoss"},
        "optimizer": {"type": "adamw", "kwargs": {"lr": 0.003}},
        "lr_scheduler": {"type": "plateau_lr", "kwargs": {"patience": 1}},
        "hooks": [{"type": "EarlyStop", "kwargs": {"patience": 3}}],
        "dataloader": loader("train", transforms=flip),
        "evaluator": {"type": "ClsEvaluator", "dataloader": loader("val")},
    }
    path = folder / "chaos.json"
    path.write_text(json.dumps(config))
    return path


def write_anomaly_config(folder: Path, task: str, epochs: int) -> Path:
    """Good pictures in MVTec's folders, and a model that learns from them in phases: EfficientAD's teacher is distilled
    in the first half of its run, PatchCore collects and then chooses."""
    import cv2
    import numpy as np

    for place, count in (("train/good", 52), ("test/good", 4), ("test/bad", 4)):
        (folder / "data" / place).mkdir(parents=True)
        for i in range(count):
            image = np.random.default_rng((i, count, len(place))).integers(100, 130, (40, 48, 3), dtype=np.uint8)
            if "bad" in place:
                image[10:20, 10:20] = 255
            cv2.imwrite(str(folder / "data" / place / f"{i}.png"), image)

    def loader(split: str) -> dict[str, object]:
        dataset = {"type": "MVTecDataset", "kwargs": {"data_dir": str(folder / "data"), "split": split}}
        return {"type": "AnomalyDataloader", "kwargs": {"batch_size": 4, "num_workers": 1}, "dataset": dataset}

    trainer: dict[str, object] = {"log_dir": str(folder / "runs"), "test_after_train": False}
    network: dict[str, object] = {"backbone": "test_resnet", "layers": ["layer1"]}
    config = {"name": "chaos", "type": "anomaly", "preprocess": {"size": [40, 48]}, "dataloader": loader("train"),
              "evaluator": {"type": "AnomalyEvaluator", "dataloader": loader("test")}}  # fmt: skip
    if task == "efficient_ad":
        network |= {"padding": True, "distil_steps": epochs * 4}
        config |= {
            "model": {"type": "EfficientAD", "kwargs": network},
            "optimizer": {"type": "adam", "kwargs": {"lr": 0.0003}},
        }
        trainer |= {"max_epochs": epochs, "save_iters": 5, "eval_interval": 4, "ema": True}
    else:
        config["model"] = {"type": "PatchCore", "kwargs": {**network, "coreset": 0.1}}
    path = folder / "chaos.json"
    path.write_text(json.dumps({**config, "trainer": {"type": "TrainVal", "kwargs": trainer}}))
    return path


if __name__ == "__main__":
    sys.exit(main())
