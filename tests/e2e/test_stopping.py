"""Stopped from outside in every stage: a message, 128 + the signal's number, and nothing half done."""

import json
import os
import signal

import pytest

import main
from dao.checkpoints import checkpoint
from dao.dataloaders.datasets.base import ImageDataset
from dao.files import run_folder


def run(*argv):
    return main.main([str(a) for a in argv])


@pytest.fixture(autouse=True)
def own_handlers():
    """The handlers that stood before are put back."""
    from dao.processes import signals

    before = {number: signal.getsignal(number) for number in signals.STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def trained(tiny_config, write_config, tmp_path):
    changes = {"trainer.kwargs.max_epochs": 1, "trainer.kwargs.test_after_train": False}
    assert run("-c", write_config(tiny_config, changes), "--device", "cpu") == 0
    return tmp_path / "runs" / "tiny"


def strike(monkeypatch, number, after):
    """The signal arrives while the picture after so many is read."""
    read, seen = ImageDataset.read, []

    def struck(self, index, *args, **kwargs):
        seen.append(index)
        if len(seen) == after + 1:
            os.kill(os.getpid(), number)
        return read(self, index, *args, **kwargs)

    monkeypatch.setattr(ImageDataset, "read", struck)


def stage_config(tmp_path, trained, tiny_data, stage):
    config = {"trainer": {"type": stage, "kwargs": {"ckpt": str(trained)}}}
    if stage == "Demo":
        config["images"] = {"type": "ImageFiles", "kwargs": {"path": str(tiny_data / "val"), "recursive": True}}
    if stage == "Export":
        config["export"] = {"type": "OnnxExporter"}
    path = tmp_path / f"{stage}.json"
    path.write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("stage", "folder", "words"),
    [
        ("Eval", "eval/val", "no report was written"),
        ("Demo", "demo/pictures", "2 of 12 pictures drawn; results.json and the contact sheet were not written"),
        ("Export", "export/model", "nothing was exported: what was not yet proven is removed"),
    ],
)
def test_a_stopped_stage_says_what_it_did_not_write(
    stage, folder, words, trained, tiny_data, tmp_path, monkeypatch, capsys
):
    strike(monkeypatch, signal.SIGTERM, after=1)
    assert run("-c", stage_config(tmp_path, trained, tiny_data, stage), "--device", "cpu") == 143
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
    left = {path.name for path in (trained / folder).iterdir()}
    assert not left & {"results.json", "metrics.json", "parity.json", "contact_sheet.png"}


def test_a_stopped_check_says_that_nothing_was_done(tiny_config, write_config, tmp_path, monkeypatch, capsys):
    from dao.dataloaders import check

    look_at = check._look_at
    monkeypatch.setattr(check, "_look_at", lambda *which: os.kill(os.getpid(), signal.SIGTERM) or look_at(*which))
    assert run("-c", write_config(tiny_config), "--device", "cpu", "--check") == 143
    said = capsys.readouterr().err
    assert "SIGTERM received: stopped" in said and "Traceback" not in said
    assert not (tmp_path / "runs").exists()


def test_a_broken_connection_to_the_terminal_saves_and_the_run_goes_on(
    tiny_config, write_config, tmp_path, monkeypatch, capsys
):
    """SIGHUP is what a closed ssh leaves; trained to the end it must be the run that was never stopped."""
    changes = {"trainer.kwargs.max_epochs": 2, "trainer.kwargs.test_after_train": False}
    assert run("-c", write_config(tiny_config, {**changes, "name": "whole"}), "--device", "cpu") == 0
    with monkeypatch.context() as patch:
        strike(patch, signal.SIGHUP, after=10)
        path = write_config(tiny_config, changes)
        assert run("-c", path, "--device", "cpu") == 128 + signal.SIGHUP
    assert "SIGHUP received: leaving after this iteration" in capsys.readouterr().err
    assert run("-c", path, "--device", "cpu", "--resume") == 0
    both = [checkpoint.load(tmp_path / "runs" / name / "checkpoints" / "latest.ckpt") for name in ("whole", "tiny")]
    assert checkpoint.checksum(both[0]["model"]) == checkpoint.checksum(both[1]["model"])


def test_resume_holds_the_lock_before_it_reads(trained, tiny_config, write_config, monkeypatch, capsys):
    """Read first, a checkpoint could be replaced by the run that still writes there, and that epoch trained again."""
    order = []
    lock, load = run_folder.lock, checkpoint.load
    monkeypatch.setattr(run_folder, "lock", lambda folder: order.append("lock") or lock(folder))
    monkeypatch.setattr(checkpoint, "load", lambda *args: order.append("read") or load(*args))
    changes = {"trainer.kwargs.max_epochs": 1, "trainer.kwargs.test_after_train": False}
    assert run("-c", write_config(tiny_config, changes), "--device", "cpu", "--resume") == 0
    assert order[:2] == ["lock", "read"] and order.count("lock") == 1


def test_a_resume_under_other_versions_says_so(trained, tiny_config, write_config, monkeypatch, capsys):
    now = dict(run_folder.package_versions())
    monkeypatch.setattr(run_folder, "package_versions", lambda: {**now, "torch": "99.0"})
    changes = {"trainer.kwargs.max_epochs": 2, "trainer.kwargs.test_after_train": False}
    assert run("-c", write_config(tiny_config, changes), "--device", "cpu", "--resume") == 0
    assert f"written under other versions: torch {now['torch']} -> 99.0" in capsys.readouterr().err
