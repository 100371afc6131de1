"""Checkpoints written by a thread: what was asked for is what is written, in order, and errors come back."""

import os
import threading
from collections import OrderedDict

import pytest
import torch

from dao.checkpoints import checkpoint
from dao.checkpoints.saver import Saver, _before_fork, snapshot
from dao.errors import RunError


@pytest.fixture
def gate(monkeypatch):
    """Writing waits until the gate is opened; what was written is listed."""
    opened, written, write = threading.Event(), [], checkpoint.save

    def slowly(content, path, previous=None):
        opened.wait(30)
        write(content, path, previous)
        written.append(path.name)

    monkeypatch.setattr(checkpoint, "save", slowly)
    opened.written = written
    yield opened
    opened.set()


def test_training_goes_on_while_the_state_of_the_moment_is_written(tmp_path, gate):
    saver, weights, best = Saver(), torch.ones(3), {"value": 1.0}
    saver.save({"model": {"w": weights}, "best": best}, tmp_path / "x.ckpt")
    weights.fill_(7)
    best["value"] = 2.0
    saver.check()
    assert not (tmp_path / "x.ckpt").exists()
    gate.set()
    saver.wait()
    content = checkpoint.load(tmp_path / "x.ckpt")
    assert torch.equal(content["model"]["w"], torch.ones(3)) and content["best"] == {"value": 1.0}


def test_a_second_save_waits_for_the_first_and_the_one_before_is_kept(tmp_path, gate):
    saver, after = Saver(), []
    previous = tmp_path / "previous.ckpt"
    saver.save({"n": 1}, tmp_path / "latest.ckpt", previous, then=lambda: after.append(list(gate.written)))
    threading.Timer(0.2, gate.set).start()
    saver.save({"n": 2}, tmp_path / "latest.ckpt", previous)
    assert gate.written[0] == "latest.ckpt"  # or the second one would not have begun
    saver.save({"n": 3}, tmp_path / "best.ckpt")
    saver.wait()
    assert gate.written == ["latest.ckpt", "latest.ckpt", "best.ckpt"] and after == [["latest.ckpt"]]
    found = {name: checkpoint.load(tmp_path / f"{name}.ckpt")["n"] for name in ("previous", "latest", "best")}
    assert found == {"previous": 1, "latest": 2, "best": 3}


@pytest.mark.parametrize("ask", ["save", "check", "wait", "end"])
def test_what_goes_wrong_is_raised_on_the_training_thread_once(tmp_path, monkeypatch, ask):
    saver = Saver()

    def full(*_):
        raise RunError("x.ckpt could not be written: no space left")

    monkeypatch.setattr(checkpoint, "save", full)
    saver.save({"n": 1}, tmp_path / "x.ckpt")
    saver._thread.join()
    arguments = {"save": ({"n": 2}, tmp_path / "x.ckpt"), "end": (False,)}.get(ask, ())
    with pytest.raises(RunError, match="no space left"):
        getattr(saver, ask)(*arguments)
    saver.wait()


def test_after_another_failure_it_is_only_logged(tmp_path, monkeypatch):
    saver = Saver()
    monkeypatch.setattr(checkpoint, "save", lambda *_: 1 / 0)
    saver.save({"n": 1}, tmp_path / "x.ckpt")
    saver.end(failed=True)
    saver.check()


def test_a_fork_waits_until_the_file_is_written(tmp_path, gate):
    saver = Saver()
    saver.save({"n": 1}, tmp_path / "x.ckpt")
    threading.Timer(0.2, gate.set).start()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if (tmp_path / "x.ckpt").is_file() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_snapshot_has_memory_of_its_own_and_keeps_what_is_shared_and_versions():
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3)).to(
        memory_format=torch.channels_last
    )
    state = module.state_dict()
    tied = torch.arange(4.0)
    copied = snapshot({"model": state, "tied": [tied, tied.view(4), tied[1:]], "none": None, "empty": torch.zeros(0)})
    assert isinstance(copied["model"], OrderedDict) and copied["model"]._metadata["1"] == {"version": 2}
    for name, value in state.items():
        assert torch.equal(copied["model"][name], value) and copied["model"][name].stride() == value.stride()
        assert copied["model"][name].data_ptr() != value.data_ptr()
    first, second, third = copied["tied"]
    assert first is second and torch.equal(third, tied[1:]) and first.data_ptr() != tied.data_ptr()


def test_a_fork_waits_for_the_write_even_when_a_signal_handler_raises(monkeypatch):
    """torch's handler raises in the main thread, wherever it is, when a loader process died."""
    saver, joins = Saver(), []
    started, done = threading.Event(), threading.Event()

    class Thread(threading.Thread):
        def join(self, timeout=None):
            joins.append(done.is_set())
            if len(joins) == 1:
                raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
            done.set()
            super().join(timeout)

    saver._thread = Thread(target=lambda: (started.set(), done.wait(10)))
    saver._thread.start()
    started.wait(10)
    _before_fork()
    assert saver._thread is None and len(joins) == 2


@pytest.mark.parametrize("part", ["model", "ema"])
@pytest.mark.parametrize(("name", "value"), [("w", float("nan")), ("w", float("inf")), ("mean", float("nan"))])
def test_weights_that_are_no_numbers_are_not_saved_and_the_checkpoint_before_them_is_kept(tmp_path, part, name, value):
    """One process of several sees a loss of NaN; the others share its gradient, and save before they see one."""
    saver, path, previous = Saver(), tmp_path / "latest.ckpt", tmp_path / "previous.ckpt"
    sound = {
        "w": torch.ones(5),
        "mean": torch.zeros(3),
        "mask": torch.tensor([float("-inf"), 0.0]),
        "n": torch.ones(2).long(),
    }
    saver.save({"model": sound, "ema": None, "epoch": 1}, path, parameters={"w"})
    spoilt = {**sound, name: torch.cat([sound[name][1:], torch.tensor([value])])}
    saver.save({"model": sound, "ema": sound, part: spoilt, "epoch": 2}, path, previous, parameters={"w"})
    with pytest.raises(RunError, match=rf"weights of {name} are not finite.*not saved"):
        saver.wait()
    assert checkpoint.load(path)["epoch"] == 1 and not previous.exists()
