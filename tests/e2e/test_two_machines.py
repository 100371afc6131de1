"""Two machines, as network namespaces on this one, run the README's two commands: they train, differ, and lose each other."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
ADDRESSES = ("10.81.7.1", "10.81.7.2")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def machines():
    """Names of two namespaces with a cable between them."""
    if not shutil.which("ip"):
        pytest.skip("no ip command: network namespaces cannot be made here")
    names = [f"aicore-{os.getpid()}-{n}" for n in range(2)]
    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "wire", "netns", names[0], "type", "veth", "peer", "name", "wire", "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "wire")
            ip("-n", name, "link", "set", "wire", "up")
    except subprocess.CalledProcessError as error:
        for name in made:
            ip("netns", "del", name)
        pytest.skip(f"this user may not make network namespaces: {error.stderr.decode().strip()}")
    yield names
    for name in names:
        ip("netns", "del", name)


def begin(machines, config, folder, port, *more, apart=False):
    """The README's command on both; ``more``: arguments of the second machine alone; apart: no folder is shared."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "AICORE_HEARTBEAT_SECONDS": "4", "AICORE_JOIN_SECONDS": "60"}
    started = []
    for rank, name in enumerate(machines):
        command = [sys.executable, str(ROOT / "main.py"), "-c", str(config), "--device", "cpu", "--num_machines", "2"]
        command += ["--machine_rank", str(rank), "--dist-url", f"tcp://{ADDRESSES[0]}:{port}", *(more if rank else ())]
        with (folder / f"machine{rank}.txt").open("w") as said:
            command = ["ip", "netns", "exec", name, *command]
            here = folder / f"home{rank}" if apart else ROOT
            here.mkdir(exist_ok=True)
            started.append(subprocess.Popen(command, cwd=here, env=environment, stdout=said, stderr=said))
    return started


def said(folder, rank):
    return (folder / f"machine{rank}.txt").read_text()


def wait_until_training(folder, processes):
    until = time.monotonic() + 90
    while "epoch 1/5000" not in said(folder, 0) and time.monotonic() < until:
        assert all(p.poll() is None for p in processes), said(folder, 0) + said(folder, 1)
        time.sleep(0.1)


def end(processes):
    for process in processes:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()


def test_two_machines_train_one_model(machines, tiny_config, write_config, tmp_path):
    """Each with a disk of its own."""
    config = write_config(tiny_config, {"trainer.kwargs.log_dir": "runs"})
    both = begin(machines, config, tmp_path, 29611, apart=True)
    codes = [p.wait(timeout=120) for p in both]
    end(both)
    assert codes == [0, 0], said(tmp_path, 0) + said(tmp_path, 1)
    assert "2 processes (2 on" in said(tmp_path, 0)
    assert (tmp_path / "home0" / "runs" / "tiny" / "eval" / "final" / "metrics.json").is_file()
    assert not (tmp_path / "home1" / "runs").exists()
    first = (tmp_path / "home0" / "runs" / "tiny" / "checkpoints" / "latest.ckpt").stat().st_mtime
    again = write_config(tiny_config, {"trainer.kwargs.log_dir": "runs", "trainer.kwargs.max_epochs": 3})
    both = begin(machines, again, tmp_path, 29615, "--resume", apart=True)
    codes = [p.wait(timeout=120) for p in both]
    end(both)
    assert codes == [2, 2] and "trainer.kwargs.resume of rank 1" in said(tmp_path, 0)  # the same command on both
    assert (tmp_path / "home0" / "runs" / "tiny" / "checkpoints" / "latest.ckpt").stat().st_mtime == first


def test_another_config_on_the_second_machine_is_refused_before_training(machines, tiny_config, write_config, tmp_path):
    both = begin(machines, write_config(tiny_config), tmp_path, 29612, "-o", "optimizer.kwargs.lr=0.5")
    codes = [p.wait(timeout=120) for p in both]
    end(both)
    assert codes == [2, 2]
    assert "config optimizer.kwargs.lr of rank 1 on" in said(tmp_path, 0)
    assert not list(tmp_path.glob("runs/*/checkpoints/*.ckpt"))


