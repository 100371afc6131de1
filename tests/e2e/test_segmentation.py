"""Segmentation through main.py, as a user runs it: the four stages, resume, tiles, several processes."""

import json

import cv2
import numpy as np
import pytest

import main
from dao.checkpoints import checkpoint
from dao.predictor import Predictor


def run(*argv):
    return main.main([str(a) for a in argv])


@pytest.fixture
def trained(tiny_seg_config, write_config, tmp_path):
    path = write_config(tiny_seg_config, {"trainer.kwargs.max_epochs": 12, "trainer.kwargs.eval_interval": 4})
    assert run("-c", path, "--device", "cpu") == 0
    return tmp_path / "runs" / "tinyseg"


def test_all_four_stages(trained, tiny_masks, write_config, tmp_path):
    report = json.loads((trained / "eval" / "final" / "metrics.json").read_text())
    assert report["foreground"]["miou"] > 0.5 and report["defects"]["recall"]["value"] > 0.6
    assert run("-c", write_config({"trainer": {"type": "Eval", "kwargs": {"ckpt": str(trained)}}})) == 0
    again = json.loads((trained / "eval" / "val" / "metrics.json").read_text())
    assert again["foreground"] == report["foreground"] and again["confusion_matrix"] == report["confusion_matrix"]

    export = {"trainer": {"type": "Export", "kwargs": {"ckpt": str(trained)}}, "export": {"type": "OnnxExporter"}}
    assert run("-c", write_config(export)) == 0
    parity = json.loads((trained / "export" / "model" / "parity.json").read_text())
    (summary,) = parity["files"].values()
    assert summary["passed"] and summary["equal"] > 0.999 and summary["pictures"] == 8

    exported = next(trained.glob("export/model/*.onnx"))
    for ckpt in (trained, exported):
        demo = {
            "trainer": {"type": "Demo", "kwargs": {"ckpt": str(ckpt)}},
            "images": {"type": "ImageFiles", "kwargs": {"path": f"{tiny_masks}/1[6-9].png"}},
        }
        assert run("-c", write_config(demo)) == 0
    folders = (
        sorted(trained.glob("demo/*")) + sorted(exported.parent.glob("demo/*")) + sorted(tmp_path.glob("**/demo/*"))
    )
    results = [
        json.loads((folder / "results.json").read_text())["results"]
        for folder in dict.fromkeys(folders)
        if folder.is_dir()
    ]
    assert len(results) >= 2 and [r["pixels"] for r in results[0]] == [r["pixels"] for r in results[-1]]
    first = results[0][1]
    mask = cv2.imread(str(folders[0] / first["mask"]), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (48, 56) and int((mask > 0).sum()) == sum(first["pixels"].values())
    assert (
        first["regions"] and (folders[0] / first["picture"]).is_file() and (folders[0] / "contact_sheet.png").is_file()
    )


def test_stopped_after_an_epoch_and_resumed_equals_uninterrupted(tiny_seg_config, write_config, tmp_path):
    """With defects drawn from other pictures, crops and a cache: all of them are functions of (seed, epoch, index)."""
    changes = {
        "dataloader.kwargs.cache": True,
        "trainer.kwargs.test_after_train": False,
        "trainer.kwargs.max_epochs": 3,
    }
    whole = write_config(tiny_seg_config, {**changes, "name": "whole"}, "whole.json")
    assert run("-c", whole) == 0
    parts = write_config(
        tiny_seg_config,
        {
            **changes,
            "name": "parts",
            "trainer.kwargs.save_interval": 1,
            "trainer.kwargs.keep": 9,
            "dataloader.kwargs.cache": False,
        },
        "parts.json",
    )
    assert run("-c", parts) == 0
    folder = tmp_path / "runs" / "parts" / "checkpoints"
    assert run("-c", parts, "-o", f"trainer.kwargs.resume={folder / 'epoch_1.ckpt'}") == 0
    expected, found = (
        checkpoint.load(tmp_path / "runs" / name / "checkpoints" / "latest.ckpt")["model"]
        for name in ("whole", "parts")
    )
    assert all(np.array_equal(expected[name].numpy(), found[name].numpy()) for name in expected)


def test_tiles_in_training_evaluation_and_predictor(tiny_seg_config, write_config, tmp_path, tiny_masks):
    changes = {"preprocess": {"size": [32, 32], "resize": "tile", "overlap": 0.25}, "trainer.kwargs.max_epochs": 1}
    transforms = {"dataloader.dataset.transforms": [{"type": "HorizontalFlip"}]}
    assert run("-c", write_config(tiny_seg_config, {**changes, **transforms})) == 0
    prediction = Predictor(tmp_path / "runs" / "tinyseg")(tiny_masks / "3.png")
    assert prediction.mask.shape == (48, 56)


def test_evaluation_is_the_same_for_one_and_three_processes(trained, write_config):
    """Seven pictures: no process count divides them."""
    section = {"trainer": {"type": "Eval", "kwargs": {"ckpt": str(trained)}}}
    csv_file = json.loads((trained / "config.json").read_text())["evaluator"]["dataloader"]["dataset"]["kwargs"][
        "csv_file"
    ]
    from pathlib import Path

    lines = Path(csv_file).read_text().splitlines()
    seven = Path(csv_file).with_name("seven.csv")
    seven.write_text("\n".join([lines[0], *[line for line in lines if line.endswith("val")][:7]]) + "\n")
    section["evaluator"] = {"dataloader": {"dataset": {"kwargs": {"csv_file": str(seven)}}}}
    path = write_config(section)
    reports = []
    for count in (1, 2, 3):
        assert run("-c", path, "--device", "cpu", "--devices", count) == 0
        newest = max(trained.glob("eval/val*"), key=lambda folder: folder.stat().st_mtime_ns)
        reports.append((newest / "metrics.json").read_text())
        assert len((newest / "pictures.csv").read_text().splitlines()) == 8
    assert reports[0] == reports[1] == reports[2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preprocess.resize": "crop"}, "it takes letterbox, stretch, tile"),
        ({"model.kwargs.decoder_channels": [8, 8]}, "the network cannot be built"),
        ({"dataloader.dataset.kwargs.mask_format": "binary"}, "cannot tell bright, dark apart"),
        (
            {
                "dataloader.dataset.kwargs.classes": ["background", "bright"],
                "evaluator.dataloader.dataset.kwargs.classes": None,
            },
            "has the values 2",
        ),
        ({"evaluator.dataloader.dataset.kwargs.classes": ["background", "dark", "bright"]}, "in another order"),
        ({"dataloader.dataset.kwargs.csv_file": "nowhere.csv"}, "nowhere.csv"),
        ({"dataloader.type": "ClsDataloader"}, "gives no masks"),
        ({"loss": {"type": "DiceLos"}}, "Nearest: DiceLoss"),
        ({"evaluator.kwargs": {"min_are": 3}}, "min_area"),
        ({"trainer.kwargs.best_metric": "miuo"}, "miou"),
    ],
)
def test_mistakes_end_in_one_message(tiny_seg_config, write_config, changes, words, capsys):
    assert run("-c", write_config(tiny_seg_config, changes)) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
