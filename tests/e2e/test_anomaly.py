"""Anomaly detection through main.py, as a user runs it: the four stages, resume, several processes, mistakes."""

import json

import cv2
import numpy as np
import pytest
import torch

import main
from dao.checkpoints import checkpoint
from dao.predictor import Predictor

KINDS = ("bright", "dark")  # as conftest.py makes them


def run(*argv):
    return main.main([str(a) for a in argv])


PATCHCORE = {
    "model": {"type": "PatchCore", "kwargs": {"backbone": "test_resnet", "layers": ["layer1", "layer2"], "sigma": 1.0}}
}


SPADE = {
    "model": {"type": "SPADE", "kwargs": {"backbone": "test_resnet", "layers": ["layer1", "layer2"], "neighbours": 5}}
}
STFPM = {
    "model": {"type": "STFPM", "kwargs": {"backbone": "test_resnet", "layers": ["layer1", "layer2"], "sigma": 1.0}},
    "optimizer": {"type": "adamw", "kwargs": {"lr": 0.01}},
    "trainer.kwargs.max_epochs": 12,
    "trainer.kwargs.eval_interval": 12,
}
EFFICIENT = {  # on pictures of 40 pixels a place that sees 33 needs padding
    "model": {"type": "EfficientAD", "kwargs": {"backbone": "test_resnet", "layers": ["layer1"], "padding": True}},
    "optimizer": {"type": "adam", "kwargs": {"lr": 0.0003}},
    "trainer.kwargs.max_epochs": 12,
    "trainer.kwargs.eval_interval": 12,
}
ALL = {"padim": {}, "patchcore": PATCHCORE, "spade": SPADE, "stfpm": STFPM, "efficientad": EFFICIENT}


@pytest.mark.parametrize("changes", ALL.values(), ids=ALL)
def test_all_four_stages(changes, tiny_anomaly_config, tiny_parts, write_config, tmp_path):
    rare = {"calibration": {"type": "FalseAlarmRate", "kwargs": {"rate": 0.001}}}  # 4 pictures tell of little more
    assert run("-c", write_config(tiny_anomaly_config, {**changes, **rare}), "--device", "cpu") == 0
    trained = tmp_path / "runs" / "tinyparts"
    report = json.loads((trained / "eval" / "final" / "metrics.json").read_text())
    assert report["picture"]["auroc"] == 1.0 and report["pixel"]["auroc"] > 0.9
    assert set(report["per_kind"]) == set(KINDS) and report["per_kind"]["dark"]["pixel"]["regions"] == 3
    assert report["factory"]["escape_rate"]["count"] == len(report["escapes"]) == 0
    for name in ("pictures.csv", "per_kind.csv", "scores.png", "escape_vs_false_alarm.png", "worst.png"):
        assert (trained / "eval" / "final" / name).is_file()

    assert run("-c", write_config({"trainer": {"type": "Eval", "kwargs": {"ckpt": str(trained)}}})) == 0
    again = json.loads((trained / "eval" / "test" / "metrics.json").read_text())
    assert again == report

    export = {"trainer": {"type": "Export", "kwargs": {"ckpt": str(trained)}}, "export": {"type": "OnnxExporter"}}
    assert run("-c", write_config(export)) == 0
    parity = json.loads((trained / "export" / "model" / "parity.json").read_text())
    (summary,) = parity["files"].values()
    assert summary["passed"] and summary["agreement"] == 1.0
    exported = next(trained.glob("export/model/*.onnx"))
    card = Predictor(exported).card
    assert "held out" in card.facts["calibration"]

    answers = []
    for ckpt in (trained, exported):
        demo = {
            "trainer": {"type": "Demo", "kwargs": {"ckpt": str(ckpt)}},
            "images": {"type": "ImageFiles", "kwargs": {"path": f"{tiny_parts}/test/*/00.png"}},
        }
        assert run("-c", write_config(demo)) == 0
        newest = max(tmp_path.glob("**/demo/*/results.json"), key=lambda path: path.stat().st_mtime_ns)
        answers.append(json.loads(newest.read_text())["results"])
    assert [r["label"] for r in answers[0]] == [r["label"] for r in answers[1]] == ["bad", "bad", "good"]
    bad = answers[0][0]
    grey = cv2.imread(str(newest.parent / bad["map"]), cv2.IMREAD_UNCHANGED)
    assert grey.shape == (40, 48) and bad["regions"] and (newest.parent / "contact_sheet.png").is_file()