def test_a_cut_cable_ends_both_sides_with_a_message(machines, tiny_config, write_config, tmp_path):
    config = write_config(tiny_config, {"trainer.kwargs.max_epochs": 5000, "trainer.kwargs.eval_interval": 5000})
    both = begin(machines, config, tmp_path, 29613)
    try:
        wait_until_training(tmp_path, both)
        ip("-n", machines[1], "link", "set", "wire", "down")
        assert [p.wait(timeout=30) for p in both] == [1, 1]
    finally:
        end(both)
        ip("-n", machines[1], "link", "set", "wire", "up")
    for rank in range(2):
        assert f"[rank {rank}]" in said(tmp_path, rank) and "--resume" in said(tmp_path, rank)
        assert "Traceback" not in said(tmp_path, rank)


def test_a_killed_process_on_one_machine_ends_the_other(machines, tiny_config, write_config, tmp_path):
    config = write_config(tiny_config, {"trainer.kwargs.max_epochs": 5000, "trainer.kwargs.eval_interval": 5000})
    both = begin(machines, config, tmp_path, 29614)
    try:
        wait_until_training(tmp_path, both)
        worker = psutil.Process(both[1].pid)
        os.kill((worker.children(recursive=True) or [worker])[-1].pid, signal.SIGKILL)
        codes = [p.wait(timeout=30) for p in both]
    finally:
        end(both)
    assert codes[0] and codes[1]
    # whichever notices first: the next exchange of gradients, or the heartbeat
    assert "another process broke" in said(tmp_path, 0) or "rank 1 on" in said(tmp_path, 0)
    assert "--resume" in said(tmp_path, 0) and "Traceback" not in said(tmp_path, 0)


def test_a_killed_process_ends_its_peers_on_the_same_machine(tiny_config, write_config, tmp_path):
    config = write_config(tiny_config, {"trainer.kwargs.max_epochs": 5000, "trainer.kwargs.eval_interval": 5000})
    with (tmp_path / "machine0.txt").open("w") as file:
        command = [sys.executable, "main.py", "-c", str(config), "--device", "cpu", "--devices", "2"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
    try:
        wait_until_training(tmp_path, [process])
        (server,) = [c for c in psutil.Process(process.pid).children() if "forkserver" in " ".join(c.cmdline())]
        trainers = server.children()
        trainers[1].kill()
        assert process.wait(timeout=30) == 128 + signal.SIGKILL
    finally:
        end([process])
    assert "rank 1 was ended by SIGKILL" in said(tmp_path, 0)
    assert not any(trainer.is_running() for trainer in trainers)


def test_a_killed_fork_server_ends_its_processes_in_one_message(tiny_config, write_config, tmp_path):
    config = write_config(tiny_config, {"trainer.kwargs.max_epochs": 5000, "trainer.kwargs.eval_interval": 5000})
    with (tmp_path / "machine0.txt").open("w") as file:
        command = [sys.executable, "main.py", "-c", str(config), "--device", "cpu", "--devices", "2"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
    try:
        wait_until_training(tmp_path, [process])
        (server,) = [c for c in psutil.Process(process.pid).children() if "forkserver" in " ".join(c.cmdline())]
        trainers = server.children()
        server.kill()
        assert process.wait(timeout=30) == 128 + signal.SIGKILL
        psutil.wait_procs(trainers, timeout=30)
    finally:
        end([process])
    assert "their server was ended from outside" in said(tmp_path, 0) and "Traceback" not in said(tmp_path, 0)
    assert not any(trainer.is_running() for trainer in trainers)


def test_a_process_that_falls_silent_under_a_scheduler_ends_the_other(tiny_config, write_config, tmp_path):
    """Variables as srun sets them, and no agent that watches."""
    config = write_config(tiny_config, {"trainer.kwargs.max_epochs": 5000, "trainer.kwargs.eval_interval": 5000})
    started = []
    for rank in range(2):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        place |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "29616",
            "AICORE_HEARTBEAT_SECONDS": "4",
            "OMP_NUM_THREADS": "1",
        }
        with (tmp_path / f"machine{rank}.txt").open("w") as file:
            command = [sys.executable, "main.py", "-c", str(config), "--device", "cpu"]
            started.append(subprocess.Popen(command, cwd=ROOT, env={**os.environ, **place}, stdout=file, stderr=file))
    try:
        wait_until_training(tmp_path, started)
        os.kill(started[1].pid, signal.SIGSTOP)
        assert started[0].wait(timeout=30) == 1
    finally:
        end(started)
    assert "rank 1 on" in said(tmp_path, 0) and "not been heard of for 4 seconds" in said(tmp_path, 0)
