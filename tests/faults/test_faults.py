"""A short slice of `make faults`, and that it would see what it looks for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dao.checkpoints import checkpoint

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import faults  # noqa: E402 (a script beside this file, in no package)
import faults_sets  # noqa: E402


def test_what_it_looks_for_is_found(tmp_path):
    checkpoint.save({"w": torch.ones(400)}, tmp_path / "whole.ckpt")
    (tmp_path / "whole.json").write_text("{}")
    (tmp_path / ".half.ckpt.1.tmp").write_bytes(b"half")
    (tmp_path / ".x.onnx.1.tmp").mkdir()
    (tmp_path / ".x.onnx.1.tmp" / "x.json").write_text("{")  # of an export that was killed, or could not clear up
    assert list(faults.torn(tmp_path)) == []
    data = (tmp_path / "whole.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(data[: len(data) // 2])
    (tmp_path / "half.json").write_text('{"a": ')
    assert sorted(text.split(" ")[0] for text in faults.torn(tmp_path)) == ["half.ckpt", "half.json"]
    disk, short, kill = (fault for fault in faults.FAULTS if fault.name in ("full disk", "short write", "SIGKILL"))
    assert faults.wrong_words(2, "x could not be written", disk) == []
    assert faults.wrong_words(1, "Traceback (most recent call last):", disk) == ["a traceback", "exit code 1"]
    assert faults.wrong_words(2, "", short) and not faults.wrong_words(0, "", short)
    assert faults.wrong_words(2, "", kill) and not faults.wrong_words(-9, "", kill)


def test_the_layer_fails_the_operation_it_is_told_to(tmp_path):
    library = faults.compiled(tmp_path)
    if library is None:
        pytest.skip("needs Linux and a C compiler")
    program = f"""
import ctypes, errno, os
layer = ctypes.CDLL({str(library)!r})
layer.faults_arm({str(tmp_path / "disk")!r}.encode(), b"wn", ctypes.c_long(2), 0, errno.ENOSPC)
os.makedirs({str(tmp_path / "disk")!r})
for name in "abc":
    try:
        with open({str(tmp_path / "disk")!r} + "/" + name, "w") as file:
            file.write(name)
    except OSError as error:
        print(name, errno.errorcode[error.errno])
layer.faults_seen.restype = layer.faults_seen_of.restype = ctypes.c_long
print(layer.faults_seen(), layer.faults_seen_of(ord("w")), layer.faults_seen_of(ord("o")))
"""
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split("\n")[:2] == ["b ENOSPC", "4 4 0"], (
        said
    )  # Python writes what was refused again as it closes


def test_a_few_faults_of_each_kind_lose_nothing(tmp_path):
    """One operation of a classifier's run for each; all of them: `make faults`."""
    if faults.compiled(tmp_path) is None:
        pytest.skip("needs Linux and a C compiler")
    command = [sys.executable, str(HERE / "faults.py"), "--stages", "cls", "--tries", "1", "--seed", "3"]
    command += ["--faults", "full disk", "I/O error", "SIGKILL"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "3 faults (I/O error 1, SIGKILL 1, full disk 1); 0 lost something; 0 not tried" in done.stdout, done.stdout


def test_configs_of_all_tasks_are_whole(tmp_path):
    from dao.config.schema import validate
    from dao.register import import_all_modules_for_register

    import_all_modules_for_register()
    for task in faults_sets.TASKS:
        assert validate(json.loads(json.dumps(faults_sets.config(task, tmp_path, tmp_path)))) == []
