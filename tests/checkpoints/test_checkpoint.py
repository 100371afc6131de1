"""Checkpoints: whole or not at all, data and never code, other makers' names."""

import pickle

import pytest
import torch
from torch import nn

from dao.checkpoints import checkpoint
from dao.errors import CheckpointError, RunError


def test_round_trip_and_no_temporary_left(tmp_path):
    path = tmp_path / "a" / "x.ckpt"
    checkpoint.save({"model": {"w": torch.ones(2)}, "epoch": 3}, path)
    content = checkpoint.load(path)
    assert content["epoch"] == 3 and content["model"]["w"].tolist() == [1, 1]
    assert [p.name for p in path.parent.iterdir()] == ["x.ckpt"]


def test_a_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "x.ckpt"
    checkpoint.save({"epoch": 1}, path)

    def half(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(RunError, match="No space left on device.*The one written before it is untouched"):
        checkpoint.save({"epoch": 2}, path)
    assert checkpoint.load(path)["epoch"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.ckpt"]


class Evil:
    def __reduce__(self):
        return (print, ("this ran",))


def test_code_in_a_checkpoint_is_refused(tmp_path, capsys):
    path = tmp_path / "evil.ckpt"
    torch.save({"format": 1, "x": Evil()}, path, pickle_module=pickle)
    with pytest.raises(CheckpointError, match="could run code, which a checkpoint is never let do"):
        checkpoint.load(path)
    assert "this ran" not in capsys.readouterr().out


def torn(tmp_path):
    path = tmp_path / "torn.ckpt"
    torch.save({"format": 1, "w": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    return path


def empty(tmp_path):
    path = tmp_path / "empty.ckpt"
    path.write_bytes(b"")
    return path


def text(tmp_path):
    path = tmp_path / "text.ckpt"
    path.write_text("hello")
    return path


def foreign(tmp_path):
    path = tmp_path / "foreign.pth"
    torch.save({"w": torch.zeros(1)}, path)
    return path


def newer(tmp_path):
    path = tmp_path / "newer.ckpt"
    torch.save({"format": 99}, path)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (torn, "torn or not a checkpoint"),
        (empty, "torn or not a checkpoint"),
        (text, "not loaded|torn"),
        (foreign, "not a checkpoint of AICore.*checkpoint_path"),
        (newer, "format 99"),
        (lambda folder: folder / "none.ckpt", "does not exist"),
    ],
)
def test_unusable_files_say_why(tmp_path, make, message):
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(make(tmp_path))


def test_find_prefers_best_then_latest(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    checkpoint.save({}, folder / "latest.ckpt")
    assert checkpoint.find(tmp_path / "run").name == "latest.ckpt"
    checkpoint.save({}, folder / "best.ckpt")
    assert checkpoint.find(tmp_path / "run").name == "best.ckpt"
    assert checkpoint.find(tmp_path / "run", "latest").name == "latest.ckpt"
    with pytest.raises(CheckpointError, match="is it a run folder"):
        checkpoint.find(tmp_path)


def net(classes=3):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes))


def test_fit_by_name_reports_what_did_not(tmp_path):
    source, model = net(5), net(3)
    weights = {f"module.{k}": v for k, v in source.state_dict().items()} | {"module.extra": torch.zeros(1)}
    torch.save({"state_dict": weights}, tmp_path / "w.pth")
    report = checkpoint.fit(model, checkpoint.load_weights(tmp_path / "w.pth"))
    assert report.mismatched == ["3.weight", "3.bias"] and report.unexpected == ["extra"] and not report.by_order
    torch.testing.assert_close(model[0].weight, source[0].weight)
    assert report.render().splitlines() == [
        "6 of the model's 8 tensors were loaded",
        "  2 of the model have another shape in the file, and start as a new model's do: 3.weight, 3.bias",
        "  1 of the file have no place in this model, and are left out: extra",
    ]
    alone = checkpoint.fit(net(3), {"0.weight": weights["module.0.weight"], "0.bias": weights["module.0.bias"]})
    assert alone.render().splitlines()[1] == (
        "  6 of the model are not in the file, and start as a new model's do: "
        "1.weight, 1.bias, 1.running_mean, 1.running_var, 3.weight, 3.bias"
    )


def test_fit_by_order_when_names_differ():
    source, model = net(5), net(3)
    renamed = {f"other.layer{i}": v for i, (k, v) in enumerate(source.state_dict().items()) if "num_b" not in k}
    report = checkpoint.fit(model, renamed)
    assert report.by_order and len(report.loaded) == 6
    torch.testing.assert_close(model[1].running_var, source[1].running_var)


def test_fit_by_order_refuses_another_network():
    other = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))
    assert checkpoint.fit(net(), {f"x.{k}": v for k, v in other.state_dict().items()}).loaded == []
