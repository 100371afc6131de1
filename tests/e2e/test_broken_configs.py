"""What a user gets wrong ends in one readable message and exit code 2, before anything is started."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import main

NOTHING = object()

# changes to the tiny config -> what the message must say
BROKEN = {
    "wrong type": ({"trainer.kwargs.max_epochs": "ten"}, 'trainer.kwargs.max_epochs +expected int, got "ten"'),
    "misspelt key": ({"loss.kwargs": {"label_smoothin": 0.1}}, "loss.kwargs.label_smoothin +CrossEntropyLoss takes no"),
    "misspelt section": ({"optimiser": {}}, "optimiser +is not a section of a config. Nearest: optimizer"),
    "unknown component": (
        {"model.type": "TimClassifier"},
        "'TimClassifier' is not a cls_model. Nearest: TimmClassifier",
    ),
    "unknown task": ({"type": "clas"}, "'clas' is not a task. Nearest: cls"),
    "unknown timm model": ({"model.kwargs.model_name": "resnet81"}, "timm has no 'resnet81'. Nearest: "),
    "keyword one level too high": ({"model.freeze": ["conv1"]}, "model.freeze +belongs into kwargs"),
    "missing required keyword": ({"model.kwargs": {}}, "model.kwargs.model_name +.*needs 'model_name'"),
    "missing section": ({"dataloader": None}, "dataloader +the section is missing; TrainVal needs it"),
    "no dataset": ({"dataloader.dataset": None}, "dataloader.dataset +the section is missing"),
    "no dataset to judge by": (
        {"evaluator.dataloader.dataset": None},
        "evaluator.dataloader.dataset +the section is missing",
    ),
    "no loss": ({"loss": None}, "loss +the section is missing; training a cls model needs it"),
    "unlabelled training data": (
        {"dataloader.dataset": {"type": "ImageFiles", "kwargs": {"path": "notes"}}},
        "dataloader.dataset.type +ImageFiles has no labels to learn from",
    ),
    "a list for a type": ({"model.type": []}, r"model.type +expected the name of a cls_model, got \[\]"),
    "a list for a stage": ({"trainer.type": []}, r"trainer.type +expected the name of a trainer, got \[\]"),
    "a list for a task": ({"type": []}, r"type +expected str, got \[\]"),
    "negative seed": ({"trainer.kwargs.seed": -1}, "trainer.kwargs.seed +expected a number from 0 up, got -1"),
    "no clipping by 0": ({"trainer.kwargs.clip_norm": 0}, "trainer.kwargs.clip_norm +must be above 0, got 0"),
    "another size every 0 iterations": (
        {"hooks": [{"type": "MultiScale", "kwargs": {"interval": 0}}]},
        "hooks.0.kwargs.interval +expected a number from 1 up, got 0",
    ),
    "sizes from large to small": (
        {"hooks": [{"type": "MultiScale", "kwargs": {"low": 2.0}}]},
        "hooks.0.kwargs.low +is 2, above high, which is 1.25",
    ),
    "a patience of 0": (
        {"hooks": [{"type": "EarlyStop", "kwargs": {"patience": 0}}]},
        "hooks.0.kwargs.patience +expected a number from 1 up, got 0",
    ),
    "no regular expression": (
        {"model.kwargs.freeze": ["conv1", "layer("]},
        r"model.kwargs.freeze.1 +'layer\(' is not a regular expression: missing \)",
    ),
    "unknown weights of a known model": (
        {"model.kwargs.model_name": "resnet18.a1_in2k"},
        r"model.kwargs.model_name +timm has no weights 'a1_in2k' of resnet18. Nearest: resnet18.a1_in1k",
    ),
    "a negative number of pictures on the sheet": (
        {"trainer": {"type": "Demo", "kwargs": {"ckpt": "gone", "sheet": -1}}, "images": {"type": "ImageFiles"}},
        "trainer.kwargs.sheet +expected a number from 0 up, got -1",
    ),
    "input the model cannot take": (
        {"model.kwargs.model_name": "vit_tiny_patch16_224", "preprocess.size": [32, 48]},
        "preprocess.size +the model cannot take 32x48 pixels",
    ),
    "num_classes off": ({"model.kwargs.num_classes": 7}, "is 7, but the data has 3 classes: blue, green, red"),
    "no such folder": ({"dataloader.dataset.kwargs.data_dir": "/nowhere"}, "/nowhere"),
    "no such split": ({"dataloader.dataset.kwargs.split": "trane"}, "trane"),
    "unknown transform": (
        {"dataloader.dataset.transforms": [{"type": "HorizontlFlip"}]},
        "dataloader.dataset.transforms.0.type +'HorizontlFlip' is not a transform. Nearest: HorizontalFlip",
    ),
    "bad transform value": (
        {"dataloader.dataset.transforms": [{"type": "HorizontalFlip", "kwargs": {"p": 7}}]},
        "dataloader.dataset.transforms.0",
    ),
    "bad optimizer keyword": ({"optimizer.kwargs.momentun": 0.9}, "optimizer.kwargs.momentun"),
    "freeze hits nothing": ({"model.kwargs.freeze": ["layer9"]}, "no module is called 'layer9'"),
    "no weights file": ({"model.kwargs.checkpoint_path": "none.pth"}, "none.pth does not exist"),
    "pretrained twice": ({"model.kwargs.checkpoint_path": "w.pth", "model.kwargs.pretrained": True}, "not both"),
    "impossible number": (
        {"trainer.kwargs.max_epochs": 0},
        "trainer.kwargs.max_epochs +expected a number from 1 up, got 0",
    ),
    "impossible size": ({"preprocess.size": [0, 32]}, "preprocess.size +both sides"),
    "unknown best metric": ({"trainer.kwargs.best_metric": "top_1"}, "the evaluator reports no 'top_1'. Nearest: top1"),
    "resume from nothing": ({"trainer.kwargs.resume": "gone"}, "--resume gone: no checkpoint there"),
    "fine-tune from nothing": ({"trainer.kwargs.ckpt": "gone"}, "gone does not exist"),
    "eval of nothing": ({"trainer": {"type": "Eval", "kwargs": {"ckpt": "gone"}}}, "gone does not exist"),
    "a name that leaves the log folder": ({"name": "../out"}, "name +expected the name of one folder, .*got '../out'"),
    "a name of two folders": ({"name": "line3/steel"}, "name +expected the name of one folder"),
    "a name of Windows' folders": ({"name": "line3\\\\steel"}, "name +expected the name of one folder"),
    "an empty name": ({"name": ""}, "name +expected the name of one folder"),
    "the folder itself as a name": ({"name": ".."}, "name +expected the name of one folder"),
    "a hook's loss without a type": (
        {"hooks": [{"type": "SwitchLoss", "kwargs": {"epoch": 2, "loss": {}}}]},
        "hooks.0.kwargs.loss.type +expected the name of a loss",
    ),
    "a hook's loss misspelt": (
        {
            "hooks": [
                {"type": "SwitchLoss", "kwargs": {"epoch": 2, "loss": {"type": "FocalLoss", "kwargs": {"gama": 1}}}}
            ]
        },
        "hooks.0.kwargs.loss.kwargs.gama +FocalLoss takes no 'gama'",
    ),
    "unknown hook": (
        {"hooks": [{"type": "EarlyStopp"}]},
        "hooks.0.type +'EarlyStopp' is not a hook. Nearest: EarlyStop",
    ),
}


def run(capsys, *argv):
    code = main.main([str(a) for a in argv])
    return code, capsys.readouterr().err


@pytest.mark.parametrize("name", BROKEN)
def test_broken_config(name, tiny_config, write_config, tmp_path, capsys):
    changes, message = BROKEN[name]
    code, err = run(capsys, "-c", write_config(tiny_config, changes), "--device", "cpu")
    assert code == 2
    assert "Traceback" not in err
    assert re.search(message, err), err
    assert not list(tmp_path.glob("runs/**/*.ckpt"))


@pytest.mark.parametrize("name", BROKEN)
def test_check_says_it_as_well(name, tiny_config, write_config, tmp_path, capsys):
    """Whatever ends a run before its first iteration ends --check, which builds all that a run builds."""
    changes, message = BROKEN[name]
    if name == "unknown best metric" or "resume" in str(changes):
        pytest.skip("needs the run's folder")
    code, err = run(capsys, "-c", write_config(tiny_config, changes), "--device", "cpu", "--check")
    assert code == 2 and "Traceback" not in err
    assert re.search(message, err), err


def test_all_problems_come_at_once(tiny_config, write_config, capsys):
    changes = {"loss.kwargs": {"a": 1}, "model.type": "No", "trainer.kwargs.seed": "x", "modle": {}}
    code, err = run(capsys, "-c", write_config(tiny_config, changes))
    assert code == 2 and "4 problems; nothing was started." in err


def test_empty_folder(tiny_config, write_config, tmp_path, capsys):
    (tmp_path / "data" / "train" / "a").mkdir(parents=True)
    changes = {"dataloader.dataset.kwargs.data_dir": str(tmp_path / "data")}
    code, err = run(capsys, "-c", write_config(tiny_config, changes))
    assert code == 2 and str(tmp_path / "data") in err


def test_one_class_is_nothing_to_tell_apart(tiny_data, tiny_config, write_config, tmp_path, capsys):
    shutil.copytree(tiny_data / "train" / "red", tmp_path / "data" / "train" / "red")
    changes = {"dataloader.dataset.kwargs.data_dir": str(tmp_path / "data")}
    code, err = run(capsys, "-c", write_config(tiny_config, changes))
    assert code == 2 and "at least 2 classes to tell apart; the training data has: red" in err


def test_all_pictures_unreadable(tiny_data, tiny_config, write_config, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    for path in data.glob("train/*/*.png"):
        path.write_bytes(path.read_bytes()[:60])
    changes = {"dataloader.dataset.kwargs.data_dir": str(data)}
    code, err = run(capsys, "-c", write_config(tiny_config, changes))
    assert code == 2 and "cannot be read" in err and ".png" in err


def test_more_bad_pictures_than_allowed(tiny_data, tiny_config, write_config, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    (data / "train" / "red" / "3.png").write_bytes(b"not a picture")
    changes = {"dataloader.dataset.kwargs.data_dir": str(data)}
    code, err = run(capsys, "-c", write_config(tiny_config, changes))
    assert code == 2 and "max_bad_fraction" in err and "3.png" in err
    code, err = run(capsys, "-c", write_config(tiny_config, {**changes, "trainer.kwargs.max_bad_fraction": 0.2}))
    assert code == 0


def test_weights_of_another_model(tiny_config, write_config, tmp_path, capsys):
    torch.save({f"w{i}": torch.zeros(i + 1) for i in range(9)}, tmp_path / "other.pth")
    changes = {"model.kwargs.checkpoint_path": str(tmp_path / "other.pth")}
    code, err = run(capsys, "-c", write_config(tiny_config, changes))
    assert code == 2 and "is of another model" in err


def test_cyclic_base(tmp_path, capsys):
    (tmp_path / "a.json").write_text(json.dumps({"_base_": "a.json"}))
    code, err = run(capsys, "-c", tmp_path / "a.json")
    assert code == 2 and "inherits from itself: a.json -> a.json" in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--devices", "zero"], "--devices"),
        (["--device", "cuda"], "no usable GPU"),
        (["--num_machines", "2"], "--dist-url"),
        (["--num_machines", "2", "--machine_rank", "5", "--dist-url", "tcp://h:1"], "--machine_rank"),
        (["-m", "none.json"], "none.json does not exist"),
        (["-o", "trainer.kwargs.max_epochs"], "expected a.b.c=value"),
    ],
)
def test_broken_command_lines(argv, message, tiny_config, write_config, capsys):
    if "cuda" in argv and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    code, err = run(capsys, "-c", write_config(tiny_config), *argv)
    assert code == 2 and message in err


@pytest.mark.parametrize("argv", [["-c", "none.json"], ["--schema", "-m", "none.json"]])
def test_a_message_is_shown_once(argv):
    """In a process of its own: here the log has been set up by other tests."""
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "main.py", *argv], cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("config error") == 1 and result.stderr.count("nothing was started") == 1


def test_nothing_to_do(capsys):
    code, err = run(capsys)
    assert code == 2 and "-c FILE" in err