def test_the_final_report_goes_by_the_best_checkpoints_thresholds_not_the_last_epochs(
    tiny_anomaly_config, write_config, tmp_path
):
    worst_is_best = {"hooks": [{"type": "BestCheckpoint", "kwargs": {"mode": "min"}}]}
    changes = {**STFPM, "trainer.kwargs.max_epochs": 4, "trainer.kwargs.eval_interval": 1, **worst_is_best}
    assert run("-c", write_config(tiny_anomaly_config, changes), "--device", "cpu") == 0
    trained = tmp_path / "runs" / "tinyparts"
    best, last = (checkpoint.load(trained / "checkpoints" / f"{name}.ckpt") for name in ("best", "latest"))
    assert best["epoch"] < last["epoch"]
    thresholds = [json.loads(content["card"])["facts"]["picture_threshold"] for content in (best, last)]
    assert thresholds[0] != thresholds[1]
    assert run("-c", write_config({"trainer": {"type": "Eval", "kwargs": {"ckpt": str(trained)}}})) == 0
    reports = [json.loads((trained / "eval" / name / "metrics.json").read_text()) for name in ("final", "test")]
    assert reports[0] == reports[1]
    scores = [(trained / "eval" / name / "pictures.csv").read_text() for name in ("final", "test")]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("changes", [{}, PATCHCORE, SPADE], ids=["padim", "patchcore", "spade"])
def test_one_and_three_processes_make_the_same_model(changes, tiny_anomaly_config, write_config, tmp_path):
    """16 pictures to learn from in batches of 3: no process count divides them."""
    weights, reports = [], []
    for count in (1, 3):
        path = write_config(tiny_anomaly_config, {**changes, "name": f"by{count}"})
        assert run("-c", path, "--device", "cpu", "--devices", count) == 0
        folder = tmp_path / "runs" / f"by{count}"
        weights.append(checkpoint.load(folder / "checkpoints" / "best.ckpt"))
        reports.append(json.loads((folder / "eval" / "final" / "metrics.json").read_text()))
    for name, value in weights[0]["model"].items():
        np.testing.assert_allclose(value.numpy(), weights[1]["model"][name].numpy(), rtol=1e-4, atol=1e-4)
    first, second = (json.loads(content["card"])["facts"]["picture_threshold"] for content in weights)
    assert first == pytest.approx(second, rel=1e-4)
    assert reports[0]["picture"] == pytest.approx(reports[1]["picture"], rel=1e-4)
    assert reports[0]["pixel"] == pytest.approx(reports[1]["pixel"], rel=1e-3)


def test_a_finished_run_is_resumed_with_its_thresholds(tiny_anomaly_config, write_config, tmp_path):
    assert run("-c", write_config(tiny_anomaly_config)) == 0
    folder = tmp_path / "runs" / "tinyparts"
    before = checkpoint.load(folder / "checkpoints" / "latest.ckpt")["card"]
    assert run("-c", write_config(tiny_anomaly_config), "-o", f"trainer.kwargs.resume={folder}") == 0
    assert checkpoint.load(folder / "checkpoints" / "latest.ckpt")["card"] == before


def test_thresholds_from_a_calibration_set_with_defects(
    tiny_anomaly_config, tiny_parts, write_config, tmp_path, capsys
):
    import shutil

    other = tmp_path / "calibration"
    shutil.copytree(tiny_parts, other)
    section = {
        "type": "BestF1",
        "dataloader": {
            "type": "AnomalyDataloader",
            "kwargs": {"num_workers": 0},
            "dataset": {"type": "MVTecDataset", "kwargs": {"data_dir": str(other), "split": "test"}},
        },
    }
    changes = {"calibration": section, "dataloader.dataset.kwargs.held_out": 0.0}
    assert run("-c", write_config(tiny_anomaly_config, changes)) == 0
    facts = Predictor(tmp_path / "runs" / "tinyparts").card.facts
    assert "best F1, 1.000" in facts["calibration"] and "calibration set" in facts["calibration"]
    section["dataloader"]["dataset"]["kwargs"]["data_dir"] = str(tiny_parts)
    assert run("-c", write_config(tiny_anomaly_config, changes)) == 2
    assert "in the evaluator's set as well" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": {"type": "adamw"}}, "brings its own"),
        ({"trainer.kwargs.ema": True}, "no weights to average"),
        ({"model.kwargs.layers": ["layer7"]}, "has no layer"),
        ({"dataloader.dataset.kwargs.data_dir": "nowhere"}, "nowhere"),
        ({"dataloader.dataset.kwargs.held_out": 1.5}, "held_out"),
        ({"calibration": {"type": "FalseAlarmRate", "kwargs": {"rate": 0.9}}}, "calibration.kwargs.rate"),
        ({"calibration": {"type": "BestF1"}}, "needs defective pictures"),
        ({"preprocess.resize": "tile"}, "PatchCore, which does not mind the place"),
        ({"preprocess.resize": "crop"}, "it takes letterbox, stretch, tile"),
        ({"trainer.kwargs.best_metric": "picture/auroq"}, "picture/auroc"),
    ],
)
def test_mistakes_end_in_one_message(tiny_anomaly_config, write_config, changes, words, capsys):
    assert run("-c", write_config(tiny_anomaly_config, changes)) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


