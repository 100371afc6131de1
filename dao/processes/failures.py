"""What the machine did to a run (no memory, no disk, no open files, a process killed), told in one message.

Errors of the user are `dao.errors`; bugs keep their traceback. This is the rest: a machine that ran out of something.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dao.errors import RunError

# what the system says of a write, an open or a read, and what to do about it
SYSTEM: Mapping[int, str] = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "the quota of this user on the disk is used up; make room, or ask for more",
    errno.EFBIG: "a file may not become that large here (ulimit -f, or the file system's own limit)",
    errno.EROFS: "the disk is mounted read-only",
    errno.EACCES: "this user may not do that there; see the owner and mode of the folder",
    errno.EPERM: "the system does not permit it",
    errno.EIO: "the disk cannot be read or written there; it may be failing",
    errno.EMFILE: "this process has as many files open as it may (ulimit -n); use fewer num_workers, or raise the limit",
    errno.ENFILE: "the machine has as many files open as it may",
    errno.ENOMEM: "the machine has no memory left",
    errno.ESTALE: "the network disk was taken away; mount it again",
}
SHARED = "/dev/shm"
FEWER = "Use fewer num_workers (0 reads without processes), a smaller prefetch_factor or batch_size"
_OUT_OF_MEMORY = ("can't allocate memory", "insufficient memory", "not enough memory", "bad_alloc", "out of memory")


def of_system(error: OSError) -> str:
    """The system's word for an error, and what to do: "No space left on device: the disk is full; make room"."""
    said = error.strerror or str(error) or type(error).__name__
    advice = SYSTEM.get(error.errno or 0)
    return f"{said}: {advice}" if advice else said


def told(error: BaseException, run_dir: Path | None = None, device: Any = "cpu") -> RunError | None:
    """The message for what a machine's limits did; None for anything else.

    run_dir: of the run, where it had one: whether it can be gone on with is looked up there. device: it ran on.
    """
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and shared_memory_is_full(error):
        return RunError(f"shared memory is full{shared_memory()} (docker: --shm-size=8g or --ipc=host). {FEWER}")
    if isinstance(error, OSError) and error.errno in SYSTEM:
        place = f" ({error.filename})" if error.filename else ""
        return RunError(f"{of_system(error)}{place}. {how_to_go_on(run_dir)}")
    if out_of_memory(error):
        return RunError(f"{memory_message(error, device)}; --check says what a batch takes. {how_to_go_on(run_dir)}")
    return None


def shared_memory_bytes() -> tuple[int, int] | None:
    """How much shared memory there is, and how much of it is free; None where the system does not tell."""
    try:
        found = shutil.disk_usage(SHARED)
    except OSError:
        return None
    return found.total, found.free


def shared_memory() -> str:
    """The same in words, for a message; "" where it is not known."""
    found = shared_memory_bytes()
    return f": {SHARED} has {found[0] / 2**20:.0f} MiB, {found[1] / 2**20:.0f} of them free" if found else ""


def shared_memory_is_full(error: OSError) -> bool:
    """Whether it is not a disk that is full: processes that read ahead hand pictures over by shared memory, and even
    their locks lie there, of which the system gives no name."""
    if error.filename is not None:
        return str(error.filename).startswith(SHARED)
    found = shared_memory_bytes()
    return "torch_" in str(error) or (found is not None and found[1] < 2**16)


def how_to_go_on(run_dir: Path | None) -> str:
    """Promises a resume only where there is something to resume."""
    latest = run_dir / "checkpoints" / "latest.ckpt" if run_dir is not None else None
    if latest is not None and latest.is_file():
        return f"What was saved before is whole; go on with --resume {run_dir}"
    return "Nothing had been saved to go on from"


def out_of_memory(error: BaseException) -> bool:
    """Whether memory was asked for and not given, by Python, numpy, OpenCV or torch, on a CPU or a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    foreign = isinstance(error, RuntimeError) or type(error).__module__ == "cv2"
    return foreign and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def memory_message(error: BaseException, device: Any) -> str:
    """Whose memory ran out, and the settings that ask for less of it."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    said = re.sub(r"^\[[^]]*\]\s*", "", first)  # without torch's file and line
    where = "the machine" if str(device).startswith("cpu") else str(device)
    return (
        f"the memory of {where} ran out ({said}). Less is needed with a smaller dataloader.kwargs.batch_size (and "
        "trainer.kwargs.accumulate for the same size of step), a smaller preprocess.size, --amp, "
        "trainer.kwargs.grad_checkpointing, fewer num_workers, no cache"
    )
