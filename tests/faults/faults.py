"""Fail every file operation of a run in turn, and kill it at every one, and see whether anything is lost.

    python tests/faults/faults.py --seconds 600
    python tests/faults/faults.py --again "det/short write/117"      # one of them once more, by the name it was told by

In the spirit of SQLite's tests: a layer in front of libc (faults.c) fails the n-th open, read, write, fsync, rename or
mkdir below the run's folder, for every n that a run comes to; once, or from there on as a full disk does; with ENOSPC,
EIO, EMFILE, a short write, or SIGKILL. After each: no traceback, one message where the run failed, every file that was
whole before is whole, no torn file under a final name, and a resume ends bit-equal to the run that nothing befell. Every
try is forked from one process that has imported everything, so that a try takes about a second. Tasks and faults take
turns, and the operations of each come in an order drawn from --seed, so that whatever the time is up at, all were tried alike.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults_judge import ALL, FAULTS, Fault, fingerprint, shown, torn, wrong_words
from faults_sets import TASKS, config, export_config, write_data

ROOT = Path(__file__).parents[2]
LIMIT = 180  # seconds for one try
NAMES = {"o": "open", "r": "read", "w": "write", "s": "fsync", "n": "rename", "d": "mkdir, unlink"}
UNREACHED = 2**31  # an operation that no run comes to


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
    parser.add_argument("--tries", type=int, default=sys.maxsize, help="operations of each stage and fault, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so long")
    parser.add_argument("--again", metavar="STAGE/FAULT/OPERATION", help="one try only")
    args = parser.parse_args()
    if args.again:
        stage, rest = args.again.split("/", 1)
        args.stages, args.faults = [stage], [rest.rsplit("/", 1)[0]]
    return args


@dataclass(frozen=True)
class Stage:
    """A small run that is struck.

    runs: where it may write what is torn; watched: the folder whose operations fail; operations: how many of each kind
    the undisturbed run comes to; whole: what it ends with.
    """

    name: str
    config: Path
    runs: Path
    watched: Path
    operations: dict[str, int]
    whole: dict[str, Any]


class Trial:
    """A folder with pictures and configs, the runs that nothing befell, and what befalls the others."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self.folder, self.args = folder, args
        self.layer = ctypes.CDLL(os.environ["LD_PRELOAD"].split(":")[0])
        self.layer.faults_seen_of.restype = ctypes.c_long
        self.counts: Counter[str] = Counter()
        self.lost: list[str] = []
        self.data = write_data(folder / "data")
        import_everything()
        self.until = time.monotonic() + args.seconds

    def run(self) -> int:
        """Stages and faults in turn, until all is tried or time is up; what was lost, at the end."""
        stages = [self.prepared(name) for name in self.args.stages]
        faults = [fault for fault in FAULTS if fault.name in self.args.faults]
        lanes = [(stage, fault, self.numbers(stage, fault)) for fault in faults for stage in stages]
        done: Counter[str] = Counter()
        while lanes and time.monotonic() < self.until:
            lane = lanes.pop(0)
            stage, fault, numbers = lane
            if numbers:
                self.strike(stage, fault, numbers.pop())
                done[stage.name] += 1
                lanes.append(lane)
        for stage in stages:
            print(f"{stage.name}: {done[stage.name]} tries; {sum(stage.operations.values())} operations a run")
        told = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        left = sum(len(numbers) for *_, numbers in lanes)
        print(f"{sum(self.counts.values())} faults ({told}); {len(self.lost)} lost something; {left} not tried")
        print("\n".join(f"  {text}" for text in self.lost[:40]))
        return 1 if self.lost else 0

    def prepared(self, name: str) -> Stage:
        """The run that nothing befalls, and what it comes to."""
        place = self.folder / name
        runs, task = place / "runs", "cls" if name == "export" else name
        place.mkdir()
        path = place / "config.json"
        path.write_text(json.dumps(config(task, self.data, runs)))
        whole, watched = {}, runs
        if name == "export":
            self.undisturbed(name, path, None)
            (runs / task).rename(place / "trained")
            path.write_text(json.dumps(export_config(place / "trained")))
            watched = place / "trained" / "export"
        operations = self.undisturbed(name, path, watched)
        if name != "export":
            whole = fingerprint(runs / task)
        shutil.rmtree(watched, ignore_errors=True)
        told = ", ".join(f"{NAMES[kind]} {count}" for kind, count in operations.items())
        print(f"{name}: {sum(operations.values())} operations ({told})", flush=True)
        return Stage(name, path, runs, watched, operations, whole)

    def undisturbed(self, name: str, path: Path, watched: Path | None) -> dict[str, int]:
        """Operations of each kind that a run comes to, which none of them is failed of."""
        fault = Fault("none", ALL, errno.EIO) if watched is not None else None
        code, said, seen = self.attempt(fault, UNREACHED, ["-c", str(path)], watched)
        if code:
            sys.exit(f"{name}: the undisturbed run failed:\n{said[-3000:]}")
        return seen or {}

    def numbers(self, stage: Stage, fault: Fault) -> list[int]:
        """The operations to be failed, the last one first."""
        if self.args.again:
            return [int(self.args.again.rsplit("/", 1)[1])]
        count = sum(stage.operations.get(kind, 0) for kind in fault.kinds.decode())
        numbers = list(range(1, count + 1))
        random.Random(f"{self.args.seed}/{stage.name}/{fault.name}").shuffle(numbers)
        return numbers[: self.args.tries]

    def strike(self, stage: Stage, fault: Fault, number: int) -> None:
        """One run with one fault; what it left, and what a resume makes of it."""
        code, said, seen = self.attempt(fault, number, ["-c", str(stage.config)], stage.watched)
        if seen is None or sum(seen.get(kind, 0) for kind in fault.kinds.decode()) >= number:  # else it was over before
            self.counts[fault.name] += 1
        complaints = wrong_words(code, said, fault)
        after = self.exported(stage.watched) if stage.name == "export" else self.resumed(stage)
        where = f"{stage.name}/{fault.name}/{number}"
        self.lost += [f"{where}: {text}" for text in (*complaints, *after)]
        if complaints or after:
            print(f"LOST {self.lost[-1]}\n{said[-1500:]}", flush=True)
        shutil.rmtree(stage.watched, ignore_errors=True)

    def resumed(self, stage: Stage) -> list[str]:
        """What is wrong with what a struck run left, and with the run that goes on from it."""
        found = list(torn(stage.runs))
        code, said, _ = self.attempt(None, 0, ["-c", str(stage.config), "--resume"])
        if code:
            return [*found, f"the resume failed with {code}: {said[-600:]}"]
        newest = max(stage.runs.iterdir(), key=lambda run: (run / "checkpoints" / "latest.ckpt").stat().st_mtime_ns
                     if (run / "checkpoints" / "latest.ckpt").is_file() else 0)  # fmt: skip
        ended = fingerprint(newest)
        return [
            *found,
            *(
                f"{key} is another than the undisturbed run's"
                for key in stage.whole
                if ended.get(key) != stage.whole[key]
            ),
        ]

    def exported(self, folder: Path) -> list[str]:
        """A file under its final name must be a proven one."""
        finals = [path for path in shown(folder) if path.suffix == ".onnx"]
        return [*torn(folder), *(f"{path.name} lies there without its proof" for path in finals
                                 if not (path.parent / "parity.json").is_file())]  # fmt: skip

    def attempt(
        self, fault: Fault | None, number: int, argv: list[str], watched: Path | None = None
    ) -> tuple[int, str, dict[str, int] | None]:
        """One run in a forked process: its exit code, what it said, and how many operations of each kind it came to (None:
        killed)."""
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
        seen = json.loads(told.read_text()) if told.is_file() else None
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
        told.write_text(json.dumps({kind: self.layer.faults_seen_of(ord(kind)) for kind in ALL.decode()}))
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


if __name__ == "__main__":
    sys.exit(main())
