"""A threshold that was set means the same in the report, for the Predictor, in Demo and in an exported file; all four tasks.

The models answer with what they see: each picture is grey with a spot, and the spot's brightness is how bad it looks.
"""

import json

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import main
from dao.models.anomaly.base import AnomalyModel
from dao.models.detection.answers import AnswerSettings, choose
from dao.predictor import Predictor
from dao.preprocess import Preprocess
from dao.register import Registers, import_all_modules_for_register
from dao.tasks import build
from dao.utils import checkpoint

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
def bench(pictures, tmp_path):
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

    folder = own.run("Export", own.ckpt, point, evaluator=own.evaluator, export={"type": "OnnxExporter"})
    (exported,) = folder.glob("*.onnx")
    assert own.predicted(exported) == verdicts == own.demo(exported)
    assert counts(own.report(exported)["factory"]) == promised
    old = before["operating_point"][{"det": "shown_threshold", "anomaly": "picture_threshold"}.get(task, "threshold")]
    assert counts(own.report(exported, f"evaluator.kwargs.{KEY[task]}={old}")["factory"]) == counts(before["factory"])
    assert own.predicted(exported, {"threshold": old}) == own.predicted(own.ckpt)
