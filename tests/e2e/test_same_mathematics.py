"""One process with a batch of 8 and two with 4 each: the same pictures in every iteration, the same losses, the same answers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dao.checkpoints import checkpoint

ROOT = Path(__file__).parents[2]

WITNESS = '''
import json
from dao.register import Registers
from dao.trainers.hooks.base import Hook
from dao.processes import dist


@Registers.hooks.register()
class Witness(Hook):
    """Write down which pictures each iteration of this process sees."""

    def after_iter(self, trainer):
        with (trainer.run_dir / f"seen-{dist.rank()}.jsonl").open("a") as file:
            file.write(json.dumps([trainer.epoch, trainer.iter, trainer.batch.indices]) + "\\n")
'''

# Batch norm and SimOTA's choices blow the last bits of float32 up within three steps; in float64 they stay small.
DOUBLE = "import torch\ntorch.set_default_dtype(torch.float64)\n"


def run(config, extra, devices):
    command = [sys.executable, "main.py", "-c", str(config), "--device", "cpu", "--devices", str(devices)]
    result = subprocess.run([*command, *extra], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def seen(folder, processes):
    """{(epoch, iteration): the pictures of all processes, sorted}"""
    found = {}
    for rank in range(processes):
        for epoch, i, indices in lines(folder / f"seen-{rank}.jsonl"):
            found.setdefault((epoch, i), []).extend(indices)
    return {key: sorted(indices) for key, indices in found.items()}


def scalars(folder, start):
    rows = lines(folder / "metrics.jsonl")
    return [
        {k: v for k, v in row.items() if k.startswith(start)} for row in rows if any(k.startswith(start) for k in row)
    ]


@pytest.mark.parametrize(
    "task, before, changes",
    [
        ("tiny_config", "", {"loss.kwargs.class_weights": [1.0, 0.3, 2.0], "trainer.kwargs.accumulate": 2}),
        ("tiny_seg_config", DOUBLE, {}),
        ("tiny_det_config", DOUBLE, {"trainer.kwargs.max_epochs": 1, "trainer.kwargs.eval_interval": 0}),
    ],
)
def test_two_processes_train_as_one_does(task, before, changes, request, write_config, tmp_path):
    config = request.getfixturevalue(task)
    (tmp_path / "witness.py").write_text(before + WITNESS)
    (tmp_path / "modules.json").write_text(json.dumps([str(tmp_path / "witness.py")]))
    # an optimizer that divides by the size of the gradient would make of its last bits what it likes
    changes = {"optimizer": {"type": "sgd", "kwargs": {"lr": 0.01}}, "hooks": [{"type": "Witness"}],
               "trainer.kwargs.sync_bn": True, "trainer.kwargs.log_interval": 1,
               "trainer.kwargs.test_after_train": False, "trainer.kwargs.save_interval": 1, **changes}  # fmt: skip
    for processes in (1, 2):
        named = {**changes, "name": f"by{processes}", "dataloader.kwargs.batch_size": 8 // processes}
        path = write_config(config, named, f"by{processes}.json")
        run(path, ["-m", str(tmp_path / "modules.json")], processes)
    folders = [tmp_path / "runs" / f"by{processes}" for processes in (1, 2)]
    one, two = (seen(folder, processes) for folder, processes in zip(folders, (1, 2)))
    assert one == two
    for epoch in {epoch for epoch, _ in one}:
        pictures = [index for (e, _), indices in one.items() if e == epoch for index in indices]
        assert sorted(pictures) == list(range(len(pictures))) and len(pictures) >= 16
    first, second = (scalars(folder, "train/") for folder in folders)
    assert len(first) == len(one)
    assert first == [{name: pytest.approx(value, abs=1e-5, rel=1e-5) for name, value in row.items()} for row in second]
    first, second = (scalars(folder, "val/") for folder in folders)
    assert first or "trainer.kwargs.eval_interval" in changes
    assert first == [{name: pytest.approx(value, abs=1e-4) for name, value in row.items()} for row in second]
    # of one checkpoint not a bit may differ; each picture alone, as its place in a batch may turn the last bit of a score
    for processes in (1, 2):
        trainer = {"type": "Eval", "kwargs": {"ckpt": str(folders[0] / "checkpoints" / "latest.ckpt")}}
        path = write_config(config, {"trainer": trainer, "evaluator.dataloader.kwargs.batch_size": 1}, "eval.json")
        run(path, [], processes)
    first, second = [json.loads(path.read_text()) for path in (folders[0] / "eval").glob("*/metrics.json")]
    assert first == second
    if task == "tiny_config":
        go_on_by_the_other_number(folders, tmp_path)


def go_on_by_the_other_number(folders, tmp_path):
    """From the end of the first epoch, one process's run by two and two's by one: both end as they did."""
    whole = [checkpoint.load(folder / "checkpoints" / "latest.ckpt") for folder in folders]
    for folder, other in (folders, folders[::-1]):
        shutil.rmtree(folder / "eval", ignore_errors=True)
        stopped = folder / "checkpoints" / "epoch_1.ckpt"
        processes = 1 if other == folders[0] else 2
        run(
            tmp_path / f"by{processes}.json",
            ["-m", str(tmp_path / "modules.json"), "--resume", str(stopped)],
            processes,
        )
        ended = checkpoint.load(folder / "checkpoints" / "latest.ckpt")
        assert (ended["epoch"], ended["iter"], ended["world_size"]) == (2, 0, processes)
        assert ended["scheduler"] == whole[0]["scheduler"] == whole[1]["scheduler"]
        for before in whole:
            torch.testing.assert_close(ended["model"], before["model"], rtol=1e-4, atol=1e-4)
        said = (folder / "log.txt").read_text()
        assert "resumed from" in said and "epochs were cut" not in said  # at the end of an epoch nothing is lost
