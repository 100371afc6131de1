"""Every shipped config validates, by us and by its JSON Schema; every training config runs an iteration."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from dao.config import reading as config
from dao.config import schema
from dao.register import Registers, import_all_modules_for_register

ROOT = Path(__file__).parents[1]
CONFIGS = [p for p in sorted((ROOT / "configs").glob("**/*.json")) if p.name != "schema.json"]
STAGES = [p for p in CONFIGS if "_base_" not in p.parts]
TRAINVAL = [p for p in STAGES if "trainval" in p.name]


@pytest.fixture(scope="module", autouse=True)
def registered():
    import_all_modules_for_register()


@pytest.fixture(scope="module")
def shipped_schema():
    return json.loads((ROOT / "configs" / "schema.json").read_text())


def test_files_satisfy_the_shipped_schema(shipped_schema):
    """One validator for all of them: reading the schema costs a hundred times what a config does."""
    validator = jsonschema.Draft202012Validator(shipped_schema)
    validator.check_schema(shipped_schema)
    assert len(CONFIGS) > 50
    wrong = {p.name: [e.message for e in validator.iter_errors(json.loads(p.read_text()))] for p in CONFIGS}
    assert not {name: errors for name, errors in wrong.items() if errors}


def test_the_schema_finds_what_is_wrong(shipped_schema):
    validator = jsonschema.Draft202012Validator(shipped_schema)
    assert list(validator.iter_errors({"loss": {"type": "FocalLoss", "kwargs": {"gama": 1}}}))
    assert list(validator.iter_errors({"optimiser": {}}))
    assert list(validator.iter_errors({"type": "cls", "model": {"type": "TimClassifier"}}))
    assert list(validator.iter_errors({"dataloader": {"dataset": {"transforms": [{"type": "HorizontlFlip"}]}}}))


@pytest.mark.parametrize(
    ("section", "fits"),
    [
        ({"trainer": {"type": "TrainVal", "kwargs": {"max_epochs": "${EPOCHS}", "save_minutes": "${M:2.5}"}}}, True),
        ({"trainer": {"type": "TrainVal", "kwargs": {"amp": "${AMP:false}", "clip_norm": "${CLIP}"}}}, True),
        ({"preprocess": {"size": ["${SIDE:64}", 64], "mean": "${MEAN}", "resize": "${HOW:crop}"}}, True),
        ({"loss": [{"type": "FocalLoss", "weight": "${WEIGHT:0.5}", "kwargs": {"alpha": "${ALPHA}"}}]}, True),
        ({"model": {"kwargs": {"freeze": "${FREEZE}", "drop_rate": "${DROP:0.1}"}}}, True),
        ({"dataloader": {"dataset": {"transforms": [{"type": "HorizontalFlip", "kwargs": {"p": "${P}"}}]}}}, True),
        ({"trainer": {"type": "TrainVal", "kwargs": {"max_epochs": "ten"}}}, False),
        ({"trainer": {"type": "TrainVal", "kwargs": {"max_epochs": "1${EPOCHS}"}}}, False),  # stays text
        ({"trainer": {"type": "TrainVal", "kwargs": {"max_epochs": 1.5}}}, False),
        ({"preprocess": {"size": ["${SIDE}"]}}, False),
        ({"preprocess": {"resize": "squeeze"}}, False),
        ({"loss": {"type": "FocalLoss", "kwargs": {"activation": "${NOT CLOSED"}}}, False),
    ],
)
def test_the_schema_knows_what_the_loader_takes_from_the_environment(section, fits, shipped_schema):
    errors = list(jsonschema.Draft202012Validator(shipped_schema).iter_errors({"type": "cls", **section}))
    assert bool(errors) is not fits, errors


def test_the_shipped_schema_is_todays(shipped_schema):
    """`make schema` writes it anew; components of other packages may differ with their versions, ours may not.

    In a process of its own: other tests register components of theirs.
    """
    result = subprocess.run(
        [sys.executable, "main.py", "--schema"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    today = json.loads(result.stdout)
    for section in ("trainer", "hooks", "preprocess", "evaluator", "loss", "lr_scheduler"):
        assert today["properties"][section] == shipped_schema["properties"][section], section
    assert today["$defs"]["dataloader"]["allOf"] == shipped_schema["$defs"]["dataloader"]["allOf"]


@pytest.mark.parametrize("path", TRAINVAL, ids=lambda p: p.name)
def test_training_configs_validate_and_run(path, request, tmp_path):
    import main

    raw = config.load(path)
    overrides = [
        f"trainer.kwargs.log_dir={tmp_path / 'runs'}", "trainer.kwargs.max_epochs=1", "trainer.kwargs.no_aug_epochs=0",
        "trainer.kwargs.test_after_train=false", "trainer.kwargs.eval_interval=0", "trainer.kwargs.ema=false",
        "dataloader.kwargs.num_workers=0", *TINY[raw["type"]](request),
    ]  # fmt: skip
    assert main.main(["-c", str(path), "--device", "cpu", "-o", *overrides]) == 0
    assert list(tmp_path.glob("runs/*/checkpoints/latest.ckpt"))


def tiny_cls(request):
    data = request.getfixturevalue("tiny_data")
    return [
        "preprocess.size=[32,32]", "model.kwargs.pretrained=false", "dataloader.kwargs.batch_size=8",
        f"dataloader.dataset.kwargs.data_dir={data}", f"evaluator.dataloader.dataset.kwargs.data_dir={data}",
    ]  # fmt: skip


def tiny_seg(request):
    table = request.getfixturevalue("tiny_masks") / "samples.csv"
    return [
        "preprocess.size=[64,64]", "model.kwargs.encoder_weights=null", "dataloader.kwargs.batch_size=8",
        f"dataloader.dataset.kwargs.csv_file={table}", f"evaluator.dataloader.dataset.kwargs.csv_file={table}",
    ]  # fmt: skip


def tiny_det(request):
    data = request.getfixturevalue("tiny_boxes")
    files = [f"json_file={data}/annotations/instances_{{split}}.json", f"data_dir={data}"]
    places = ("dataloader.dataset.kwargs", "evaluator.dataloader.dataset.kwargs")
    overrides = [f"{place}.{file}" for place in places for file in files]
    if "fasterrcnn" in request.node.callspec.id:
        overrides.append("model.kwargs.pretrained=false")
    return ["preprocess.size=[64,64]", "dataloader.kwargs.batch_size=8", *overrides]


def tiny_anomaly(request):
    """Class folders as MVTec has them: one class is good, another one bad."""
    root = request.getfixturevalue("tmp_path_factory").mktemp("mvtec")
    data = request.getfixturevalue("tiny_data")
    for source, target in (("train/blue", "train/good"), ("val/blue", "test/good"), ("val/red", "test/red")):
        shutil.copytree(data / source, root / target)
    places = ("dataloader.dataset.kwargs", "evaluator.dataloader.dataset.kwargs")
    shrunk = ["preprocess.size=[64,64]", "model.kwargs.pretrained=false"]
    return [*shrunk, *(f"{place}.data_dir={root}" for place in places)]


# what shrinks a training config of each task to a second
TINY = {"cls": tiny_cls, "seg": tiny_seg, "det": tiny_det, "anomaly": tiny_anomaly}


@pytest.mark.parametrize("path", [p for p in STAGES if p not in TRAINVAL], ids=lambda p: p.name)
def test_other_stages_name_components_that_exist(path):
    raw = config.load(path)
    left = [p for p in schema.validate(raw) if "section is missing" not in p.what]
    assert left == []


@pytest.mark.parametrize("kind", list(Registers.all()))
def test_every_component_has_a_schema_and_a_docstring(kind):
    register = getattr(Registers, kind)
    for name in register:
        component = register.get(name)
        assert schema._kwargs_schema(component, register.context)["type"] == "object"
        if getattr(component, "__module__", "").startswith("dao."):
            assert component.__doc__, f"{kind}: {name} has no docstring"
