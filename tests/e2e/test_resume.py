"""Nothing is lost: a run that is stopped anywhere and gone on with ends as one that never stopped, bit for bit on a CPU."""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import main
from dao.checkpoints import checkpoint
from dao.commands.verify_resume import COMPARED, differences
from dao.errors import CheckpointError, RunError
from dao.files import run_folder
from dao.trainers.hooks.evaluate import Evaluate

ROOT = Path(__file__).parents[2]
STOPPED = 143


def run(*argv):
    return main.main([str(a) for a in argv])


def latest(tmp_path, name):
    return checkpoint.load(tmp_path / "runs" / name / "checkpoints" / "latest.ckpt")


def unlike(first, second):
    return list(differences({k: first[k] for k in COMPARED}, {k: second[k] for k in COMPARED}))


@pytest.mark.parametrize("task, stop", [("tiny_config", 4), ("tiny_seg_config", 5), ("tiny_det_config", 3)])
def test_stopped_and_resumed_equals_uninterrupted_with_average_accumulation_and_loader_processes(
    task, stop, request, write_config, tmp_path
):
    config = request.getfixturevalue(task)
    changes = {"trainer.kwargs.accumulate": 2, "trainer.kwargs.ema": True, "trainer.kwargs.test_after_train": False,
               "dataloader.kwargs.num_workers": 2}  # fmt: skip
    whole = write_config(config, {**changes, "name": "whole"}, "whole.json")
    parts = write_config(config, {**changes, "name": "parts"}, "parts.json")
    hooks = [{"type": "StopAt", "kwargs": {"iteration": stop}}]
    stopped = write_config(config, {**changes, "name": "parts", "hooks": hooks}, "stopped.json")
    assert run("-c", whole, "--device", "cpu") == 0
    assert run("-c", stopped, "--device", "cpu") == STOPPED
    between = latest(tmp_path, "parts")
    per_epoch = between["iters_per_epoch"]
    assert between["iter"] % 2 == 0  # a window's gradients are in no checkpoint, so it is seen through
    assert stop <= between["epoch"] * per_epoch + between["iter"] < 2 * per_epoch
    assert run("-c", parts, "--device", "cpu", "--resume") == 0
    assert unlike(latest(tmp_path, "whole"), latest(tmp_path, "parts")) == []


class Killed(BaseException):
    """Nothing that a run does can catch it."""


def test_killed_between_a_checkpoint_and_its_validation_early_stop_counts_the_same(
    tiny_config, write_config, tmp_path, monkeypatch
):
    stop = {"type": "EarlyStop", "kwargs": {"patience": 2, "min_delta": 1.0}}  # stops after the third validation
    changes = {"trainer.kwargs.max_epochs": 9, "trainer.kwargs.test_after_train": False, "hooks": [stop]}
    changes["lr_scheduler"] = {"type": "plateau_lr", "kwargs": {"patience": 0, "threshold": 1.0}}
    whole = write_config(tiny_config, {**changes, "name": "whole"}, "whole.json")
    parts = write_config(tiny_config, {**changes, "name": "parts"}, "parts.json")
    assert run("-c", whole, "--device", "cpu") == 0

    def killed(self, trainer):
        if trainer.epoch == 1:
            raise Killed
        return validate(self, trainer)

    validate = Evaluate.run
    monkeypatch.setattr(Evaluate, "run", killed)
    with pytest.raises(Killed):
        run("-c", parts, "--device", "cpu")
    monkeypatch.setattr(Evaluate, "run", validate)
    assert latest(tmp_path, "parts")["owes_end_of_epoch"]
    for _ in range(2):  # the second time there is nothing left to do
        assert run("-c", parts, "--device", "cpu", "--resume") == 0
        assert latest(tmp_path, "whole")["epoch"] == latest(tmp_path, "parts")["epoch"] == 3
        assert unlike(latest(tmp_path, "whole"), latest(tmp_path, "parts")) == []
        assert validated(tmp_path, "whole") == validated(tmp_path, "parts") == [1, 2, 3]
    more = {"hooks.0.kwargs.patience": 3}
    assert run("-c", write_config(json.loads(parts.read_text()), more), "--device", "cpu", "--resume") == 0
    assert latest(tmp_path, "parts")["epoch"] == 4


def validated(tmp_path, name):
    """The epochs whose validation is in a run's curves."""
    lines = (tmp_path / "runs" / name / "metrics.jsonl").read_text().splitlines()
    return [line["epoch"] for line in map(json.loads, lines) if "val/top1" in line]


