"""An export is proven by answers that could have differed: an empty comparison is no proof, whatever the task."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import dao.register
from dao.exporters.base import Exporter
from dao.preprocess import Preprocess
from dao.register import Registers
from dao.structures import Sample
from dao.tasks.anomaly import AnomalyTask
from dao.tasks.backends import TorchBackend
from dao.tasks.classification import ClassificationTask
from dao.tasks.detection import DetectionTask
from dao.tasks.segmentation import SegmentationTask
from dao.trainers.base import BadPictures
from dao.trainers.export import Export
from dao.trainers.proof import Proof

CPU, ATOL = torch.device("cpu"), 1e-3


def proof_of(task, tmp_path, damage=lambda outputs: outputs):
    """The proof of a file that is a copy in memory, whose answers pass through ``damage``."""
    files = {}

    class Copy(Exporter):
        suffix, name = ".copy", "copy"

        def export(self, task, path):
            files[path] = TorchBackend.of(task, CPU)

    def backend(path, device):
        return SimpleNamespace(card=files[path].card, run=lambda images: damage(files[path].run(images)))

    Copy.backend = staticmethod(backend)
    exporter, path = Copy(), tmp_path / "m.copy"
    exporter.export(task, path)
    return Proof(task, exporter, exporter.opened(path, CPU), CPU, tmp_path / "twin.copy")


def pictures(count=3):
    return [np.random.default_rng(i).integers(0, 256 - 60 * i, (40, 50, 3), dtype=np.uint8) for i in range(count)]


def summary_of(task, tmp_path, damage=lambda outputs: outputs, count=3):
    proof = proof_of(task, tmp_path, damage)
    for image in pictures(count):
        proof.compare("p.png", image)
    return proof.summary(ATOL)


@pytest.fixture(scope="module")
def detector():
    dao.register.import_all_modules_for_register()
    torch.manual_seed(0)
    section = {"type": "YOLOX", "kwargs": {"size": "nano", "score_threshold": 0.2, "max_detections": 20}}
    model = Registers.det_models.build(section, "model", num_classes=3, in_chans=3).eval()
    with torch.no_grad():  # an untrained head says the same everywhere
        for layer in (*model.head.cls_preds, *model.head.obj_preds):
            layer.weight.normal_(0, 2)
            layer.bias.zero_()
    return DetectionTask(model, Preprocess(size=[64, 64]), list("abc"))


def test_a_detectors_equal_boxes_are_a_proof_and_are_compared_before_suppression_too(detector, tmp_path):
    summary = summary_of(detector, tmp_path)
    assert summary["passed"] and summary["before_suppression"] and summary["not_proven"] == ""


def test_a_detector_that_finds_no_box_on_any_picture_is_not_proven(detector, tmp_path):
    summary = summary_of(detector.with_facts({"score_threshold": 1.0}), tmp_path)
    assert summary["max_abs"] == 0 and summary["agreement"] == 1  # nothing differs, as nothing is compared
    assert not summary["passed"]
    assert "no box from score 1 on in any of 3 pictures" in summary["not_proven"]
    assert "export.kwargs.facts.score_threshold" in summary["not_proven"]


def test_a_raw_detector_without_a_box_is_not_proven_either(detector, tmp_path):
    summary = summary_of(detector.with_facts({"score_threshold": 1.0, "raw": True}), tmp_path)
    assert not summary["passed"] and not summary["before_suppression"]


@pytest.mark.parametrize(("column", "by"), [(4, 0.05), (0, 3.0)])
def test_what_suppression_hides_is_found_before_it(column, by, detector, tmp_path):
    """A score and a place of positions that are never answered."""

    def damage(outputs):
        for dense in (outputs["dense"],) if "dense" in outputs else ():
            score = dense[..., 4] * dense[..., 5:].max(-1)
            dense[..., column] += by * (score <= np.quantile(score, 0.25))
        return outputs

    summary = summary_of(detector, tmp_path, damage)
    assert not summary["passed"] and summary["not_proven"] == ""


class Constant(nn.Module):
    """Logits (B, K) or (B, K, h, w); the same whatever comes in, unless ``sees``."""

    def __init__(self, spatial, sees):
        super().__init__()
        self.spatial, self.sees, self.aux_weight = spatial, sees, 0.0
        self.register_buffer("logits", torch.tensor([2.0, 0.0, 0.0]))

    def forward(self, x):
        seen = x if self.spatial else x.mean((2, 3), keepdim=True)
        logits = self.logits[None, :, None, None] + (seen if self.sees else 0 * seen)
        return logits if self.spatial else logits[..., 0, 0]


class Strange(nn.Module):
    region, scored_by_map = None, False

    def __init__(self, sees):
        super().__init__()
        self.sees = sees
        self.register_buffer("nothing", torch.zeros(1))

    def forward(self, x):
        raw = x.mean(1, keepdim=True).abs() * (1.0 if self.sees else 0.0)
        return raw, raw.amax((1, 2, 3))


@pytest.mark.parametrize("sees", [True, False])
@pytest.mark.parametrize("kind", ["classification", "segmentation", "anomaly"])
def test_an_answer_that_is_always_the_same_proves_no_file(kind, sees, tmp_path):
    """One constant class, masks of background alone, maps of zeros: a file that never looks would pass."""
    preprocess = Preprocess(size=[32, 32], resize="stretch")
    task = {
        "classification": lambda: ClassificationTask(Constant(False, sees), preprocess, list("abc")),
        "segmentation": lambda: SegmentationTask(Constant(True, sees), preprocess, list("abc")),
        "anomaly": lambda: AnomalyTask(Strange(sees), preprocess, ["good", "bad"]),
    }[kind]()
    summary = summary_of(task, tmp_path)
    assert summary["max_abs"] == 0 and summary["passed"] == sees
    assert ("one and the same answer" in summary["not_proven"]) != sees


def test_export_looks_at_further_pictures_until_the_model_finds_something():
    stage = Export.__new__(Export)
    records = [SimpleNamespace(path=str(i)) for i in range(9)]
    read = lambda index, channels, depth: Sample(np.zeros((4, 4, 3), np.uint8), str(index), index, (4, 4))  # noqa: E731
    stage.dataset = type("Set", (), {"records": records, "read": staticmethod(read), "__len__": lambda self: 9})()
    stage.task = SimpleNamespace(card=lambda: SimpleNamespace(preprocess={"in_channels": 3, "bit_depth": 8}))
    stage.iters_per_epoch, stage.atol, stage.bad, seen = 2, ATOL, BadPictures(9), []
    stage.proofs = {"a": SimpleNamespace(shows_something=lambda atol: len(seen) >= 4)}
    for sample in stage.fetch():
        seen.append(sample.index)
    assert seen == [0, 8, 1, 2]  # two spread evenly, then others until there is something