@pytest.fixture(scope="module")
def parts_with_background(tmp_path_factory):
    """Plain folders: a part in the middle of a background that differs in every picture, with dirt in some good ones."""
    root = tmp_path_factory.mktemp("plain")

    def write(folder, seed, defect=False, dirt=False):
        rng = np.random.default_rng(seed)
        image = rng.integers(110, 130, (40, 48, 3), dtype=np.uint8)
        if dirt:  # more than any defect
            image[2:10, 2:40] = rng.integers(0, 256, (8, 38, 3), dtype=np.uint8)
        mask = np.zeros((40, 48), np.uint8)
        if defect:
            image[22:30, 20:28], mask[22:30, 20:28] = 255, 255
            (root / "truth" / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / "truth" / folder / f"{seed}.png"), mask)
        (root / "parts" / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "parts" / folder / f"{seed}.png"), image)

    for i in range(24):
        write("good", i, dirt=i % 12 == 0)
    for i in range(4):
        write("spot", 100 + i, defect=True, dirt=bool(i % 2))
    return root


REGION = [[[0.1, 0.4], [0.9, 0.4], [0.9, 0.95], [0.1, 0.95]]]


@pytest.fixture
def own_config(tiny_anomaly_config, parts_with_background):
    settings = {"data_dir": str(parts_with_background / "parts"), "mask_dir": str(parts_with_background / "truth")}
    for section, split in ((tiny_anomaly_config, "train"), (tiny_anomaly_config["evaluator"], "test")):
        kwargs = {**settings, "split": split, "test_ratio": 0.25}
        section["dataloader"]["dataset"] = {"type": "AnomalyFolderDataset", "kwargs": kwargs}
    tiny_anomaly_config["preprocess"] = {"size": [34, 42], "resize": "stretch"}  # no multiple of the features' cells
    return tiny_anomaly_config


REGIONAL = ("padim", "patchcore")  # what a region means for EfficientAD: tests/models/anomaly/test_efficient_ad.py


@pytest.mark.parametrize("changes", [ALL[name] for name in REGIONAL], ids=REGIONAL)
def test_a_region_of_interest_in_all_stages(changes, own_config, parts_with_background, write_config, tmp_path):
    region = {"dataloader.dataset.kwargs.region": REGION}
    assert run("-c", write_config(own_config, {**changes, **region}), "--device", "cpu") == 0
    trained = tmp_path / "runs" / "tinyparts"
    report = json.loads((trained / "eval" / "final" / "metrics.json").read_text())
    assert report["pictures"] == 10 and report["picture"]["auroc"] == 1.0 and report["pixel"]["auroc"] > 0.9
    assert report["factory"]["escape_rate"]["count"] == 0

    exported = []
    for exporter, pattern in (("OnnxExporter", "*.onnx"), ("TorchExporter", "*.pt2")):
        export = {"trainer": {"type": "Export", "kwargs": {"ckpt": str(trained)}}, "export": {"type": exporter}}
        assert run("-c", write_config(export)) == 0
        (file,) = trained.glob(f"export/**/{pattern}")
        (summary,) = json.loads((file.parent / "parity.json").read_text())["files"].values()
        assert summary["passed"] and summary["agreement"] == 1.0
        exported.append(file)

    clean = np.full((40, 48, 3), 120, np.uint8)
    dirty = clean.copy()
    dirty[2:10, 4:44] = np.random.default_rng(0).integers(0, 256, (8, 40, 3), dtype=np.uint8)
    for ckpt in (trained, *exported):
        predictor = Predictor(ckpt, trust=True)
        assert predictor.card.facts["region"] == [REGION]
        found = predictor(dirty)
        outside = ~found.region
        assert 0.3 < found.region.mean() < 0.6
        inner = cv2.erode(outside.astype(np.uint8), np.ones((5, 5)), borderValue=1) > 0
        assert found.raw_map[inner].max() == 0 and not found.mask[inner].any()
        assert found.raw_score == pytest.approx(predictor(clean).raw_score, rel=0.05, abs=1e-3)


