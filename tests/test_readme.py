"""What README.md shows is run as it stands: components of one's own, and pairs that a shell must leave whole."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from dao.config import merge as config_merge
from dao.config import modules
from dao.config import reading as config
from dao.config.contracts import check_dataset
from dao.config.schema import validate
from dao.losses.weighted_sum import build_loss
from dao.preprocess import Preprocess
from dao.register import Registers, import_all_modules_for_register
from dao.tasks import build
from dao.tasks.classification import ClassificationTask

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Every file for custom_modules/ that README shows, imported as a user's."""
    folder = tmp_path_factory.mktemp("custom_modules")
    import_all_modules_for_register(custom_dir=folder)
    for block in blocks("python"):
        if found := re.match(r"# custom_modules/(\w+\.py)\n", block):
            (folder / found[1]).write_text(block, encoding="utf-8")
            modules.import_file(folder / found[1])


def test_the_loss_of_the_readme_is_what_its_formula_says(shown):
    logits, target = torch.tensor([[2.0, -0.5], [0.0, 3.0]]), torch.tensor([0, 0])
    told = build_loss({"type": "SquaredHinge"}, num_classes=2, class_counts=None, multi_label=False)(logits, target)
    # max(0, 1 - 2)^2, max(0, 1 - 0.5)^2, (1 - 0)^2, (1 + 3)^2
    assert told["loss"].item() == pytest.approx((0 + 0.25 + 1 + 16) / 4)


def test_the_model_of_the_readme_gives_logits(shown):
    raw = {"type": "cls", "model": {"type": "ThreeConvs", "kwargs": {"width": 4}}}
    model = build.build_model(raw, ["a", "b", "c"], 3)
    build.check_input(model, Preprocess(size=(32, 32)), ClassificationTask.expected_output(3, (32, 32)))


def test_the_dataset_of_the_readme_reads_its_pictures(shown, tmp_path):
    for name in ("dent_1", "ok_1", "ok_2"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((8, 8, 3), np.uint8))
    dataset = build.build_dataset({"type": "NamedByClass", "kwargs": {"folder": str(tmp_path)}}, "dataloader.dataset")
    check_dataset(dataset, "NamedByClass", "dataloader.dataset")
    assert dataset.classes == ["dent", "ok"] and dataset.class_counts() == [1, 2] and dataset.read(2).label == 1


def test_the_hook_of_the_readme_stops_a_run(shown):
    hook = Registers.hooks.build({"type": "StopWhenGoodEnough", "kwargs": {"top1": 0.5}}, "hooks.0")
    trainer = SimpleNamespace(metrics={"top1": 0.6}, stop_reason="")
    hook.after_epoch(trainer)
    assert trainer.stop_reason


def test_the_readmes_parts_make_a_valid_config(shown):
    raw = config.load_marked(ROOT / "configs/quickstart/cls-trainval.json")
    parts = [block for block in blocks("json") if block.startswith('"')]
    assert len(parts) == 2
    for block in parts:
        raw = config_merge.merge(raw, json.loads("{" + block + "}"))
    assert validate(config_merge.drop_delete_marks(raw)) == []


def test_every_command_of_the_readme_is_whole_in_powershell_and_cmd():
    """No quotes but double ones round a whole pair, no JSON object, no line continued, no &&."""
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("python main.py")]
    pairs = [word for line in lines for word in line.split() if re.match(r'"?[a-z_]+(\.[a-z_0-9]+)*=', word)]
    assert len(pairs) >= 10
    for line in lines:
        assert "'" not in line and not line.endswith("\\") and "&&" not in line, line
    for pair in pairs:
        assert "{" not in pair and ("[" not in pair or (pair[0], pair[-1]) == ('"', '"')), pair


def test_no_example_of_the_readme_inherits_an_operating_point_of_the_sample_pictures(tmp_path):
    files = [text for text in blocks("json") if '"_base_"' in text]
    assert len(files) == 2
    for text in files:
        path = tmp_path / "mine.json"
        path.write_text(text.replace('"configs/', f'"{ROOT.as_posix()}/configs/'), encoding="utf-8")
        set_there = config.load(path).get("evaluator").get("kwargs", {})
        assert not [key for key in ("threshold", "class_thresholds", "min_area") if set_there.get(key) is not None]


def test_the_readmes_division_makes_the_ratios():
    (block,) = [text for text in blocks("") if "split_ratio.train" in text]
    raw = config.load(ROOT / "configs/quickstart/cls-trainval.json", block.split())
    for dataset in (raw["dataloader"]["dataset"], raw["evaluator"]["dataloader"]["dataset"]):
        assert dataset["kwargs"]["split_ratio"] == {"train": 0.8, "val": 0.2}
    import_all_modules_for_register()
    assert validate(raw) == []