def test_verify_resume_proves_it_for_a_user(tiny_config, write_config, tmp_path):
    path = write_config(tiny_config, {"trainer.kwargs.max_epochs": 3, "dataloader.kwargs.batch_size": 4})
    command = [sys.executable, "main.py", "-c", str(path), "--device", "cpu", "--verify-resume", "5"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "of 5 and resumed, every bit is the same" in result.stderr
    assert not list((tmp_path / "runs").iterdir())  # it leaves nothing behind


def test_differences_find_a_single_bit():
    first = {"model": {"a": torch.zeros(3), "b": torch.tensor([float("nan")])}, "epoch": 1, "hooks": {"Ema": {}}}
    second = copy.deepcopy(first)
    assert list(differences(first, second)) == []
    second["model"]["a"][1] = 1e-30
    second["hooks"]["Other"] = {}
    assert sorted(differences(first, second)) == ["hooks.Other is only in one of them", "model.a: up to 1e-30 apart"]


def test_settings_that_are_changed_hold_after_a_resume_and_the_rate_keeps_its_place(
    tiny_config, write_config, tmp_path, capsys
):
    changes = {"trainer.kwargs.max_epochs": 4, "trainer.kwargs.test_after_train": False}
    hooks = [{"type": "StopAt", "kwargs": {"iteration": 6}}]  # two of four epochs, of three iterations each
    assert run("-c", write_config(tiny_config, {**changes, "hooks": hooks}), "--device", "cpu") == STOPPED
    before = latest(tmp_path, "tiny")
    assert before["scheduler"]["updates"] == 6
    rate = before["update"]["optimizer"]["param_groups"][0]["lr"]
    more = {"optimizer.kwargs.lr": 0.0003, "dataloader.kwargs.batch_size": 4}  # a tenth; six iterations an epoch
    hooks = [{"type": "StopAt", "kwargs": {"iteration": 13}}]
    again = write_config(tiny_config, {**changes, **more, "hooks": hooks})
    assert run("-c", again, "--device", "cpu", "--resume") == STOPPED
    after = latest(tmp_path, "tiny")
    assert (after["epoch"], after["iter"], after["scheduler"]["updates"]) == (2, 1, 13)
    group = after["update"]["optimizer"]["param_groups"][0]
    assert group["initial_lr"] == pytest.approx(0.0003) and 0.8 * rate / 10 < group["lr"] <= rate / 10
    said = (tmp_path / "runs" / "tiny" / "log.txt").read_text()
    assert "optimizer.kwargs.lr was 0.003, is 0.0003" in said + capsys.readouterr().err
    kept = json.loads((tmp_path / "runs" / "tiny" / "config-before-1.json").read_text())
    assert kept["optimizer"]["kwargs"]["lr"] == 0.003


def test_stopped_inside_an_epoch_by_another_number_of_processes_it_begins_that_epoch_anew_and_says_so(
    tiny_config, write_config, tmp_path, capsys
):
    """The pictures that two processes had seen by then are no beginning of the order in which one takes them."""
    changes = {"trainer.kwargs.max_epochs": 3, "trainer.kwargs.test_after_train": False}
    hooks = [{"type": "StopAt", "kwargs": {"iteration": 4}}]  # in the second of three epochs, of three iterations each
    assert run("-c", write_config(tiny_config, {**changes, "hooks": hooks}), "--device", "cpu") == STOPPED
    between = latest(tmp_path, "tiny")
    assert (between["epoch"], between["iter"]) == (1, 1)
    content = {key: value for key, value in between.items() if key not in ("format", "checksum")}
    checkpoint.save({**content, "world_size": 2}, tmp_path / "runs" / "tiny" / "checkpoints" / "latest.ckpt")
    assert run("-c", write_config(tiny_config, changes), "--device", "cpu", "--resume") == 0
    ended = latest(tmp_path, "tiny")
    assert (ended["epoch"], ended["iter"], ended["world_size"]) == (3, 0, 1)
    assert ended["scheduler"]["updates"] == 9  # the rate is that of a run of nine updates, though ten were made
    assert "epoch 2 starts from its beginning" in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "runs" / "tiny" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if any(name.startswith("val/") for name in row)] == [1, 2, 3]


def test_saving_every_so_many_iterations_ends_on_windows(tiny_config, write_config, tmp_path, monkeypatch):
    saved = []
    original = checkpoint.save

    def noted(content, path, previous=None):
        saved.append((path.name, content["epoch"], content["iter"]))
        original(content, path, previous)

    monkeypatch.setattr(checkpoint, "save", noted)
    changes = {"trainer.kwargs.max_epochs": 1, "trainer.kwargs.save_iters": 3, "trainer.kwargs.accumulate": 2,
               "trainer.kwargs.test_after_train": False, "dataloader.kwargs.batch_size": 3}  # fmt: skip
    assert run("-c", write_config(tiny_config, changes), "--device", "cpu") == 0
    assert [place for name, *place in saved if name == "latest.ckpt"][:2] == [[0, 4], [1, 0]]