def test_without_the_region_the_same_dirt_votes(own_config, write_config, tmp_path):
    """The test above can fail: the dirt is what this model finds strangest."""
    assert run("-c", write_config(own_config, PATCHCORE)) == 0
    predictor = Predictor(tmp_path / "runs" / "tinyparts")
    dirty = np.full((40, 48, 3), 120, np.uint8)
    dirty[2:10, 4:44] = np.random.default_rng(0).integers(0, 256, (8, 40, 3), dtype=np.uint8)
    found = predictor(dirty)
    assert found.region is None and found.raw_map[:12].max() == found.raw_map.max() > 0


@pytest.mark.parametrize("shots", [2, 8])
@pytest.mark.parametrize("changes", [{}, PATCHCORE], ids=["padim", "patchcore"])
def test_few_pictures_do_not_reject_everything(changes, shots, own_config, write_config, tmp_path):
    few = {
        "dataloader.dataset.kwargs.shots": shots, "dataloader.dataset.kwargs.repeat": 8,
        "dataloader.dataset.kwargs.region": REGION,
        "dataloader.dataset.transforms": [
            {"type": "Affine", "kwargs": {"translate_percent": [-0.1, 0.1], "rotate": [-8, 8], "p": 1.0}},
            {"type": "HorizontalFlip"},
        ],
    }  # fmt: skip
    assert run("-c", write_config(own_config, {**changes, **few}), "--device", "cpu") == 0
    report = json.loads((tmp_path / "runs" / "tinyparts" / "eval" / "final" / "metrics.json").read_text())
    facts = Predictor(tmp_path / "runs" / "tinyparts").card.facts
    assert "augmented views" in facts["calibration"]
    assert len(report["false_alarms"]) <= 3 and report["picture"]["auroc"] == 1.0
    assert not report["escapes"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preprocess.resize": "letterbox"}, "only"),
        ({"dataloader.dataset.kwargs.region": [[[0, 0], [3, 0], [3, 3]]]}, "0..1"),
        ({"dataloader.dataset.kwargs.region": "nowhere.png"}, "nowhere.png"),
        ({"evaluator.dataloader.dataset.kwargs.region": REGION}, "belongs to the training set"),
        ({"dataloader.dataset.kwargs.shots": 4}, "dataset.transforms"),
        ({"dataloader.dataset.kwargs.good": "perfect"}, "no folder 'perfect'"),
    ],
)
def test_mistakes_with_own_pictures_end_in_one_message(own_config, write_config, changes, words, capsys):
    changes = {"dataloader.dataset.kwargs.region": REGION, **changes}
    assert run("-c", write_config(own_config, changes)) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


def test_a_student_is_trained_by_three_processes_and_its_stop_loses_nothing(
    tiny_anomaly_config, write_config, tmp_path
):
    """16 pictures to learn from in batches of 5: two of three processes find their last batch empty."""
    changes = {
        **STFPM,
        "dataloader.kwargs.batch_size": 5,
        "trainer.kwargs.max_epochs": 2,
        "trainer.kwargs.eval_interval": 2,
        "name": "by3",
    }
    assert run("-c", write_config(tiny_anomaly_config, changes), "--device", "cpu", "--devices", 3) == 0
    for name, hooks in (("whole", []), ("parts", [{"type": "StopAt", "kwargs": {"iteration": 6}}]), ("parts", [])):
        path = write_config(tiny_anomaly_config, {**changes, "name": name, "hooks": hooks})
        assert run("-c", path, "--device", "cpu", "--resume") == (143 if hooks else 0)
    whole, parts = (
        checkpoint.load(tmp_path / "runs" / name / "checkpoints" / "latest.ckpt") for name in ("whole", "parts")
    )
    assert whole["epoch"] == parts["epoch"] == 2
    assert all(torch.equal(whole["model"][name], parts["model"][name]) for name in whole["model"])
    assert whole["card"] == parts["card"]  # with its thresholds


