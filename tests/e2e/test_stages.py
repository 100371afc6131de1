"""The four stages through main.py, as a user runs them, and what they leave on disk."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import main
from dao.checkpoints import checkpoint
from dao.predictor import Predictor

ROOT = Path(__file__).parents[2]


def run(*argv):
    return main.main([str(a) for a in argv])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, request):
    """One trained run that the tests of this file share: (run folder, config)."""
    tiny_data = request.getfixturevalue("tiny_data")
    folder = tmp_path_factory.mktemp("trained")
    config = json.loads(json.dumps(CONFIG).replace("DATA", str(tiny_data)).replace("RUNS", str(folder / "runs")))
    (folder / "c.json").write_text(json.dumps(config))
    assert run("-c", folder / "c.json", "--device", "cpu", "--ema") == 0
    return folder / "runs" / "tiny", config


LOADER = {"type": "ClsDataloader", "kwargs": {"batch_size": 8, "num_workers": 0}}
CONFIG = {
    "name": "tiny",
    "type": "cls",
    "trainer": {"type": "TrainVal", "kwargs": {"log_dir": "RUNS", "max_epochs": 8, "no_aug_epochs": 1, "save_interval": 2, "keep": 2}},
    "preprocess": {"size": [32, 32]},
    "model": {"type": "TimmClassifier", "kwargs": {"model_name": "test_resnet"}},
    "loss": [{"type": "CrossEntropyLoss", "name": "ce"}, {"type": "FocalLoss", "weight": 0.5}],
    "optimizer": {"type": "adamw", "kwargs": {"lr": 0.005}},
    "dataloader": {**LOADER, "dataset": {"type": "FolderDataset", "kwargs": {"data_dir": "DATA", "split": "train"}, "transforms": [{"type": "HorizontalFlip", "kwargs": {"p": 0.5}}]}},
    "evaluator": {"type": "ClsEvaluator", "dataloader": {**LOADER, "dataset": {"type": "FolderDataset", "kwargs": {"data_dir": "DATA", "split": "val"}}}},
    "hooks": [{"type": "Ema", "kwargs": {"decay": 0.5, "warmup": 0}}],
}  # fmt: skip


def test_training_learns_and_leaves_a_whole_run_folder(trained):
    folder, config = trained
    names = {p.name for p in folder.iterdir()}
    assert {
        "config.json",
        "environment.json",
        "log.txt",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "eval",
    } <= names
    kept = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert kept == ["best.ckpt", "epoch_6.ckpt", "epoch_8.ckpt", "latest.ckpt", "previous.ckpt"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if "train/loss" in line]
    assert train[-1]["train/loss"] == pytest.approx(train[-1]["train/ce"] + 0.5 * train[-1]["train/focal"], rel=1e-4)
    assert max(line["val/top1"] for line in lines if "val/top1" in line) >= 0.9
    assert json.loads((folder / "config.json").read_text())["trainer"]["kwargs"]["ema"] is True


def test_saved_config_runs_again_by_itself_in_a_folder_beside(trained):
    folder, _ = trained
    assert run("-c", folder / "config.json", "-o", "trainer.kwargs.max_epochs=1") == 0
    assert (folder.parent / "tiny-2" / "checkpoints" / "latest.ckpt").is_file()


def test_a_run_knows_its_pictures_and_an_evaluation_on_them_says_so(evaluated, trained, tiny_data, tmp_path, capsys):
    folder, _ = trained
    data = json.loads((folder / "environment.json").read_text())["data"]
    assert [data[name]["pictures"] for name in ("training", "validation")] == [24, 12]
    assert checkpoint.load(folder / "checkpoints" / "best.ckpt")["pictures"].shape == (24,)
    shutil.copytree(tiny_data / "train", tmp_path / "elsewhere" / "val")
    place = f"evaluator.dataloader.dataset.kwargs.data_dir={tmp_path / 'elsewhere'}"
    (tmp_path / "eval.json").write_text(json.dumps({"trainer": {"type": "Eval", "kwargs": {"ckpt": str(folder)}}}))
    assert run("-c", tmp_path / "eval.json", "-o", place) == 0
    assert "24 of the 24 pictures trained this model, by content" in capsys.readouterr().err


@pytest.fixture(scope="module")
def evaluated(trained):
    folder, _ = trained
    path = folder.parent / "eval.json"
    path.write_text(json.dumps({"trainer": {"type": "Eval", "kwargs": {"ckpt": str(folder)}}}))
    assert run("-c", path) == 0
    return folder / "eval" / "val"


def test_eval_from_the_checkpoint_alone(evaluated, trained):
    names = {p.name for p in evaluated.iterdir()}
    assert {"metrics.json", "per_class.csv", "confusion_matrix.csv", "confusion_matrix.png", "predictions.csv"} <= names
    predictions = (evaluated / "predictions.csv").read_text().splitlines()
    assert len(predictions) == 1 + 12
    best = checkpoint.load(trained[0] / "checkpoints" / "best.ckpt")
    report = json.dumps(json.loads((evaluated / "metrics.json").read_text()))
    assert "top1" in report and best["best"]["value"] >= 0.9


def test_demo_from_checkpoint_and_exported_file_gives_the_same_answer(trained, tiny_data, tmp_path):
    folder, _ = trained
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i, source in enumerate(sorted(tiny_data.glob("val/*/0.png"))):
        (pictures / f"{i}.png").write_bytes(source.read_bytes())
    (pictures / "broken.png").write_bytes(b"no picture")
    (tmp_path / "export.json").write_text(
        json.dumps(
            {
                "trainer": {"type": "Export", "kwargs": {"ckpt": str(folder), "parity_images": 5}},
                "export": [
                    {"type": "OnnxExporter"},
                    {"type": "TorchExporter", "kwargs": {"layout": "nchw"}},
                    {"type": "OnnxExporter", "kwargs": {"dynamic": False, "image_size": [40, 48], "batch_size": 2}},
                ],
            }
        )
    )
    assert run("-c", tmp_path / "export.json") == 0
    exported = folder / "export" / "model"
    parity = json.loads((exported / "parity.json").read_text())
    assert set(parity["files"]) == {"tiny.onnx", "tiny.pt2", "tiny-3.onnx"}
    assert all(f["passed"] and f["pictures"] == 5 and f["max_abs"] < 1e-4 for f in parity["files"].values())

    answers = []
    for number, source in enumerate((folder, exported / "tiny.onnx", exported / "tiny.pt2")):
        config = {
            "trainer": {"type": "Demo", "kwargs": {"ckpt": str(source), "trust": source.suffix == ".pt2"}},
            "images": {"type": "ImageFiles", "kwargs": {"path": str(pictures)}},
        }
        (tmp_path / "demo.json").write_text(json.dumps(config))
        assert run("-c", tmp_path / "demo.json") == 0
        out = folder / "demo" / ("pictures" if number == 0 else f"pictures-{number + 1}")
        results = json.loads((out / "results.json").read_text())
        assert [Path(u["path"]).name for u in results["unreadable"]] == ["broken.png"]
        assert (out / "contact_sheet.png").is_file() and len(list(out.glob("000*.png"))) == 3
        answers.append([(r["label"], round(r["score"], 3)) for r in results["results"]])
    assert answers[0] == answers[1] == answers[2]
    assert [label for label, _ in answers[0]] == ["blue", "green", "red"]


def test_predictor_takes_files_and_arrays(trained, tiny_data):
    predictor = Predictor(trained[0])
    path = tiny_data / "val" / "red" / "1.png"
    rgb = cv2.imread(str(path))[..., ::-1]
    first, second = predictor(path), predictor(np.ascontiguousarray(rgb))
    assert predictor.classes[first.label] == "red" and first.original_hw == (40, 48)
    np.testing.assert_allclose(first.scores, second.scores)


def test_a_wrong_export_is_a_failure(trained, tmp_path, capsys):
    config = {
        "trainer": {"type": "Export", "kwargs": {"ckpt": str(trained[0]), "parity_images": 2, "atol": 0.0}},
        "export": {"type": "OnnxExporter"},
        "model": {"kwargs": {}},
    }
    (tmp_path / "export.json").write_text(json.dumps(config))
    from dao.predictor import OnnxBackend

    original = OnnxBackend.run
    try:
        OnnxBackend.run = lambda self, images: {k: v[:, ::-1] for k, v in original(self, images).items()}
        code = run("-c", tmp_path / "export.json")
    finally:
        OnnxBackend.run = original
    assert code == 1 and "does not answer as the checkpoint does" in capsys.readouterr().err
    (made,) = trained[0].glob("export/*/*.failed")  # which Demo does not take for an exported file
    assert made.name == "tiny.onnx.failed" and not (made.parent / "tiny.onnx").exists()
    assert not list(made.parent.glob(".*"))


def test_resume_of_a_finished_run_and_further_epochs_needs_its_folder_alone(trained):
    folder, _ = trained
    before = checkpoint.load(folder / "checkpoints" / "latest.ckpt")
    assert run("--resume", folder, "-o", "trainer.kwargs.max_epochs=9") == 0
    after = checkpoint.load(folder / "checkpoints" / "latest.ckpt")
    assert (before["epoch"], after["epoch"]) == (8, 9)


def test_fine_tune_takes_what_fits(trained, tmp_path, tiny_config, write_config):
    changes = {"trainer.kwargs.ckpt": str(trained[0]), "trainer.kwargs.max_epochs": 1}
    assert run("-c", write_config(tiny_config, changes)) == 0
    log = (tmp_path / "runs" / "tiny" / "log.txt").read_text()
    assert "checkpoints" in log


def test_stopped_and_resumed_equals_uninterrupted(tiny_config, write_config, tmp_path):
    """Bit for bit on a CPU: weights after 4 epochs, one run stopped inside the third."""
    changes = {"trainer.kwargs.max_epochs": 4, "model.kwargs.drop_rate": 0.3}
    whole = write_config(tiny_config, {**changes, "name": "whole"}, "whole.json")
    parts = write_config(tiny_config, {**changes, "name": "parts"}, "parts.json")
    assert run("-c", whole) == 0
    stop_in_third_epoch = tmp_path / "stop.py"
    stop_in_third_epoch.write_text(STOPPER)
    (tmp_path / "extra.json").write_text(json.dumps([str(stop_in_third_epoch)]))
    hooked = write_config(
        {**tiny_config, "hooks": [{"type": "StopInThirdEpoch"}]}, {**changes, "name": "parts"}, "h.json"
    )
    assert run("-c", hooked, "-m", tmp_path / "extra.json") == 128 + signal.SIGTERM
    stopped = checkpoint.load(tmp_path / "runs" / "parts" / "checkpoints" / "latest.ckpt")
    assert (stopped["epoch"], stopped["iter"]) == (2, 2)
    assert run("-c", parts, "--resume") == 0
    a = checkpoint.load(tmp_path / "runs" / "whole" / "checkpoints" / "latest.ckpt")
    b = checkpoint.load(tmp_path / "runs" / "parts" / "checkpoints" / "latest.ckpt")
    assert a["epoch"] == b["epoch"] == 4
    assert all(torch.equal(a["model"][k], b["model"][k]) for k in a["model"])
    assert a["metrics"] == b["metrics"]


STOPPER = """
import os, signal
from dao.register import Registers
from dao.trainers.hooks.base import Hook

