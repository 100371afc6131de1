"""Ways to train on several processes: what they change is memory and speed, not the result."""

import shutil

import pytest
import torch

import main
from dao.checkpoints import checkpoint
from dao.commands.verify_resume import COMPARED, differences

STOPPED = 143
QUIET = {"trainer.kwargs.test_after_train": False, "trainer.kwargs.log_interval": 1}
MODELS = {"resnet": {"model_name": "test_resnet"}, "vit": {"model_name": "test_vit", "drop_path_rate": 0.1}}


def run(config, *extra, processes=2):
    """Several processes are started by the test itself: what they say is then in its output."""
    return main.main(["-c", str(config), "--device", "cpu", "--devices", str(processes), *extra])


def latest(tmp_path, name):
    return checkpoint.load(tmp_path / "runs" / name / "checkpoints" / "latest.ckpt")


def far(first, second):
    """The largest difference between two states' weights."""
    assert first.keys() == second.keys()
    return max(float((value.double() - second[name].double()).abs().max()) for name, value in first.items())


@pytest.fixture
def sgd(tiny_config):
    """A step is as large as its gradient, so that rounding stays rounding."""
    tiny_config["optimizer"] = {"type": "sgd", "kwargs": {"lr": 0.01, "momentum": 0.9}}
    tiny_config["preprocess"]["size"] = [160, 160]  # what the tiny transformer takes
    return tiny_config


def test_a_static_graph_and_recomputed_stages_change_no_bit(sgd, write_config, tmp_path):
    changes = {**QUIET, "model.kwargs": MODELS["resnet"]}
    assert run(write_config(sgd, {**changes, "name": "plain"})) == 0
    more = {"trainer.kwargs.static_graph": True, "trainer.kwargs.grad_checkpointing": True}
    assert run(write_config(sgd, {**changes, **more, "name": "other"})) == 0
    first, second = latest(tmp_path, "plain"), latest(tmp_path, "other")
    assert list(differences({k: first[k] for k in COMPARED}, {k: second[k] for k in COMPARED})) == []


@pytest.mark.parametrize("model", MODELS)
def test_shares_train_as_whole_models_do_and_save_what_they_save(sgd, model, write_config, tmp_path):
    changes = {**QUIET, "trainer.kwargs.accumulate": 2, "trainer.kwargs.clip_norm": 1.0, "model.kwargs": MODELS[model],
               "trainer.kwargs.sync_bn": model == "resnet", "trainer.kwargs.grad_checkpointing": model == "vit"}  # fmt: skip
    for strategy in ("ddp", "fsdp"):
        path = write_config(sgd, {**changes, "name": strategy, "trainer.kwargs.strategy": strategy})
        assert run(path) == 0
    ddp, fsdp = latest(tmp_path, "ddp"), latest(tmp_path, "fsdp")
    assert far(ddp["model"], fsdp["model"]) < 1e-5
    assert fsdp["metrics"] == pytest.approx(ddp["metrics"], abs=1e-4)
    groups = [content["update"]["optimizer"]["param_groups"] for content in (ddp, fsdp)]
    assert groups[0] == groups[1]
    for number, state in ddp["update"]["optimizer"]["state"].items():
        mine = fsdp["update"]["optimizer"]["state"][number]["momentum_buffer"]
        assert type(mine) is torch.Tensor and mine.shape == state["momentum_buffer"].shape
    trainer = {"type": "Eval", "kwargs": {"ckpt": str(tmp_path / "runs" / "fsdp")}}
    assert run(write_config(sgd, {"trainer": trainer}), processes=1) == 0


def test_a_sharded_run_goes_on_as_if_never_stopped_and_by_other_means_as_well(sgd, write_config, tmp_path):
    sgd["optimizer"] = {"type": "adamw", "kwargs": {"lr": 0.001}}
    changes = {**QUIET, "model.kwargs": MODELS["vit"], "trainer.kwargs.strategy": "fsdp"}
    assert run(write_config(sgd, {**changes, "name": "whole"})) == 0
    hooks = [{"type": "StopAt", "kwargs": {"iteration": 3}}]
    assert run(write_config(sgd, {**changes, "name": "parts", "hooks": hooks})) == STOPPED
    assert latest(tmp_path, "parts")["iter"] == 1
    for name in ("by_ddp", "alone"):
        shutil.copytree(tmp_path / "runs" / "parts", tmp_path / "runs" / name)
    assert run(write_config(sgd, {**changes, "name": "parts"}), "--resume") == 0
    whole, parts = latest(tmp_path, "whole"), latest(tmp_path, "parts")
    assert list(differences({k: whole[k] for k in COMPARED}, {k: parts[k] for k in COMPARED})) == []
    ddp = write_config(sgd, {**changes, "trainer.kwargs.strategy": "ddp"})
    assert run(ddp, "--resume", str(tmp_path / "runs" / "by_ddp")) == 0
    assert far(whole["model"], latest(tmp_path, "by_ddp")["model"]) < 1e-4
    assert run(write_config(sgd, changes), "--resume", str(tmp_path / "runs" / "alone"), processes=1) == 0
    assert latest(tmp_path, "alone")["epoch"] == 2


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"trainer.kwargs.ema": True}, "trainer.kwargs.ema"),
        ({"trainer.kwargs.compile": True}, "trainer.kwargs.compile"),
        ({"trainer.kwargs.static_graph": True}, "trainer.kwargs.static_graph"),
        ({"trainer.kwargs.static_graph": True, "trainer.kwargs.accumulate": 2}, "does not go with accumulate"),
        ({"optimizer": {"type": "lamb", "kwargs": {"lr": 0.01}}}, "looks at whole tensors"),
    ],
)
def test_what_does_not_go_with_shares_is_refused(sgd, changes, word, write_config, tmp_path, capsys):
    path = write_config(sgd, {**changes, "trainer.kwargs.strategy": "fsdp"})
    assert run(path, processes=1) == 2
    assert word in capsys.readouterr().err and not (tmp_path / "runs").exists()
