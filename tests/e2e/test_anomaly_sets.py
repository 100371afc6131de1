"""Which pictures thresholds come from, and what is said where these also teach or judge; through main.py."""

import json
import shutil
from pathlib import Path

import pytest

import main
from dao.checkpoints import checkpoint
from dao.dataloaders.datasets.anomaly import MVTecDataset
from dao.predictor import Predictor


def run(*argv):
    return main.main([str(a) for a in argv])


def calibration(root, split, rule="FalseAlarmRate", **kwargs):
    return {
        "type": rule,
        "dataloader": {
            "type": "AnomalyDataloader",
            "kwargs": {"num_workers": 0},
            "dataset": {"type": "MVTecDataset", "kwargs": {"data_dir": str(root), "split": split, **kwargs}},
        },
    }


def test_judged_by_the_held_out_pictures_is_said_and_still_reported(
    tiny_anomaly_config,
    write_config,
    tmp_path,
    capsys,
):
    """They are all good: no validation can tell a picture/auroc."""
    path = write_config(tiny_anomaly_config, {"evaluator.dataloader.dataset.kwargs.split": "val"})
    assert run("-c", path, "--device", "cpu") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "4 of the evaluator's 4 pictures are the ones that the threshold comes from" in said
    assert "no validation can tell picture/auroc" in said
    folder = tmp_path / "runs" / "tinyparts"
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    report = json.loads((folder / "eval" / "final" / "metrics.json").read_text())
    facts = Predictor(folder).card.facts
    assert report["thresholds"]["picture_threshold"] == facts["picture_threshold"]
    assert report["calibration"] == facts["calibration"] and "held out" in report["calibration"]
    assert "threshold comes from" in report["notes"][0]

    assert run("-c", path, "--check") == 0
    out, err = (" ".join(text.split()) for text in capsys.readouterr())
    assert (
        "4 of the evaluator's 4 pictures are the ones that the threshold comes from" in err
        and "no problems found" in out
    )
    assert run("-c", write_config({"trainer": {"type": "Eval", "kwargs": {"ckpt": str(folder)}}})) == 0
    assert json.loads((folder / "eval" / "val" / "metrics.json").read_text())["calibration"] == facts["calibration"]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_calibration_pictures_neither_teach_nor_judge(
    split, tiny_anomaly_config, tiny_parts, write_config, tmp_path, capsys
):
    """By the file, not by its path: here through a symlink."""
    link = tmp_path / "same parts"
    link.symlink_to(tiny_parts)
    rule = calibration(link, split, held_out=0.0 if split == "train" else 0.2)
    path = write_config(tiny_anomaly_config, {"calibration": rule})
    allowed = split == "val"
    assert run("-c", path, "--device", "cpu") == (0 if allowed else 2)
    said = capsys.readouterr().err
    what = {
        "train": "16 of its pictures teach the model",
        "val": "held_out to 0",
        "test": "in the evaluator's set as well",
    }
    assert what[split] in " ".join(said.split())
    assert run("-c", path, "--check") == (0 if allowed else 2)
    assert allowed or what[split] in " ".join(capsys.readouterr().err.split())


def test_unreadable_calibration_pictures_are_named_and_too_many_end_the_run(
    tiny_anomaly_config,
    tiny_parts,
    write_config,
    tmp_path,
    capsys,
):
    other = tmp_path / "calibration"
    shutil.copytree(tiny_parts / "test", other / "test")
    (other / "test" / "good" / "03.png").write_bytes(b"no picture")
    rule = {"calibration": calibration(other, "test", "BestF1"), "dataloader.dataset.kwargs.held_out": 0.0}
    assert run("-c", write_config(tiny_anomaly_config, rule), "--device", "cpu") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "03.png" in said and "max_bad_fraction = 0.01 of 12 pictures" in said
    some = {**rule, "trainer.kwargs.max_bad_fraction": 0.1}
    assert run("-c", write_config(tiny_anomaly_config, some), "--device", "cpu") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "skipped: " in said and "1 picture cannot be read or answered, of 12 pictures" in said
    folders = sorted((tmp_path / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime)
    card = checkpoint.load(folders[-1] / "checkpoints" / "best.ckpt")["card"]
    assert "5 good and 6 bad pictures" in card


def test_unreadable_held_out_pictures_count_as_any_other(
    tiny_anomaly_config, tiny_parts, write_config, tmp_path, capsys
):
    other = tmp_path / "parts"
    shutil.copytree(tiny_parts, other)
    held = [record.path for record in MVTecDataset(str(other)).records if record.held_out]
    for path in held[:2]:
        Path(path).write_bytes(b"no picture")
    changes = {"dataloader.dataset.kwargs.data_dir": str(other), "trainer.kwargs.max_bad_fraction": 0.05}
    assert run("-c", write_config(tiny_anomaly_config, changes), "--device", "cpu") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "2 pictures cannot be read" in said and Path(held[0]).name in said
