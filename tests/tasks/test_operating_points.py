"""A threshold that was set means the same in the report, for the Predictor, in Demo and in an exported file; all four tasks.

The models answer with what they see: each picture is grey with a spot, and the spot's brightness is how bad it looks.
"""

import json
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import main
from dao.checkpoints import checkpoint
from dao.errors import ConfigError
from dao.evaluators import anomaly_report, confusion, detection_report, report, seg_report
from dao.models.anomaly.base import AnomalyModel
from dao.models.detection.answers import AnswerSettings, choose
from dao.predictor import Predictor
from dao.preprocess import Preprocess
from dao.register import Registers, import_all_modules_for_register
from dao.structures import AnomalyTruth, Batch
from dao.tasks import build

HW = (40, 48)
GROUND = 60
# brightness of the spots: bad parts and good ones overlap
BAD, GOOD = (95, 130, 150, 175, 190, 205, 220, 240), (80, 90, 110, 120, 140, 160, 200, 70)
CLASSES = {
    "cls": ["dent", "good", "scratch"],
    "seg": ["background", "scratch", "dent"],
    "det": ["scratch", "dent"],
    "anomaly": ["good", "bad"],
}


def brightness(images):
    """Normalised input -> (B, 1, H, W) of 0..1."""
    return images.mean(1, keepdim=True)


def seen_as_bad(q):
    """(B, ...) of 0..1 -> logits of none, 60 % of q, 40 % of q."""
    q = q.clamp(0.01, 0.99)
    return torch.stack([1 - q, 0.6 * q, 0.4 * q], 1).log()


class ClsByBrightness(nn.Module):
    def forward(self, images):
        return seen_as_bad(brightness(images).amax((1, 2, 3)))[:, [2, 0, 1]]


class SegByBrightness(nn.Module):
    def forward(self, images):
        seen = brightness(images)[:, 0]
        return seen_as_bad(torch.where(seen > (GROUND + 2) / 255, seen, 0.01))


class DetByBrightness(nn.Module):
    def __init__(self):
        super().__init__()
        self.answers = AnswerSettings()

    def forward(self, images):
        return self.detect(images, self.answers)

    def detect(self, images, settings):
        blocks = torch.nn.functional.avg_pool2d(brightness(images), 8)
        scores = (blocks - (GROUND + 2) / 255).clamp_min(0).flatten(1)
        rows, columns = blocks.shape[-2], blocks.shape[-1]
        places = torch.arange(rows * columns)
        left, top = places % columns * 8, places // columns * 8
        boxes = torch.stack([left, top, left + 8, top + 8], -1).float().expand(images.shape[0], -1, 4)
        return choose(boxes, scores, (places % 2).expand(images.shape[0], -1), 2, HW, settings)


class AnomalyByBrightness(AnomalyModel):
    def forward(self, images):
        return brightness(images) * 255, brightness(images).amax((1, 2, 3)) * 255


MODELS = {"cls": ClsByBrightness, "seg": SegByBrightness, "det": DetByBrightness, "anomaly": AnomalyByBrightness}
DATA = {
    "cls": ("ClsDataloader", "FolderDataset", {"split": "val"}),
    "seg": ("SegDataloader", "SegCsvDataset", {"csv_file": "samples.csv", "classes": CLASSES["seg"]}),
    "det": ("DetDataloader", "CocoDetection", {"json_file": "coco.json"}),
    "anomaly": ("AnomalyDataloader", "MVTecDataset", {"split": "test"}),
}
FACTS = {  # of a model that was just trained
    "cls": {"multi_label": False, "threshold": 0.5, "bad_classes": ["dent", "scratch"]},
    "seg": {"threshold": 0.5, "min_area": 5},
    "det": {},
    "anomaly": {"picture_threshold": 230.0, "picture_typical": 70.0, "pixel_threshold": 100.0, "pixel_typical": 60.0,
                "region_threshold": 230.0, "calibration": "an extreme-value fit"},
}  # fmt: skip
# the graphs that differ most from what the Predictor runs; exporting one takes most of a test, and .pt2 has its own below
_ONNX = {"type": "OnnxExporter", "kwargs": {"simplify": False}}
_WEIGHTS = {"type": "SafetensorsExporter"}
EXPORTED = {"cls": _WEIGHTS, "seg": _WEIGHTS, "det": _ONNX, "anomaly": _ONNX}
KEY = {"cls": "threshold", "seg": "threshold", "det": "score", "anomaly": "threshold"}