def test_a_second_run_stays_out_of_the_folder_of_one_that_is_alive(
    tiny_config, write_config, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(run_folder, "ORPHANS_GONE", 0.3)
    path = write_config(tiny_config, {"trainer.kwargs.max_epochs": 1, "trainer.kwargs.test_after_train": False})
    assert run("-c", path, "--device", "cpu") == 0
    held = run_folder.lock(tmp_path / "runs" / "tiny")
    assert run("-c", path, "--device", "cpu", "--resume", "-o", "trainer.kwargs.max_epochs=2") == 2
    assert "another run (process" in capsys.readouterr().err
    held.close()
    assert run("-c", path, "--device", "cpu", "--resume", "-o", "trainer.kwargs.max_epochs=2") == 0


def test_resume_auto_goes_by_the_runs_own_name(tmp_path):
    for folder, name in (("steel", "steel"), ("steel-2", "steel-2"), ("steel-3", "steel"), ("steel[1]", "steel[1]")):
        (tmp_path / folder / "checkpoints").mkdir(parents=True)
        (tmp_path / folder / "config.json").write_text(json.dumps({"name": name}))
        (tmp_path / folder / "checkpoints" / "latest.ckpt").write_bytes(b"")
    found = {name: run_folder.newest_run(tmp_path, name).name for name in ("steel", "steel-2", "steel[1]")}
    assert found == {"steel": "steel-3", "steel-2": "steel-2", "steel[1]": "steel[1]"}


def test_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "x.ckpt"
    checkpoint.save({"model": {"w": torch.full((4000,), 0.5)}, "empty": torch.zeros(0), "name": "x"}, path)
    assert torch.equal(checkpoint.load(path)["model"]["w"], torch.full((4000,), 0.5))
    data = bytearray(path.read_bytes())
    place = data.find(b"\x00\x00\x00\x3f" * 100) + 200
    data[place] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="checksum"):
        checkpoint.load(path)


def test_what_was_written_wrongly_never_takes_the_old_ones_place(tmp_path, monkeypatch):
    path = tmp_path / "x.ckpt"
    checkpoint.save({"w": torch.ones(3)}, path)
    answers = iter((1, 2))  # what is read back is not what was written
    monkeypatch.setattr(checkpoint, "checksum", lambda content: next(answers))
    with pytest.raises(RunError, match="untouched"):
        checkpoint.save({"w": torch.zeros(3)}, path)
    monkeypatch.undo()
    assert torch.equal(checkpoint.load(path)["w"], torch.ones(3)) and len(list(tmp_path.iterdir())) == 1


def test_a_torn_checkpoint_is_named_and_the_one_before_it_taken(tiny_config, write_config, tmp_path, capsys):
    changes = {"trainer.kwargs.test_after_train": False}
    assert run("-c", write_config(tiny_config, {**changes, "name": "whole"}), "--device", "cpu") == 0
    hooks = [{"type": "StopAt", "kwargs": {"iteration": 5}}]
    path = write_config(tiny_config, {**changes, "hooks": hooks})
    assert run("-c", path, "--device", "cpu") == STOPPED
    torn = tmp_path / "runs" / "tiny" / "checkpoints" / "latest.ckpt"
    torn.write_bytes(torn.read_bytes()[:-5000])
    assert run("-c", write_config(tiny_config, changes), "--device", "cpu", "--resume") == 0
    assert "previous.ckpt, the one before it" in capsys.readouterr().err
    assert unlike(latest(tmp_path, "whole"), latest(tmp_path, "tiny")) == []


def test_a_torn_last_checkpoint_of_a_run_that_was_done_is_made_anew(tiny_config, write_config, tmp_path):
    path = write_config(tiny_config, {"trainer.kwargs.test_after_train": False})
    assert run("-c", path, "--device", "cpu") == 0
    whole = latest(tmp_path, "tiny")
    torn = tmp_path / "runs" / "tiny" / "checkpoints" / "latest.ckpt"
    torn.write_bytes(b"")
    assert run("-c", path, "--device", "cpu", "--resume") == 0
    assert unlike(whole, latest(tmp_path, "tiny")) == []


def test_a_resumed_run_says_which_data_changed(tiny_config, tiny_data, write_config, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    hooks = [{"type": "StopAt", "kwargs": {"iteration": 2}}]
    changes = {"trainer.kwargs.test_after_train": False, "dataloader.dataset.kwargs.data_dir": str(data)}
    assert run("-c", write_config(tiny_config, {**changes, "hooks": hooks}), "--device", "cpu") == STOPPED
    (data / "train" / "red" / "0.png").unlink()
    shutil.copy2(data / "train" / "red" / "1.png", data / "train" / "blue" / "99.png")
    assert run("-c", write_config(tiny_config, changes), "--device", "cpu", "--resume") == 0
    said = capsys.readouterr().err
    assert "the training data is not what it was" in said and "of 24 pictures 1 came, 1 went (now 24)" in said
