"""torchrun starts a lost worker again, and the run goes on from its latest checkpoint to the same end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dao.checkpoints import checkpoint
from dao.commands.verify_resume import COMPARED, differences

ROOT = Path(__file__).parents[2]
GIVE_UP = 300


def start(path, name, said):
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1", "--nproc_per_node=2", "--max-restarts=3"]
    command += ["--standalone", "main.py", "-c", str(path), "--device", "cpu", "--resume", "-o", f"name={name}"]
    with said.open("wb") as file:
        return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"})


def worker(process, rank):
    """The process of torchrun's that trains as this rank."""
    for child in psutil.Process(process.pid).children(recursive=True):
        if "main.py" in child.cmdline() and child.environ().get("RANK") == str(rank):
            return child.pid
    raise LookupError(f"no worker of rank {rank}")


@pytest.mark.skipif(sys.platform != "linux", reason="reads other processes' environment")
def test_a_killed_worker_is_started_again_and_the_run_ends_as_one_that_was_left_alone(
    tiny_config, write_config, tmp_path
):
    changes = {"trainer.kwargs.max_epochs": 16, "trainer.kwargs.save_iters": 2, "trainer.kwargs.eval_interval": 8,
               "trainer.kwargs.test_after_train": False, "dataloader.kwargs.batch_size": 3}  # fmt: skip
    path = write_config(tiny_config, changes)
    assert start(path, "whole", tmp_path / "whole.txt").wait(GIVE_UP) == 0
    said = tmp_path / "struck.txt"
    process = start(path, "struck", said)
    latest = tmp_path / "runs" / "struck" / "checkpoints" / "latest.ckpt"
    deadline = time.monotonic() + GIVE_UP
    while not latest.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(worker(process, 1), signal.SIGKILL)
    assert process.wait(GIVE_UP) == 0, said.read_text()
    assert "resumed from" in said.read_text()
    first, second = (
        checkpoint.load(latest.parents[2] / name / "checkpoints" / "latest.ckpt") for name in ("whole", "struck")
    )
    assert second["epoch"] == 16 and second["world_size"] == 2
    assert list(differences({k: first[k] for k in COMPARED}, {k: second[k] for k in COMPARED})) == []