@pytest.fixture(scope="module", autouse=True)
def models():
    """The models by name, for as long as these tests run."""
    import_all_modules_for_register()
    for task, model in MODELS.items():
        register = getattr(Registers, f"{task}_models")

        def make(num_classes: int = 2, in_chans: int = 3, model=model) -> nn.Module:
            return model()

        register._components["ByBrightness"] = make
    yield
    for task in MODELS:
        del getattr(Registers, f"{task}_models")._components["ByBrightness"]


def write_pictures(root):
    """The same 16 pictures as class folders, with masks, with boxes, and as parts for anomaly detection."""
    rows, images, annotations = ["image,mask"], [], []
    for number, (value, bad) in enumerate([*((v, True) for v in BAD), *((v, False) for v in GOOD)]):
        image, mask = np.full((*HW, 3), GROUND, np.uint8), np.zeros(HW, np.uint8)
        top, left = 8 * (number % 4), 8 * (number % 5)
        image[top : top + 8, left : left + 8] = value
        mask[top : top + 8, left : left + 8] = bad
        name = f"{number:02}.png"
        folders = [
            f"val/{('scratch' if number % 2 else 'dent') if bad else 'good'}",
            "all",
            f"test/{'bad' if bad else 'good'}",
        ]
        for folder in folders:
            (root / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / folder / name), image)
        (root / "masks").mkdir(exist_ok=True)
        cv2.imwrite(str(root / "masks" / name), mask)
        rows.append(f"all/{name},masks/{name}")
        images.append({"id": number, "file_name": f"all/{name}", "height": HW[0], "width": HW[1]})
        if bad:
            box = {"bbox": [left, top, 8, 8], "area": 64, "iscrowd": 0, "category_id": 1}
            annotations.append({"id": number + 1, "image_id": number, **box})
    (root / "samples.csv").write_text("\n".join(rows))
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES["det"])]
    (root / "coco.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("spots")
    write_pictures(root)
    return root


class Bench:
    """Runs stages of one task in a folder of its own."""

    def __init__(self, task, pictures, folder):
        self.task, self.pictures, self.folder, self.runs = task, pictures, folder, 0
        self.ckpt = folder / "run" / "checkpoints" / "best.ckpt"
        self.write_checkpoint(FACTS[task])

    @property
    def evaluator(self):
        loader, dataset, kwargs = DATA[self.task]
        kwargs = {**kwargs, "data_dir": str(self.pictures)}
        for name in ("csv_file", "json_file"):
            if name in kwargs:
                kwargs[name] = str(self.pictures / kwargs[name])
        if self.task == "seg":
            kwargs.pop("data_dir")
        section = {"type": loader, "kwargs": {"batch_size": 5, "num_workers": 0}}
        kind = {"cls": "Cls", "seg": "Seg", "det": "Det", "anomaly": "Anomaly"}[self.task]
        return {"type": f"{kind}Evaluator", "dataloader": {**section, "dataset": {"type": dataset, "kwargs": kwargs}}}

    def write_checkpoint(self, facts, kwargs=None, old=False):
        """A run that ended with these facts in its card; kwargs: of the evaluator in its config; old: and no others."""
        preprocess = Preprocess(size=list(HW), mean=[0.0] * 3, std=[1.0] * 3, resize="stretch")
        task = build.task_class(self.task)(MODELS[self.task](), preprocess, CLASSES[self.task], facts=facts)
        evaluator = {**self.evaluator, "kwargs": {"worst": 0, **(kwargs or {})}}
        config = {"name": "spots", "type": self.task, "model": {"type": "ByBrightness"}, "evaluator": evaluator}
        card = task.card()
        if old:
            card.facts.clear()
            card.facts.update(facts)
        content = {"model": task.model.state_dict(), "ema": None, "card": card.to_json(), "epoch": 1, "metrics": {},
                   "best": {}, "config": json.dumps({**config, "preprocess": card.preprocess})}  # fmt: skip
        checkpoint.save(content, self.ckpt)

    def run(self, stage, ckpt, *overrides, expected=0, **sections):
        """Run a stage; the folder of what it wrote."""
        kwargs = {"ckpt": str(ckpt)}
        content = {"trainer": {"type": stage, "kwargs": kwargs}, **sections}
        path = self.folder / f"{stage}.json"
        path.write_text(json.dumps(content))
        before = set((self.folder / "run").glob("*/*"))
        changes = ["-o", *overrides] if overrides else []
        assert main.main(["-c", str(path), "--device", "cpu", *changes]) == expected, f"see {path}"
        new = [folder for folder in set((self.folder / "run").glob("*/*")) - before if folder.is_dir()]
        return new[0] if new else None

    def report(self, ckpt, *overrides, **sections):
        """metrics.json of an Eval."""
        folder = self.run("Eval", ckpt, *overrides, evaluator=self.evaluator, **sections)
        return json.loads((folder / "metrics.json").read_text())

    def demo(self, ckpt, *overrides):
        """{picture: verdict} of a Demo."""
        images = {"type": "ImageFiles", "kwargs": {"path": str(self.pictures / "all")}}
        sections = {"evaluator": {"kwargs": {}}} if overrides else {}
        plain = ["trainer.kwargs.sheet=0", "trainer.kwargs.heatmap=false"]
        folder = self.run("Demo", ckpt, *plain, *overrides, images=images, **sections)
        results = json.loads((folder / "results.json").read_text())["results"]
        return {row["path"].rsplit("/", 1)[-1]: row["verdict"] for row in results}

    def predicted(self, ckpt, facts=None):
        """{picture: verdict} of a Predictor."""
        predictor = Predictor(ckpt, "cpu", facts=facts)
        paths = sorted((self.pictures / "all").glob("*.png"))
        return {path.name: predictor.describe(predictor(path))["verdict"] for path in paths}


@pytest.fixture
def bench(pictures, tmp_path, monkeypatch):
    for module in (
        confusion,
        report,
        seg_report,
        detection_report,
        anomaly_report,
    ):  # plots have tests of their own, and take long
        monkeypatch.setattr(module, "save_figure", lambda figure, path: path, raising=False)
        monkeypatch.setattr(module, "new_figure", lambda *size: MagicMock(), raising=False)
    return lambda task: Bench(task, pictures, tmp_path)


def counts(factory):
    """(escapes, false alarms) of a report's section, or of one of its proposals."""
    return factory["escape_rate"]["count"], factory["false_alarm_rate"]["count"]


def mistakes(verdicts):
    """(escapes, false alarms) of verdicts by picture: the first pictures are the bad ones."""
    said = [verdicts[name] for name in sorted(verdicts)]
    return said[: len(BAD)].count("good"), said[len(BAD) :].count("bad")


@pytest.mark.parametrize("task", MODELS)
def test_a_proposed_threshold_gives_its_counts_in_report_predictor_demo_and_exported_file(task, bench):
    own = bench(task)
    before = own.report(own.ckpt)
    proposal = before["factory"]["false_alarm_at_escape"][0]
    point, promised = f"evaluator.kwargs.{KEY[task]}={proposal['threshold']!r}", counts(proposal)
    assert promised == (0, 5)  # the dimmest bad part is caught, with the good ones that are brighter than it
    assert counts(before["factory"]) != promised
    assert counts(before["factory"]) == mistakes(own.predicted(own.ckpt)) == mistakes(own.demo(own.ckpt))

    after = own.report(own.ckpt, point)
    assert counts(after["factory"]) == promised
    assert list(after["operating_point"]["set_by"].values()) == [f"set by evaluator.kwargs.{KEY[task]}"]
    facts = {"threshold": proposal["threshold"]}
    verdicts = own.predicted(own.ckpt, facts)
    assert mistakes(verdicts) == promised
    assert own.demo(own.ckpt, point) == verdicts

    export = EXPORTED[task]
    few = "trainer.kwargs.parity_images=4"
    folder = own.run("Export", own.ckpt, few, point, evaluator=own.evaluator, export=export)
    (exported,) = (path for path in folder.iterdir() if path.suffix in (".onnx", ".safetensors"))
    assert own.predicted(exported) == verdicts == own.demo(exported)
    assert counts(own.report(exported)["factory"]) == promised
    old = before["operating_point"][{"det": "shown_threshold", "anomaly": "picture_threshold"}.get(task, "threshold")]
    assert own.predicted(exported, {"threshold": old}) == own.predicted(own.ckpt)


OLD = {  # cards of versions that knew no operating points
    "cls": {"multi_label": False},
    "seg": {},
    "det": {"score_threshold": 0.01, "nms_threshold": 0.65, "max_detections": 300, "shown_threshold": 0.3, "raw": False},
    "anomaly": {name: value for name, value in FACTS["anomaly"].items() if name != "region_threshold"},
}  # fmt: skip


def test_cards_of_before_answer_as_they_did(bench):
    """Classes by the highest score, masks by the likeliest class with every speck, boxes from 0.3, every strange region."""
    picture = np.full((*HW, 3), GROUND, np.uint8)
    picture[8:16, 8:16], picture[30, 30] = 130, 200  # a spot that the likeliest class calls nothing, and a bright speck

    def answer(task):
        own = bench(task)
        own.write_checkpoint(OLD[task], old=True)
        predictor = Predictor(own.ckpt, "cpu")
        return predictor(picture), predictor

    found, _ = answer("cls")  # 1 - q, 0.6 q, 0.4 q with q of the speck: 0.22, 0.47, 0.31
    assert found.label == int(found.scores.argmax()) and found.bad is None
    found, predictor = answer("seg")
    assert found.mask.sum() == found.mask[30, 30] == 1 and found.bad
    assert predictor.describe(found)["score"] == pytest.approx(0.6 * 200 / 255, abs=1e-5)
    found, _ = answer("det")
    assert len(found.box_scores) == 1 and not found.bad
    found, _ = answer("anomaly")
    assert found.mask.sum() == 65 and not found.bad and found.label == 0


def test_what_an_old_training_config_said_of_its_boxes_holds_in_eval_and_not_in_demo(bench):
    own = bench("det")
    own.write_checkpoint(OLD["det"], {"score": 0.12}, old=True)
    path = own.folder / "bare.json"
    path.write_text(json.dumps({"trainer": {"type": "Eval", "kwargs": {"ckpt": str(own.ckpt)}}}))
    assert main.main(["-c", str(path), "--device", "cpu"]) == 0
    report = json.loads((own.folder / "run" / "eval" / "set" / "metrics.json").read_text())
    assert report["at_score"]["score"] == 0.12 and counts(report["factory"]) == (0, 5)
    assert mistakes(own.demo(own.ckpt)) == mistakes(own.predicted(own.ckpt)) == (2, 3)  # from 0.3, as before


def test_a_card_that_was_set_later_wins_over_the_training_config(bench):
    own = bench("det")
    own.write_checkpoint({**OLD["det"], "shown_threshold": 0.12, "set_by": {"shown_threshold": "Eval"}}, {"score": 0.5})
    path = own.folder / "bare.json"
    path.write_text(json.dumps({"trainer": {"type": "Eval", "kwargs": {"ckpt": str(own.ckpt)}}}))
    assert main.main(["-c", str(path), "--device", "cpu"]) == 0
    report = json.loads((own.folder / "run" / "eval" / "set" / "metrics.json").read_text())
    assert report["at_score"]["score"] == 0.12


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """As many other pictures that look the same, to find thresholds on."""
    root = tmp_path_factory.mktemp("others")
    write_pictures(root)
    return root


@pytest.mark.parametrize("task", MODELS)
def test_eval_finds_a_threshold_on_calibration_pictures_judges_by_it_and_saves_it_beside(task, bench, others):
    own = bench(task)
    untouched = own.ckpt.read_bytes()
    loader = Bench(task, others, own.folder / "others").evaluator["dataloader"]
    calibration = {"type": "EscapeRate", "kwargs": {"rate": 0}, "dataloader": loader}
    report = own.report(own.ckpt, "trainer.kwargs.save=true", calibration=calibration)
    assert counts(report["factory"]) == (0, 5)
    assert "0.00% escapes of 8 bad pictures" in json.dumps(report["operating_point"]["set_by"])
    saved = own.ckpt.with_name("best-point.ckpt")
    assert mistakes(own.predicted(saved)) == (0, 5) and own.ckpt.read_bytes() == untouched
    card = json.loads(next((own.folder / "run" / "eval").glob("*/card.json")).read_text())
    assert card["facts"] == json.loads(checkpoint.load(saved)["card"])["facts"]


def test_calibration_and_a_given_threshold_contradict_each_other(bench, others, capsys):
    own = bench("cls")
    loader = Bench("cls", others, own.folder / "others").evaluator["dataloader"]
    sections = {"evaluator": {**own.evaluator, "kwargs": {"threshold": 0.4}}, "calibration": {"type": "EscapeRate"}}
    own.run("Eval", own.ckpt, expected=2, **sections)
    assert "calibration.dataloader.dataset" in capsys.readouterr().err
    sections["calibration"]["dataloader"] = loader
    own.run("Eval", own.ckpt, expected=2, **sections)
    assert "evaluator.kwargs.threshold" in capsys.readouterr().err
    sections = {
        "evaluator": own.evaluator,
        "calibration": {"type": "EscapeRate", "dataloader": own.evaluator["dataloader"]},
    }
    own.run("Eval", own.ckpt, expected=2, **sections)
    assert "are in the evaluator's set as well" in capsys.readouterr().err


@pytest.mark.parametrize("exporter", ["TorchExporter", "SafetensorsExporter"])
def test_eval_judges_every_kind_of_exported_file(exporter, bench):
    own = bench("cls")
    # scratch against good, 0.6 q / (0.6 q + 1 - q), lies at 0.263 for the least bad part (q = 95 / 255), at 0.247 for 90 / 255
    export = {"type": exporter, "kwargs": {"facts": {"threshold": 0.252}}}
    folder = own.run("Export", own.ckpt, "trainer.kwargs.parity_images=1", evaluator=own.evaluator, export=export)
    (exported,) = (path for path in folder.iterdir() if path.suffix in (".pt2", ".safetensors"))
    trust = ["trainer.kwargs.trust=true"] if exported.suffix == ".pt2" else []
    report = own.report(exported, *trust)
    assert counts(report["factory"]) == (0, 5)
    assert report["operating_point"]["set_by"]["threshold"] == "set by export.kwargs.facts.threshold"


def test_an_exported_file_is_not_written_to(tmp_path):
    exported = tmp_path / "model.onnx"
    exported.write_bytes(b"")
    (problem,) = Registers.trainers.get("Eval").check_config({"ckpt": str(exported), "save": True}, "trainer.kwargs")
    assert problem.where == "trainer.kwargs.save" and "cannot change an exported file" in problem.what


def test_thresholds_of_single_classes_count_in_report_and_predictor_alike(bench):
    """The dent, 0.4 q, gets a threshold that none reaches, and has no part in the others' judgement."""
    own = bench("cls")
    report = own.report(own.ckpt, 'evaluator.kwargs.class_thresholds={"dent": 0.5}')
    q = np.array([*BAD, *GOOD]) / 255
    said = (0.4 * q >= 0.5) | (0.6 * q >= 1 - q)  # the scratch, 0.6 q, against good, 1 - q, at 0.5
    expected = (int((~said[:8]).sum()), int(said[8:].sum()))
    assert (
        counts(report["factory"]) == expected == mistakes(own.predicted(own.ckpt, {"class_thresholds": {"dent": 0.5}}))
    )
    for task, own_class, threshold in (("seg", "scratch", 0.45), ("det", "scratch", 0.5)):
        own = bench(task)
        point = {"class_thresholds": {own_class: threshold}}
        report = own.report(own.ckpt, f"evaluator.kwargs.class_thresholds={json.dumps(point['class_thresholds'])}")
        assert (
            counts(report["factory"]) == mistakes(own.predicted(own.ckpt, point)) != mistakes(own.predicted(own.ckpt))
        )


@pytest.mark.parametrize(
    ("task", "facts", "said"),
    [
        ("cls", {"class_thresholds": {"dnt": 0.4}}, "facts.class_thresholds.dnt +is not a class"),
        ("cls", {"class_thresholds": {"good": 0.4}}, "means a good part"),
        ("cls", {"bad_classes": ["dent", "good", "scratch"]}, "names every class"),
        ("cls", {"bad_classes": "dent"}, 'facts.bad_classes +expected a list of classes, as ."scratch".'),
        ("cls", {"bad_classes": 5}, "expected a list of classes"),
        ("cls", {"bad_classes": ["dent", "dent"]}, "names 'dent' twice"),
        ("cls", {"threshold": 0}, "facts.threshold +expected above 0, at most 1"),
        ("cls", {"threshold": 10**400}, "facts.threshold +expected above 0, at most 1"),
        ("seg", {"min_area": 0}, "facts.min_area +expected a number of pixels"),
        ("seg", {"class_thresholds": {"background": 0.4}}, "is the background"),
        ("det", {"score": 0.4, "shown_threshold": 0.5}, "facts.shown_threshold +is given twice, also as 'score'"),
        ("det", {"score": 0.4, "threshold": 0.5}, "facts.threshold +is given twice, also as 'score'"),
        ("det", {"score": None}, "facts.score +expected above 0, at most 1, got None"),
        ("det", {"score": "0.5"}, "facts.score +expected above 0, at most 1, got '0.5'"),
        ("det", {"score": 2}, "facts.score +expected above 0, at most 1, got 2"),
        ("det", {"score": 0.001}, "facts.score +is below score_threshold"),
        ("det", {"max_detections": 5}, "facts.max_detections +is part of the file"),
        ("anomaly", {"threshold": 10**400}, "facts.threshold +must be a number"),
        ("anomaly", {"threshold": "high"}, "facts.threshold +must be a number"),
        ("anomaly", {"set_by": {}}, "facts.set_by +is no fact"),
    ],
)
def test_points_that_make_no_sense_are_refused_with_their_place(task, facts, said, bench):
    with pytest.raises(ConfigError, match=said):
        Predictor(bench(task).ckpt, "cpu", facts=facts)


def test_a_threshold_set_by_hand_is_said_and_survives_calibration(bench):
    preprocess = Preprocess(size=list(HW), mean=[0.0] * 3, std=[1.0] * 3, resize="stretch")
    task = build.task_class("anomaly")(AnomalyByBrightness(), preprocess, ["good", "bad"])
    task = task.with_facts({"threshold": 123.0}, "evaluator.kwargs")
    images = torch.full((3, 3, *HW), 90.0) + torch.arange(3)[:, None, None, None]
    truths = [AnomalyTruth("good", False, np.zeros(HW, bool))] * 3
    batch = Batch(images, truths, list("abc"), [0, 1, 2], [HW] * 3)
    task.calibrate(None, [batch])
    facts = task.facts
    assert facts["picture_threshold"] == 123.0 and facts["pixel_threshold"] < 100
    assert facts["calibration"].startswith("picture_threshold 123, set by evaluator.kwargs.threshold, not calibrated")
    bright = AnomalyByBrightness()
    assert task.normalised(bright(torch.full((1, 3, *HW), 123 / 255))[1], "picture") == pytest.approx(0.5)


def test_a_threshold_of_the_config_holds_against_the_checkpoint_that_is_gone_on_from():
    preprocess = Preprocess(size=list(HW), mean=[0.0] * 3, std=[1.0] * 3, resize="stretch")
    task = build.task_class("anomaly")(AnomalyByBrightness(), preprocess, ["good", "bad"])
    task.take_over({name: FACTS["anomaly"][name] for name in task.learned_facts})
    assert task.facts["picture_threshold"] == 230 and not task.facts["set_by"]
    task = task.with_facts({"threshold": 50.0}, "evaluator.kwargs")
    task.take_over({name: FACTS["anomaly"][name] for name in task.learned_facts})
    assert task.facts["picture_threshold"] == 50 > task.facts["picture_typical"]  # which was 70
    assert task.facts["set_by"] == {"picture_threshold": "set by evaluator.kwargs.threshold"}


def test_a_threshold_for_demo_and_export_leaves_the_models_bad_classes_as_they_are(bench):
    """By their names scratches are bad as well; this model was told that they are not."""
    own = bench("cls")
    own.write_checkpoint({**FACTS["cls"], "bad_classes": ["dent"], "set_by": {"bad_classes": "hand"}})
    expected = own.predicted(own.ckpt, {"threshold": 0.3})
    assert own.demo(own.ckpt, "evaluator.kwargs.threshold=0.3") == expected
    export = {"type": "SafetensorsExporter"}
    few = "trainer.kwargs.parity_images=2"
    folder = own.run("Export", own.ckpt, few, "evaluator.kwargs.threshold=0.3", evaluator=own.evaluator, export=export)
    assert own.predicted(next(folder.glob("*.safetensors"))) == expected


def test_taking_the_threshold_of_masks_away_asks_for_the_likeliest_class(bench):
    """And not for the class map that the model made by the threshold that it had."""
    own = bench("seg")
    own.write_checkpoint({**FACTS["seg"], "threshold": 0.9})
    without = own.predicted(own.ckpt, {"threshold": None})
    own.write_checkpoint({**FACTS["seg"], "threshold": None})
    assert without == own.predicted(own.ckpt) and mistakes(without) == (3, 2)


def test_a_file_whose_own_verdict_or_class_map_differs_is_not_proven():
    """Programs that read the file's arrays go by those, and our own decoding makes them anew."""
    pixels = np.full((1, *HW, 3), GROUND, np.uint8)
    pixels[:, 8:16, 8:16] = 240
    for name, wrong in (("seg", "class_map"), ("anomaly", "is_bad")):
        preprocess = Preprocess(size=list(HW), mean=[0.0] * 3, std=[1.0] * 3, resize="stretch")
        task = build.task_class(name)(MODELS[name](), preprocess, CLASSES[name], facts=FACTS[name])
        mine = task.run(pixels)
        assert task.compare(mine, mine, task.card(), HW)["agree"]
        assert not task.compare(mine, {**mine, wrong: np.zeros_like(mine[wrong])}, task.card(), HW)["agree"]


def test_a_good_picture_of_a_model_scored_by_its_map_shows_no_region(bench):
    """A large dim region lies above the pixel threshold, and below what makes a picture bad."""
    own = bench("anomaly")
    predictor = Predictor(own.ckpt, "cpu")
    picture = np.full((*HW, 3), GROUND, np.uint8)
    picture[8:32, 8:32] = 180
    found = predictor(picture)
    assert not found.bad and not found.mask.any() and predictor.describe(found)["verdict_and_region"] == ""
    assert predictor.describe(found)["suspect_share"] == pytest.approx(0.3)
    assert predictor.caption(found).startswith(
        "good"
    ) and "30.0 % of the picture above the pixel threshold" in predictor.caption(found)
    picture[20, 20] = 240  # a peak makes it bad, and the whole region is shown
    found = predictor(picture)
    assert found.bad and found.mask.sum() == 576
    contradicting = Predictor(own.ckpt, "cpu", facts={"region_threshold": 100.0})
    picture[20, 20] = 180
    found = contradicting(picture)
    assert not found.bad and "good with 30.0% outlined" in contradicting.caption(found)


def test_demo_may_be_told_which_classes_are_good(bench):
    own = bench("cls")
    own.write_checkpoint({"multi_label": False, "threshold": 0.5}, {"good": ["dent"]}, old=True)
    assert mistakes(own.demo(own.ckpt, 'evaluator.kwargs.good=["good"]')) == mistakes(bench("cls").predicted(own.ckpt))


def test_training_refuses_a_calibration_that_would_do_nothing(tiny_config, write_config, capsys):
    path = write_config(tiny_config, {"calibration": {"type": "EscapeRate"}})
    assert main.main(["-c", str(path), "--device", "cpu"]) == 2
    assert "Eval takes the section" in capsys.readouterr().err
