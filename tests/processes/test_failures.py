"""What a machine's limits did to a run is one message, which says what to do and promises nothing that is not there."""

import errno
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from dao.checkpoints import checkpoint
from dao.errors import ConfigError, RunError
from dao.files import run_folder
from dao.processes import failures


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"), (errno.EDQUOT, "quota"), (errno.EFBIG, "ulimit -f"), (errno.EROFS, "read-only"),
        (errno.EMFILE, "ulimit -n"), (errno.EIO, "may be failing"), (errno.EACCES, "owner and mode"),
    ],
)  # fmt: skip
def test_what_the_system_refuses_is_said_with_what_to_do(number, words):
    error = failures.told(OSError(number, os.strerror(number), "/data/x.png"))
    assert isinstance(error, RunError) and words in str(error) and "/data/x.png" in str(error)


def test_a_resume_is_promised_only_where_there_is_something_to_resume(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x"))
    assert "--resume" not in str(failures.told(full, tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "latest.ckpt").write_bytes(b"x")
    assert f"--resume {tmp_path}" in str(failures.told(full, tmp_path))


def test_memory_that_is_not_given_is_known_whoever_asked_for_it():
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**55)
    with pytest.raises(MemoryError) as of_numpy:
        np.ones(2**55)
    for error in (of_torch.value, of_numpy.value, MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried")):
        said = str(failures.told(error, device="cuda:0"))
        for setting in (
            "cuda:0",
            "batch_size",
            "preprocess.size",
            "--amp",
            "accumulate",
            "grad_checkpointing",
            "--check",
        ):
            assert setting in said, (error, said)


def test_bugs_keep_their_traceback():
    for error in (RuntimeError("shapes cannot be multiplied"), KeyError("x"), ValueError("memory"), OSError("odd")):
        assert failures.told(error) is None


def test_a_full_shared_memory_is_not_called_a_full_disk(monkeypatch):
    monkeypatch.setattr(failures, "shared_memory_bytes", lambda: (64 * 2**20, 0))
    said = str(failures.told(OSError(errno.ENOSPC, "No space left on device")))  # a lock that found no room: no name
    assert "shared memory is full" in said and "--shm-size" in said and "num_workers" in said
    disk = failures.told(OSError(errno.ENOSPC, "No space left on device", "/data/runs/x"))
    assert "the disk is full" in str(disk)


def test_a_file_that_may_not_become_that_large_is_named_and_the_older_checkpoint_stays(tmp_path):
    path = tmp_path / "a.ckpt"
    checkpoint.save({"w": torch.ones(3)}, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(RunError, match=r"ulimit -f.*The one written before it is untouched"):
            checkpoint.save({"w": torch.randn(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert torch.equal(checkpoint.load(path)["w"], torch.ones(3)) and [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_run_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RunError, match=rf"{tmp_path} cannot be written to: Read-only file system: the disk is mounted"):
        run_folder.lock(tmp_path)


def test_fifty_equal_starts_at_once_are_fifty_runs(tmp_path):
    """Each in a folder and with a lock of its own; processes, as threads would share the locks."""
    children = []
    for _ in range(50):
        child = os.fork()
        if child == 0:
            folder = run_folder.fresh(tmp_path, "steel")
            lock = run_folder.lock(folder)
            (folder / "mine").write_text(str(os.getpid()))
            lock.close()
            os._exit(0)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert folders == sorted(["steel", *(f"steel-{i}" for i in range(2, 51))])
    assert sorted(int((tmp_path / name / "mine").read_text()) for name in folders) == sorted(children)


@pytest.mark.parametrize(
    ("kwargs", "what"), [({"num_workers": 100_000}, "0 to 512"), ({"batch_size": 2**62}, "1 to 100000")]
)
def test_numbers_out_of_any_sense_are_refused(kwargs, what):
    from dao.dataloaders.loader import ImageLoader

    (problem,) = ImageLoader.check_config(kwargs, "dataloader.kwargs")
    assert what in problem.what.replace(",", ""), problem


def test_more_processes_than_a_machine_can_have_are_refused():
    from argparse import Namespace

    from dao.launch.placement import place

    asked = Namespace(devices="100000", device="cpu", gpu=None, num_machines=1, machine_rank=0, dist_url="auto", dist_backend="auto")  # fmt: skip
    with pytest.raises(ConfigError, match="at most 256"):
        place(asked)


def test_shared_memory_too_small_for_a_batch_is_refused_before_it_is_full(tiny_data, monkeypatch):
    from dao.dataloaders.datasets.folder import FolderDataset
    from dao.dataloaders.loader import ClsDataloader
    from dao.preprocess import Preprocess

    monkeypatch.setattr(failures, "shared_memory_bytes", lambda: (2**20, 2**20))
    parts = {"dataset": FolderDataset(str(tiny_data)), "transforms": None, "preprocess": Preprocess(size=(224, 224))}
    with pytest.raises(RunError, match=r"a batch takes 5 MiB of shared memory.*--shm-size"):
        ClsDataloader(**parts, training=True, seed=0, batch_size=32, num_workers=1)
    ClsDataloader(**parts, training=True, seed=0, batch_size=32, num_workers=0)
