"""A file of torch.export can run code when it is read: none of it runs unless it is ours and trusted."""

import contextlib
import io
import json
import os
import shutil
import zipfile

import numpy as np
import pytest
import torch

from dao.checkpoints import checkpoint
from dao.errors import CheckpointError
from dao.exporters.torch_export import TorchExporter
from dao.models.classification.timm_classifier import timm_classifier
from dao.predictor import Predictor, TorchExportBackend
from dao.preprocess import Preprocess
from dao.tasks.classification import ClassificationTask

CPU = torch.device("cpu")


class MakesAFolder:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    task = ClassificationTask(
        timm_classifier("test_resnet", num_classes=2).eval(), Preprocess(size=[32, 32]), ["a", "b"]
    )
    path = tmp_path_factory.mktemp("export") / "m.pt2"
    exporter = TorchExporter()
    exporter.export(task, path)
    assert exporter.opened(path, CPU).card.classes == ["a", "b"]  # the exporter's own proof needs no leave
    return path


def crafted(source, target, marker):
    """The same file with a pickle in it that makes a folder."""
    stream = io.BytesIO()
    torch.save(MakesAFolder(marker), stream)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            evil = "sample_inputs" in entry.filename and entry.filename.endswith(".pt")
            new.writestr(entry.filename, stream.getvalue() if evil else old.read(entry))
    return target


def test_the_crafted_file_of_these_tests_does_run_code_in_torch(exported, tmp_path):
    file = crafted(exported, tmp_path / "m.pt2", tmp_path / "ran")
    with contextlib.suppress(Exception):
        torch.export.load(file)
    assert (tmp_path / "ran").is_dir()


@pytest.mark.parametrize("name", ["m.pt2", "m.PT2", "m.ckpt", "m.pth", "m.onnx", "m.safetensors"])
@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("manifest", [False, True])
def test_nothing_of_a_crafted_file_runs(exported, tmp_path, name, trust, manifest):
    """Whatever it is called, even where trusted, and with the manifest of the true one beside it."""
    file = crafted(exported, tmp_path / name, tmp_path / "ran")
    if manifest:
        shutil.copy(f"{exported}.manifest.json", f"{file}.manifest.json")
    with pytest.raises(CheckpointError):
        Predictor(file, "cpu", trust=trust)
    for read in (checkpoint.load, checkpoint.load_weights):
        with pytest.raises(CheckpointError):
            read(file)
    assert not (tmp_path / "ran").exists()


def test_ours_is_read_where_it_is_trusted_alone(exported):
    with pytest.raises(CheckpointError, match=r"can run code.*trust: true"):
        Predictor(exported, "cpu")
    with pytest.raises(CheckpointError, match="trust"):
        TorchExportBackend(exported, CPU)
    assert Predictor(exported, "cpu", trust=True)(np.zeros((40, 50, 3), np.uint8)).scores.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "does not exist: Export writes it"),
        (b"", "is no manifest"),
        (b"\xff\xfe", "is no manifest"),
        (b"[" * 9000, "is no manifest"),
        (b"[]", "is no manifest"),
        (json.dumps({"sha256": 3}).encode(), "is no manifest"),
        (json.dumps({"sha256": "0" * 64}).encode(), "is not the file that Export wrote"),
    ],
)
def test_a_trusted_file_needs_the_manifest_that_export_wrote(exported, tmp_path, manifest, message):
    shutil.copy(exported, tmp_path / "m.pt2")
    if manifest is not None:
        (tmp_path / "m.pt2.manifest.json").write_bytes(manifest)
    with pytest.raises(CheckpointError, match=message):
        Predictor(tmp_path / "m.pt2", "cpu", trust=True)


def test_a_refused_pickle_is_told_in_our_words(tmp_path):
    torch.save({"format": 1, "x": MakesAFolder(tmp_path / "ran")}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError) as refused:
        checkpoint.load(tmp_path / "a.ckpt")
    said = str(refused.value)
    assert "could run code" in said and "weights_only" not in said and "trusted source" not in said
    assert not (tmp_path / "ran").exists()
