"""Damage every kind of file that comes from elsewhere, and see that it is read, or refused in our own words.

    python tests/fuzz/fuzz.py --seconds 60 --seed 0
    python tests/fuzz/fuzz.py --again 0/coco/17      # one try once more, by the name that its finding has

Seeds are small whole files (fuzz_targets.py). Each try damages one (fuzz_damage.py): bytes flipped, cut, doubled, written
over; in JSON also values replaced by odd ones of any type and depth, keys dropped and given twice. The reader must
answer, or raise an AICoreError: no other exception, no death of the process, no more than 20 seconds, no more than 2 GB.
What fails is kept in --keep with its traceback. All is read by another process, which is watched from here: a hang in C
code is cut off and a death is seen; then a new process goes on. The k-th try of a kind is a function of seed and k.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from fuzz_damage import damage
from fuzz_targets import Target, make_targets

ROOT = Path(__file__).parents[2]
HANG = 20  # seconds
START = 300  # seconds for a new process to import everything and read every whole file
MEMORY = 2 * 2**30  # bytes more than before
A_TURN = 50, 2.0  # tries of a kind, and seconds, before the next kind's turn
Made = Callable[[Path], list[Target]]


def main() -> int:
    """Tries until time is up; 0 when none failed."""
    args = arguments()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    os.environ["OMP_NUM_THREADS"] = "1"
    reader = Reader(make_targets, folder)
    try:
        if args.again:
            return again(reader, args.again, args.keep)
        return loop(reader, args)
    finally:
        reader.close()
        shutil.rmtree(folder, ignore_errors=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tries", type=int, default=sys.maxsize, help="of each kind of file, at most")
    parser.add_argument("--targets", nargs="*", help="kinds of files; default all")
    parser.add_argument("--again", metavar="SEED/KIND/TRY", help="one try only")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for what failed")
    return parser.parse_args()


def loop(reader: Reader, args: argparse.Namespace) -> int:
    """Each kind of file in turn, some tries at a time."""
    names = [name for name in reader.files if not args.targets or name in args.targets]
    until, tries, findings = time.monotonic() + args.seconds, Counter[str](), 0
    for name in itertools.cycle(names):
        if time.monotonic() > until or all(tries[one] >= args.tries for one in names):
            break
        turn = time.monotonic() + A_TURN[1]
        for _ in range(min(A_TURN[0], args.tries - tries[name])):
            findings += attempt(reader, f"{args.seed}/{name}/{tries[name]}", args.keep)
            tries[name] += 1
            if time.monotonic() > min(turn, until):
                break
    told = ", ".join(f"{name} {count}" for name, count in tries.items())
    where = f" in {args.keep}" if findings else ""
    print(f"{sum(tries.values())} damaged files ({told}); {findings} findings{where}")
    return 1 if findings else 0


def again(reader: Reader, which: str, keep: Path) -> int:
    found = attempt(reader, which, keep)
    print(f"{which}: {'failed' if found else 'read, or refused in words'}")
    return found


def attempt(reader: Reader, which: str, keep: Path) -> int:
    """One damaged file read; 1 where that failed."""
    name = which.split("/")[1]
    damaged = damage(reader.whole[name], random.Random(which), reader.files[name].suffix)
    why = reader.read(name, damaged)
    return save(keep, which, reader.files[name].suffix, damaged, why) if why else 0


def save(keep: Path, which: str, suffix: str, damaged: bytes, why: str) -> int:
    """Keep what failed; one file a kind of failure, as many tries fail the same way."""
    keep.mkdir(parents=True, exist_ok=True)
    last = why.strip().splitlines()[-1][:160]
    places = [line.strip() for line in why.splitlines() if line.strip().startswith("File ") and "/dao/" in line]
    kind = f"{places[-1] if places else ''} {last.split(':')[0]}"
    name = f"{which.split('/')[1]}-{zlib.crc32(kind.encode()):08x}"
    (keep / f"{name}{suffix}").write_bytes(damaged)
    (keep / f"{name}.txt").write_text(f"{last}\nonce more: --again {which}\n\n{why}", errors="replace")
    print(f"FOUND {which}: {last} {places[-1] if places else ''}", flush=True)
    return 1


class Reader:
    """A process of its own that reads one damaged file after another; a new one where it hung or died."""

    def __init__(self, make: Made, folder: Path) -> None:
        self.make, self.folder, self.started = make, folder, 0
        self.start()

    def start(self) -> None:
        """A new process with whole files of its own."""
        self.started += 1
        place = self.folder / str(self.started)
        place.mkdir()
        self.said = place / "said.txt"
        context = multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(self.make, place, self.said, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.files: dict[str, Path] = {}
        answer = self.answer(START)
        if isinstance(answer, str):  # a target that always fails would find nothing
            sys.exit(f"the whole files were not read: {answer}")
        self.files = answer
        self.whole = {name: file.read_bytes() for name, file in self.files.items()}

    def read(self, name: str, damaged: bytes) -> str:
        """What was wrong with how the damaged file was read; empty where nothing was."""
        self.files[name].write_bytes(damaged)
        self.line.send(name)
        answer = self.answer(HANG)
        if not self.process.is_alive():
            self.start()
        self.files[name].write_bytes(self.whole[name])
        return str(answer)

    def answer(self, seconds: float) -> str | dict[str, Path]:
        """What the process says; else why it said nothing, and it is gone."""
        until, most = time.monotonic() + seconds, self.resident() + MEMORY
        while not self.line.poll(0.05):
            if time.monotonic() > until:
                return self.end(f"took more than {seconds:g} seconds")
            if self.files and self.resident() > most:
                return self.end(f"took more than {MEMORY / 2**30:g} GB")
        try:
            return self.line.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return f"{self.said.read_text(errors='replace')[-5000:]}\nkilled its process: {how}"

    def end(self, why: str) -> str:
        """The process killed, having written down where it was."""
        os.kill(self.process.pid or 0, signal.SIGUSR1)
        time.sleep(0.5)
        self.process.kill()
        self.process.join()
        return f"{self.said.read_text(errors='replace')[-5000:]}\n{why}"

    def resident(self) -> int:
        """Bytes of memory that the process holds; 0 on systems that do not say so."""
        try:
            return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return 0

    def close(self) -> None:
        self.line.close()  # it leaves by itself
        self.process.join(5)
        self.process.kill()
        self.process.join()


# -- in the process that reads ---------------------------------------------------------------------------------------


def serve(make: Made, folder: Path, said: Path, line: Connection) -> None:
    """Make the whole files, read each, then read what is asked for until nobody asks any more."""
    words = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(words, 1)
    os.dup2(words, 2)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=False)
    sys.path.insert(0, str(ROOT))
    targets = {target.name: target for target in make(folder)}
    for target in targets.values():
        target.read()
    bound_memory()
    line.send({name: target.file for name, target in targets.items()})
    while True:
        try:
            name = line.recv()
        except EOFError:
            return
        os.truncate(said, 0)
        line.send(outcome(targets[name]))


def outcome(target: Target) -> str:
    """What was wrong with reading it; empty where it was read, or refused in words of ours."""
    from dao.errors import AICoreError

    try:
        target.read()
    except AICoreError as error:
        return "" if str(error).strip() else "an error without a word"
    except BaseException:
        return traceback.format_exc()
    return ""


def bound_memory() -> None:
    """Whoever asks for far more than `MEMORY` beyond what is there now gets none: the machine is not taken down with it."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    limit = pages * resource.getpagesize() + 2 * MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    sys.exit(main())
