"""The weights as safetensors: read by the library itself, by the Predictor, as a checkpoint and as first weights."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import main
from dao.checkpoints import checkpoint
from dao.errors import CheckpointError
from dao.models.classification.timm_classifier import timm_classifier
from dao.predictor import Predictor


def run(*argv):
    return main.main([str(a) for a in argv])


@pytest.fixture
def exported(tiny_config, write_config, tmp_path):
    """A run with an average of its weights, and the file made of it."""
    changes = {"trainer.kwargs.max_epochs": 1, "trainer.kwargs.ema": True, "trainer.kwargs.test_after_train": False}
    assert run("-c", write_config(tiny_config, changes), "--device", "cpu") == 0
    trainer = {"type": "Export", "kwargs": {"ckpt": str(tmp_path / "runs" / "tiny"), "atol": 0.0}}
    path = write_config(tiny_config, {"trainer": trainer, "export": {"type": "SafetensorsExporter"}}, "export.json")
    assert run("-c", path, "--device", "cpu") == 0
    return next((tmp_path / "runs" / "tiny" / "export").glob("**/*.safetensors"))


def test_it_holds_the_average_and_the_card_and_answers_as_the_checkpoint_does(exported, tmp_path):
    content = checkpoint.load(tmp_path / "runs" / "tiny" / "checkpoints" / "best.ckpt")
    weights = load_file(exported)
    assert weights.keys() == content["ema"].keys()
    assert all(torch.equal(weights[name], value) for name, value in content["ema"].items())
    assert any(not torch.equal(weights[name], value) for name, value in content["model"].items())
    with safe_open(exported, "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["aicore"])["classes"] == ["blue", "green", "red"]
    assert "data_dir" not in json.dumps(metadata)  # where the pictures lay is nobody's business
    picture = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    own, theirs = Predictor(tmp_path / "runs" / "tiny", "cpu"), Predictor(exported, "cpu")
    assert np.array_equal(own(picture).scores, theirs(picture).scores) and own.card == theirs.card


def test_it_is_taken_wherever_weights_are(exported, tiny_config, write_config, tmp_path, capsys):
    evaluate = {"type": "Eval", "kwargs": {"ckpt": str(exported)}}
    assert run("-c", write_config(tiny_config, {"trainer": evaluate}), "--device", "cpu") == 0
    model = timm_classifier("test_resnet", num_classes=3, checkpoint_path=str(exported))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in load_file(exported).items())
    tune = {"name": "tuned", "trainer.kwargs.ckpt": str(exported), "trainer.kwargs.max_epochs": 1}
    assert run("-c", write_config(tiny_config, tune), "--device", "cpu") == 0
    capsys.readouterr()
    assert run("-c", write_config(tiny_config), "--device", "cpu", "--resume", exported) == 2
    assert "trainer.kwargs.ckpt" in capsys.readouterr().err


def test_a_flipped_bit_is_found_and_a_foreign_file_is_no_checkpoint(exported, tmp_path):
    data = bytearray(exported.read_bytes())
    data[-7] ^= 1
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum"):
        checkpoint.load(damaged)
    save_file({"w": torch.ones(2)}, tmp_path / "foreign.safetensors")
    assert checkpoint.load_weights(tmp_path / "foreign.safetensors")["w"].sum() == 2
    with pytest.raises(CheckpointError, match="not a checkpoint of AICore"):
        checkpoint.load(tmp_path / "foreign.safetensors")