def test_a_run_that_is_stopped_while_the_teacher_is_distilled_loses_nothing(
    tiny_anomaly_config, tiny_parts, write_config, tmp_path
):
    """Two epochs of 7 iterations, 8 of them the teacher's: stopped in each phase, with an average of the weights."""
    network = {**EFFICIENT["model"]["kwargs"], "distil_steps": 8, "penalty_folder": str(tiny_parts / "test")}
    changes = {
        "model.type": "EfficientAD", "model.kwargs": network, "optimizer": EFFICIENT["optimizer"],
        "trainer.kwargs.max_epochs": 2, "evaluator": None, "trainer.kwargs.ema": True,
    }  # fmt: skip
    for name, stop in (("whole", 0), ("parts", 5), ("parts", 11), ("parts", 0)):
        hooks = [{"type": "StopAt", "kwargs": {"iteration": stop}}] if stop else []
        path = write_config(tiny_anomaly_config, {**changes, "name": name, "hooks": hooks})
        assert run("-c", path, "--device", "cpu", "--resume") == (143 if stop else 0)
        latest = checkpoint.load(tmp_path / "runs" / name / "checkpoints" / "latest.ckpt")
        holds_what_it_learns_from = any(name.startswith("teacher.features.") for name in latest["model"])
        assert latest["model"]["teacher.distilled"] == min(stop or 8, 8) and holds_what_it_learns_from == (stop == 5)
    whole, parts = (
        checkpoint.load(tmp_path / "runs" / name / "checkpoints" / "latest.ckpt") for name in ("whole", "parts")
    )
    for kind in ("model", "ema"):
        assert whole[kind].keys() == parts[kind].keys()
        assert all(torch.equal(whole[kind][name], parts[kind][name]) for name in whole[kind])
    assert whole["card"] == parts["card"]
    for name, value in whole["model"].items():
        if name.startswith("teacher."):  # the average answers by the teacher that the student learnt from
            assert torch.equal(value, whole["ema"][name])
    assert not torch.equal(whole["model"]["student.conv1.weight"], whole["ema"]["student.conv1.weight"])


def test_processes_distil_one_teacher_together_and_may_be_stopped(tiny_anomaly_config, write_config, tmp_path):
    """In each phase some weights have no gradient, on every process."""
    network = {**EFFICIENT["model"]["kwargs"], "distil_steps": 2}
    changes = {
        "model.type": "EfficientAD", "model.kwargs": network, "optimizer": EFFICIENT["optimizer"],
        "trainer.kwargs.max_epochs": 2, "evaluator": None,
    }  # fmt: skip
    for stop in (1, 0):
        hooks = [{"type": "StopAt", "kwargs": {"iteration": stop}}] if stop else []
        path = write_config(tiny_anomaly_config, {**changes, "hooks": hooks})
        assert run("-c", path, "--device", "cpu", "--devices", 2, "--resume") == (143 if stop else 0)
    latest = checkpoint.load(tmp_path / "runs" / "tinyparts" / "checkpoints" / "latest.ckpt")
    assert latest["model"]["teacher.known"] == 1 and latest["model"]["teacher.distilled"] == 2 and latest["epoch"] == 2
    assert json.loads(latest["card"])["facts"]["picture_threshold"] > 0


def test_a_student_without_an_autoencoder_takes_tiles(tiny_anomaly_config, write_config, tmp_path, capsys):
    tiled = {**EFFICIENT, "preprocess.resize": "tile", "preprocess.size": [32, 32]}
    assert run("-c", write_config(tiny_anomaly_config, tiled)) == 2
    assert "windows from anywhere" in capsys.readouterr().err
    network = {**EFFICIENT["model"]["kwargs"], "autoencoder": False}
    changes = {**tiled, "model": {"type": "EfficientAD", "kwargs": network}}
    assert run("-c", write_config(tiny_anomaly_config, changes), "--device", "cpu") == 0
    report = json.loads((tmp_path / "runs" / "tinyparts" / "eval" / "final" / "metrics.json").read_text())
    assert report["picture"]["auroc"] > 0.9 and report["pixel"]["auroc"] > 0.8
