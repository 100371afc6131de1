"""Every checkpoint that a version of ours wrote is read by this one, with the same answer, or refused in words."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from dao.checkpoints import checkpoint
from dao.errors import CheckpointError
from dao.predictor import Predictor
from tests.corpus.make import picture, said

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("format-*/*.ckpt.xz"))


def test_the_corpus_has_every_task_in_the_format_of_today():
    assert {file.name.split(".")[0] for file in HERE.glob(f"format-{checkpoint.FORMAT}/*.ckpt.xz")} == {
        "cls", "seg", "det", "anomaly",
    }  # fmt: skip
    assert sum(file.stat().st_size for file in FILES) < 100_000 * checkpoint.FORMAT


@pytest.mark.parametrize("file", sorted(HERE.glob("format-*/*.onnx.xz")), ids=lambda file: file.name)
def test_an_exported_file_of_an_earlier_version_answers_as_its_checkpoint_did(file, tmp_path):
    path = tmp_path / file.stem
    path.write_bytes(lzma.decompress(file.read_bytes()))
    wanted = json.loads((file.parent / "answers.json").read_text())[file.name.split(".")[0].split("-")[0]]
    found = said(Predictor(path, "cpu")(picture()))
    for name, value in wanted.items():
        tolerance = 3 if name == "pixels" else 1e-3
        # its resize is ONNX Runtime's, and the patterned weights make thousands of every grey level
        np.testing.assert_allclose(found[name], value, atol=tolerance, rtol=1e-2, err_msg=name)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_a_checkpoint_of_an_earlier_version_answers_as_it_did_or_is_refused_in_words(file, tmp_path):
    path = tmp_path / file.stem
    path.write_bytes(lzma.decompress(file.read_bytes()))
    written = int(file.parent.name.split("-")[1])
    try:
        predictor = Predictor(path, "cpu")
    except CheckpointError as refused:
        assert written < checkpoint.FORMAT and path.name in str(refused)
        return
    assert checkpoint.load(path)["format"] == written
    wanted = json.loads((file.parent / "answers.json").read_text())[file.name.split(".")[0]]
    found = said(predictor(picture()))
    assert found.keys() >= wanted.keys()
    for name, value in wanted.items():
        tolerance = 3 if name == "pixels" else 1e-3
        np.testing.assert_allclose(found[name], value, atol=tolerance, rtol=1e-3, err_msg=name)
