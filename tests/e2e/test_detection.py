"""Detection through main.py, as a user runs it: the four stages, resume, several processes, a second family."""

import json

import pytest

import main
from dao.predictor import Predictor


def run(*argv):
    return main.main([str(a) for a in argv])


@pytest.fixture
def trained(tiny_det_config, write_config, tmp_path):
    changes = {
        "trainer.kwargs.max_epochs": 12,
        "trainer.kwargs.no_aug_epochs": 6,
        "trainer.kwargs.eval_interval": 6,
        "model.kwargs.score_threshold": 0.0001,  # after so few steps nothing is sure, and there must be boxes to compare
        "dataloader.dataset.transforms": [{"type": "Mosaic"}, {"type": "HorizontalFlip"}],
    }
    assert run("-c", write_config(tiny_det_config, changes), "--device", "cpu") == 0
    return tmp_path / "runs" / "tinydet"


def test_all_four_stages(trained, tiny_boxes, write_config, capsys):
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    certainty = [line["train/objectness"] for line in lines if "train/objectness" in line]
    assert certainty[-1] < 0.8 * certainty[0]  # the sum does not fall alike: L1 joins it in the last epochs
    report = json.loads((trained / "eval" / "final" / "metrics.json").read_text())
    assert report["pictures"] == 8
    assert run("-c", write_config({"trainer": {"type": "Eval", "kwargs": {"ckpt": str(trained)}}})) == 0
    again = json.loads((trained / "eval" / "val" / "metrics.json").read_text())
    assert again["ap"] == report["ap"] and again["confusion_matrix"] == report["confusion_matrix"]

    export = {"trainer": {"type": "Export", "kwargs": {"ckpt": str(trained)}}, "export": {"type": "OnnxExporter"}}
    assert run("-c", write_config(export)) == 0
    (summary,) = json.loads((trained / "export" / "model" / "parity.json").read_text())["files"].values()
    assert summary["passed"] and summary["pictures"] == 8 and summary["before_suppression"]
    sure = {**export, "export": {"type": "SafetensorsExporter", "kwargs": {"facts": {"score_threshold": 1.0}}}}
    assert run("-c", write_config(sure)) == 1  # not one box, hence no proof
    assert "is not proven: the model finds no box from score 1 on in any of 8 pictures" in capsys.readouterr().err

    demo = {
        "trainer": {"type": "Demo", "kwargs": {"ckpt": str(trained)}},
        "images": {"type": "ImageFiles", "kwargs": {"path": f"{tiny_boxes}/1[6-9].png"}},
    }
    assert run("-c", write_config(demo)) == 0
    folder = trained / "demo" / "pictures"
    results = json.loads((folder / "results.json").read_text())["results"]
    assert len(results) == 4 and all((folder / found["picture"]).is_file() for found in results)
    exported = Predictor(next(trained.glob("export/model/*.onnx")))(tiny_boxes / "17.png")
    own = Predictor(trained)(tiny_boxes / "17.png")
    assert len(exported.box_scores) == len(own.box_scores) > 0


def test_stopped_after_an_epoch_and_resumed_equals_uninterrupted(tiny_det_config, write_config, tmp_path):
    """With mosaic and mixup, which draw other pictures, and the L1 of the last epoch."""
    import torch

    from dao.checkpoints import checkpoint

    changes = {"trainer.kwargs.test_after_train": False, "trainer.kwargs.max_epochs": 3, "trainer.kwargs.ema": True}
    whole = write_config(tiny_det_config, {**changes, "name": "whole", "dataloader.kwargs.cache": True}, "whole.json")
    assert run("-c", whole) == 0
    kept = {"trainer.kwargs.save_interval": 1, "trainer.kwargs.keep": 9}
    parts = write_config(tiny_det_config, {**changes, **kept, "name": "parts"}, "parts.json")
    assert run("-c", parts) == 0
    folder = tmp_path / "runs" / "parts" / "checkpoints"
    assert run("-c", parts, "-o", f"trainer.kwargs.resume={folder / 'epoch_1.ckpt'}") == 0
    expected, found = (
        checkpoint.load(tmp_path / "runs" / name / "checkpoints" / "latest.ckpt") for name in ("whole", "parts")
    )
    for kind in ("model", "ema"):
        assert all(torch.equal(expected[kind][name], found[kind][name]) for name in expected[kind]), kind


def test_evaluation_is_the_same_for_one_and_three_processes(trained, write_config):
    path = write_config({"trainer": {"type": "Eval", "kwargs": {"ckpt": str(trained)}}})
    reports = []
    for count in (1, 3):
        assert run("-c", path, "--device", "cpu", "--devices", count) == 0
        newest = max(trained.glob("eval/val*"), key=lambda folder: folder.stat().st_mtime_ns)
        reports.append(json.loads((newest / "metrics.json").read_text()))
    assert reports[0]["pictures"] == reports[1]["pictures"] == 8
    assert reports[0]["ap50"] == pytest.approx(reports[1]["ap50"], abs=1e-6)
    assert reports[0]["confusion_matrix"] == reports[1]["confusion_matrix"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preprocess.size": [50, 50]}, "multiples of 32"),
        ({"loss": {"type": "CrossEntropyLoss"}}, "does not judge boxes"),
        ({"dataloader.type": "ClsDataloader"}, "gives no boxes"),
        ({"dataloader.dataset.kwargs.json_file": "nowhere_{split}.json"}, "nowhere_train.json"),
        ({"evaluator.kwargs": {"score": 2.0}}, "evaluator.kwargs.score"),
        ({"model.kwargs.size": "xl"}, "model.kwargs.size"),
    ],
)
def test_mistakes_end_in_one_message(tiny_det_config, write_config, changes, words, capsys):
    assert run("-c", write_config(tiny_det_config, changes)) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