@Registers.hooks.register()
class StopInThirdEpoch(Hook):
    def after_iter(self, trainer):
        if trainer.epoch == 2 and trainer.iter == 1:
            os.kill(os.getpid(), signal.SIGTERM)
"""


def test_killed_run_goes_on_and_two_processes_train_together(tiny_config, write_config, tmp_path):
    """A real process, killed without warning in the middle; then resumed with two processes and gloo."""
    path = write_config(tiny_config, {"trainer.kwargs.max_epochs": 500, "trainer.kwargs.eval_interval": 0})
    command = [sys.executable, "main.py", "-c", str(path), "--device", "cpu"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    latest = tmp_path / "runs" / "tiny" / "checkpoints" / "latest.ckpt"
    deadline = time.monotonic() + 120
    while not latest.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = checkpoint.load(latest)["epoch"]
    assert done >= 1
    more = ["-o", f"trainer.kwargs.max_epochs={done + 2}", "trainer.kwargs.eval_interval=1"]
    result = subprocess.run([*command, "--resume", "--devices", "2", *more], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert f"epoch {done + 1}" in result.stderr and "2 processes" in result.stderr
    content = checkpoint.load(latest)
    assert content["epoch"] == done + 2 and content["world_size"] == 2
    assert content["metrics"]


def test_torchrun_is_honoured(tiny_config, write_config, tmp_path):
    path = write_config(tiny_config, {"trainer.kwargs.max_epochs": 1})
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "main.py"]
    result = subprocess.run([*command, "-c", str(path), "--device", "cpu"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert checkpoint.load(tmp_path / "runs" / "tiny" / "checkpoints" / "latest.ckpt")["world_size"] == 2


def test_a_demo_without_a_sheet(trained, tiny_data, write_config):
    kwargs = {"ckpt": str(trained[0]), "sheet": 0, "heatmap": False}
    images = {"type": "ImageFiles", "kwargs": {"path": f"{tiny_data}/val/red/0.png"}}
    before = set(trained[0].glob("demo/*"))
    assert run("-c", write_config({"trainer": {"type": "Demo", "kwargs": kwargs}, "images": images})) == 0
    (made,) = set(trained[0].glob("demo/*")) - before
    assert {p.name for p in made.iterdir()} == {"0000_0.png", "results.json", "config.json", "log.txt"}


def test_check_reads_everything_and_trains_nothing(tiny_config, write_config, tiny_data, tmp_path, capsys):

    path = write_config(tiny_config)
    assert run("-c", path, "--check") == 0
    assert "no problems found; nothing was trained" in capsys.readouterr().out
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    shutil.copy(data / "train" / "red" / "0.png", data / "val" / "red" / "9.png")
    damaged = data / "val" / "blue" / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:80])
    before = damaged.read_bytes()
    changes = {f"{p}dataset.kwargs.data_dir": str(data) for p in ("dataloader.", "evaluator.dataloader.")}
    assert run("-c", write_config(tiny_config, changes), "--check") == 2
    captured = capsys.readouterr()
    assert "val/red/9.png" in captured.out and "val/blue/0.png" in captured.out and "2 problems" in captured.err
    assert damaged.read_bytes() == before and not (tmp_path / "runs").exists()


def test_check_tries_a_batch_and_tells_its_cost(tiny_config, write_config, trained, capsys):
    """In training with everything that a config may add to the loop, and for an evaluation of a checkpoint."""
    hooks = [{"type": "MixupCutmix"}, {"type": "SwitchLoss", "kwargs": {"epoch": 2, "loss": {"type": "FocalLoss"}}}]
    changes = {"trainer.kwargs.amp": True, "trainer.kwargs.accumulate": 2, "dataloader.kwargs.cache": True}
    assert run("-c", write_config({**tiny_config, "hooks": hooks}, changes), "--check", "--ema", "--device", "cpu") == 0
    cost = r"one batch: 8 pictures, input \(8, 3, 32, 32\)(, loss \d+\.\d{4})?; \d\.\d{3} s and \d\.\d\d GiB on cpu"
    assert re.search(cost, capsys.readouterr().out)
    folder, _ = trained
    before = sorted(folder.rglob("*"))
    stage = {"trainer": {"type": "Eval", "kwargs": {"ckpt": str(folder)}}}
    assert run("-c", write_config(stage), "--check", "--device", "cpu") == 0
    assert re.search(cost, capsys.readouterr().out) and sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hooks": [{"type": "SwitchLoss", "kwargs": {"epoch": 2, "loss": {"type": "YOLOXLoss"}}}]},
            "YOLOXLoss judges boxes",
        ),
        ({"optimizer.kwargs.lr": 1e30, "trainer.kwargs.accumulate": 1}, "the loss is not finite"),
        ({"preprocess.size": [4, 4], "model.kwargs.model_name": "vgg11"}, "the model cannot take 4x4 pixels"),
    ],
)
def test_check_finds_what_only_a_batch_can_tell(changes, message, tiny_config, write_config, tmp_path, capsys):
    assert run("-c", write_config(tiny_config, changes), "--check", "--device", "cpu") == 2
    assert message in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_check_compares_what_must_be_kept_apart_alone(trained, write_config, capsys):
    """A demo, or an export's proof, may show any pictures."""
    folder, config = trained
    pictures = {
        "type": "ImageFiles",
        "kwargs": {"path": config["evaluator"]["dataloader"]["dataset"]["kwargs"]["data_dir"]},
    }
    pictures["kwargs"] |= {"recursive": True}
    stage = {"trainer": {"type": "Demo", "kwargs": {"ckpt": str(folder)}}, "images": pictures}
    assert run("-c", write_config(stage), "--check") == 0
    assert "on both sides" not in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    code = "import sys, main\ntry: main.main(['--help'])\nexcept SystemExit: pass\nprint([m for m in ('torch', 'numpy', 'dao') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_list_and_schema(capsys):
    assert run("--list", "losses") == 0
    assert "FocalLoss: (1 - p_t)^gamma times the cross entropy\n      gamma=2.0" in capsys.readouterr().out
    assert run("--schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "AICore config"
    assert run("--list", "loses") == 2


def test_several_labels_a_picture(tiny_data, tiny_config, write_config, tmp_path):
    """Multi-label data through all of training and its report."""
    rows = ["image,label"]
    for split in ("train", "val"):
        for name in ("blue", "green", "red"):
            for path in sorted((tiny_data / split / name).glob("*.png")):
                extra = ";bright" if name == "red" else ""
                rows.append(f"{split}/{name}/{path.name},{name}{extra}")
    csv_file = tiny_data / "several.csv"
    csv_file.write_text("\n".join(rows))
    dataset = {"type": "CsvDataset", "kwargs": {"csv_file": str(csv_file), "label_separator": ";"}}
    changes = {
        "loss": {"type": "BCEWithLogitsLoss"},
        "dataloader.dataset": dataset,
        "evaluator.dataloader.dataset": dataset,
        "trainer.kwargs.max_epochs": 6,
        "optimizer.kwargs.lr": 0.01,
    }
    assert run("-c", write_config(tiny_config, changes)) == 0
    content = checkpoint.load(tmp_path / "runs" / "tiny" / "checkpoints" / "best.ckpt")
    assert content["best"]["metric"] == "map" and content["best"]["value"] > 0.8
    assert (tmp_path / "runs" / "tiny" / "eval" / "final" / "predictions.csv").is_file()


def test_the_threshold_that_is_counted_with_is_the_one_that_is_shown(tiny_data, tiny_config, write_config, tmp_path):
    """Training's final report, the checkpoint's predictor, the exported file and another evaluation, label by label."""
    rows = ["image,label"]
    for path in sorted((tiny_data / "val").glob("*/*.png")):
        rows.append(f"val/{path.parent.name}/{path.name},{path.parent.name}{';bright' if path.stem in '01' else ''}")
    csv_file = tiny_data / "thresholds.csv"
    csv_file.write_text("\n".join(rows))
    dataset = {"type": "CsvDataset", "kwargs": {"csv_file": str(csv_file), "label_separator": ";"}}
    changes = {
        "loss": {"type": "BCEWithLogitsLoss"}, "dataloader.dataset": dataset, "evaluator.dataloader.dataset": dataset,
        "evaluator.kwargs": {"threshold": 0.4}, "trainer.kwargs.max_epochs": 1,
    }  # fmt: skip
    assert run("-c", write_config(tiny_config, changes)) == 0
    folder = tmp_path / "runs" / "tiny"

    def labels_of(report):
        with (report / "predictions.csv").open() as file:
            return {row["path"]: row["predicted"] for row in csv.DictReader(file)}

    stage = {"trainer": {"type": "Export", "kwargs": {"ckpt": str(folder)}}, "export": {"type": "TorchExporter"}}
    assert run("-c", write_config(stage)) == 0
    at_half = set()
    for model in (folder, next((folder / "export").glob("*/*.pt2"))):
        predictor = Predictor(model, "cpu", trust=True)
        assert predictor.card.facts["threshold"] == 0.4
        for path, said in labels_of(folder / "eval" / "final").items():
            prediction = predictor(path)
            assert ";".join(predictor.classes[i] for i in prediction.labels) == said
            at_half.add(";".join(predictor.classes[i] for i in np.flatnonzero(prediction.scores >= 0.5)) == said)
    assert False in at_half  # the threshold makes a difference here

    stage = {"trainer": {"type": "Eval", "kwargs": {"ckpt": str(folder)}}, "evaluator": {"kwargs": {"threshold": 0.9}}}
    assert run("-c", write_config(stage)) == 0
    assert set(labels_of(folder / "eval" / "thresholds").values()) != set(labels_of(folder / "eval" / "final").values())


def test_a_threshold_is_refused_where_no_class_is_known_as_good(tiny_config, write_config, capsys):
    assert run("-c", write_config(tiny_config, {"evaluator.kwargs": {"threshold": 0.4}})) == 2
    assert "evaluator.kwargs.threshold  no class is known to mean a good part" in capsys.readouterr().err


def test_hooks_of_a_config_take_part(tiny_config, write_config, tmp_path):
    hooks = [
        {"type": "EarlyStop", "kwargs": {"patience": 1}},
        {"type": "MixupCutmix", "kwargs": {"mixup_alpha": 0.4, "cutmix_alpha": 1.0}},
        {"type": "MultiScale", "kwargs": {"interval": 1}},
        {"type": "SwitchLoss", "kwargs": {"epoch": 2, "loss": {"type": "SoftTargetCrossEntropy"}}},
    ]
    changes = {"trainer.kwargs.max_epochs": 40, "optimizer.kwargs.lr": 0.0, "trainer.kwargs.amp": True}
    assert run("-c", write_config({**tiny_config, "hooks": hooks}, changes)) == 0
    log = (tmp_path / "runs" / "tiny" / "log.txt").read_text()
    assert "early stop" in log and "the loss is now" in log and "epoch 40/40" not in log


EXPORTERS = """
from pathlib import Path

from dao.exporters.base import Exporter
from dao.exporters.onnx import OnnxExporter
from dao.predictor import OnnxBackend
from dao.register import Registers


class BoxedBackend(OnnxBackend):
    def __init__(self, path, device):
        plain = path.with_name("unboxed.onnx")
        plain.write_bytes(path.read_bytes().removeprefix(b"BOX"))
        super().__init__(plain, device)
        plain.unlink()


@Registers.exporters.register()
class BoxedExporter(Exporter):
    suffix, name, backend = ".boxed.net", "a box", BoxedBackend

    def export(self, task, path: Path):
        OnnxExporter().export(task, path)
        path.write_bytes(b"BOX" + path.read_bytes())


@Registers.exporters.register()
class Weights(Exporter):
    suffix, name = ".bin", "weights"

    def __init__(self):
        pass

    def export(self, task, path: Path):
        path.write_bytes(b"".join(p.detach().numpy().tobytes() for p in task.model.parameters()))
"""


def test_a_users_exporter_is_proven_and_its_file_is_shown(trained, write_config, tmp_path, monkeypatch):
    """One that says how its file is run, and one that does not, which is written and said not to be proven."""
    folder, config = trained
    (tmp_path / "exporters.py").write_text(EXPORTERS)
    (tmp_path / "m.json").write_text(json.dumps([str(tmp_path / "exporters.py")]))
    sections = [{"type": "BoxedExporter"}, {"type": "Weights"}]
    stage = {"trainer": {"type": "Export", "kwargs": {"ckpt": str(folder)}}, "export": sections}
    assert run("-c", write_config(stage), "-m", tmp_path / "m.json", "--device", "cpu") == 0
    (file,) = folder.glob("export/*/tiny.boxed.net")
    parity = json.loads((file.parent / "parity.json").read_text())
    assert parity["files"]["tiny.boxed.net"]["passed"] and parity["unproven"] == ["tiny.bin"]
    assert (file.parent / "tiny.bin").stat().st_size > 1000
    picture = next(Path(config["dataloader"]["dataset"]["kwargs"]["data_dir"]).glob("val/red/*.png"))
    for model in (file, folder):
        demo = {"trainer": {"type": "Demo", "kwargs": {"ckpt": str(model), "heatmap": False}},
                "images": {"type": "ImageFiles", "kwargs": {"path": str(picture)}}}  # fmt: skip
        assert run("-c", write_config(demo), "-m", tmp_path / "m.json", "--device", "cpu") == 0
    assert (
        not list(file.parent.glob(".*"))
        and Predictor(file, "cpu")(picture).label == Predictor(folder, "cpu")(picture).label
    )


@pytest.mark.parametrize(
    ("stage", "said"),
    [("Eval", "not a usable ONNX file"), ("Demo", "not a usable ONNX file"), ("Export", "is an exported file")],
)
def test_an_exported_file_that_cannot_be_used_says_so_before_anything_else(stage, said, write_config, tmp_path, capsys):
    (tmp_path / "m.onnx").write_bytes(b"")
    section = {"trainer": {"type": stage, "kwargs": {"ckpt": str(tmp_path / "m.onnx")}}}
    assert run("-c", write_config(section)) == 2
    assert said in capsys.readouterr().err


def test_a_users_hook_from_custom_modules(tiny_config, write_config, tmp_path, monkeypatch):
    """The README's example, word for word."""
    readme = (ROOT / "README.md").read_text()
    code = readme.split("# custom_modules/stop_when_good_enough.py")[1].split("```")[0]
    folder = tmp_path / "work" / "custom_modules"
    folder.mkdir(parents=True)
    (folder / "stop_when_good_enough.py").write_text(code)
    monkeypatch.chdir(tmp_path / "work")
    hooks = [{"type": "StopWhenGoodEnough", "kwargs": {"top1": 0.1}}]
    assert run("-c", write_config({**tiny_config, "hooks": hooks}, {"trainer.kwargs.max_epochs": 50})) == 0
    assert checkpoint.load(tmp_path / "runs" / "tiny" / "checkpoints" / "latest.ckpt")["epoch"] == 1


def test_a_loss_that_is_no_number_stops_with_the_files(tiny_config, write_config, capsys):
    changes = {"optimizer": {"type": "SGD", "kwargs": {"lr": 1e30}}, "trainer.kwargs.max_epochs": 20}
    assert run("-c", write_config(tiny_config, changes)) == 2
    err = capsys.readouterr().err
    assert "the loss is not finite" in err and ".png" in err


def test_distributed_evaluation_counts_every_picture_once(trained, tmp_path):
    """12 pictures in batches of 8 by 1 and by 3 processes: the same numbers, each picture once."""
    folder, _ = trained
    (tmp_path / "eval.json").write_text(json.dumps({"trainer": {"type": "Eval", "kwargs": {"ckpt": str(folder)}}}))
    command = [sys.executable, "main.py", "-c", str(tmp_path / "eval.json"), "--device", "cpu", "--devices"]
    reports = []
    for devices in ("1", "3"):
        result = subprocess.run([*command, devices], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        newest = max(folder.glob("eval/val*/metrics.json"), key=lambda p: p.stat().st_mtime_ns)
        rows = [line.split(",") for line in (newest.parent / "predictions.csv").read_text().splitlines()[1:]]
        reports.append((json.loads(newest.read_text()), [row[:4] for row in rows], [row[4:] for row in rows]))
    (one, verdicts_one, scores_one), (five, verdicts_five, scores_five) = reports
    assert one == five and one["pictures"] == 12
    assert verdicts_one == verdicts_five
    # other batch sizes, so the last bit of a convolution may differ
    np.testing.assert_allclose(np.array(scores_one, float), np.array(scores_five, float), atol=1e-6)
