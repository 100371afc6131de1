"""Where thresholds of an anomaly model come from: the pictures as an evaluation shows them, and nothing beside them."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from loguru import logger

from dao.calibrators.base import CalibrationScores
from dao.calibrators.rules import EscapeRate, FalseAlarmRate
from dao.dataloaders.anomaly_reader import AnomalyDataloader
from dao.dataloaders.datasets.anomaly import MVTecDataset, kept_for_threshold
from dao.errors import AnswerError, RunError
from dao.evaluators.score_histogram import ScoreHistogram
from dao.models.anomaly.base import AnomalyModel
from dao.models.anomaly.patchcore import PatchCore
from dao.models.anomaly.stfpm import STFPM
from dao.preprocess import Preprocess
from dao.structures import Batch
from dao.tasks.anomaly import AnomalyTask
from dao.tasks.anomaly_calibration import inputs_of_good, thresholds


class Brightness(AnomalyModel):
    """A model whose answer is known: a pixel is as strange as it is bright."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, images):
        maps = images.mean(1, keepdim=True)
        return maps, maps.amax((1, 2, 3))


def parts(folder, hw, level, count=10):
    """Good parts of noise around a level, one bright pixel in each at a place of its own."""
    for i in range(count):
        rng = np.random.default_rng(i)
        image = rng.integers(level, level + 40, (*hw, 3), dtype=np.uint8)
        image[rng.integers(hw[0]), rng.integers(hw[1])] = 200 + i
        path = folder / "train" / "good" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)


def calibrated(folder, rule=None, held_out=0.5, batch_size=4, **preprocess):
    preprocess = Preprocess(size=(32, 32), mean=[0.0] * 3, std=[1.0] * 3, antialias=False, **preprocess)
    task = AnomalyTask(Brightness(), preprocess, ["good", "bad"])
    data = MVTecDataset(str(folder), held_out=held_out)
    task.prepare(data)
    kept = AnomalyDataloader(dataset=task.set_apart(data), transforms=None, preprocess=preprocess, training=False, seed=0,
                             batch_size=batch_size, num_workers=0)  # fmt: skip
    task.calibrate(rule, None, kept)
    return task, kept


@pytest.mark.parametrize("hw", [(8, 32), (32, 8)])
def test_the_border_of_a_letterbox_is_no_good_pixel(tmp_path, hw):
    """The border is darker than any part: counted, it would bring the share's threshold down among the parts' pixels."""
    parts(tmp_path, hw, 150)
    task, kept = calibrated(tmp_path, FalseAlarmRate(pixel_rate=0.1), pad_value=0)
    maps = [AnomalyTask.answer(task.run, sample, task.card()).raw_map for sample in pixels_of(kept)]
    above = np.mean([(raw >= task.facts["pixel_threshold"]).mean() for raw in maps])
    assert above == pytest.approx(0.1, abs=0.02)


def pixels_of(loader):
    return [loader.dataset.read(i).image for i in range(len(loader.dataset))]


def test_of_a_tiled_picture_every_window_counts(tmp_path):
    """Its one bright pixel lies in one window of nine or so; the verdict looks at all of them, so the threshold must."""
    parts(tmp_path, (80, 80), 20)
    task, kept = calibrated(tmp_path, FalseAlarmRate(rate=0.5, method="quantile"), resize="tile")
    highest = [image.max() / 255 for image in pixels_of(kept)]
    assert min(highest) <= task.facts["picture_threshold"] <= max(highest)
    assert sum(len(images) for images in inputs_of_good(task, kept)) == len(highest) * 9


def test_a_fitted_model_learns_from_every_window(tmp_path):
    """Each position of a part is in the bank: with all patches kept, a training picture is at no distance from it."""
    parts(tmp_path, (80, 72), 20, count=3)
    preprocess = Preprocess(size=(32, 32), resize="tile", mean=[0.0] * 3, std=[1.0] * 3)
    model = PatchCore(backbone="test_resnet", layers=("layer1",), coreset=1.0, sigma=0.0, neighbours=1)
    task = AnomalyTask(model.eval(), preprocess, ["good", "bad"])
    data = MVTecDataset(str(tmp_path), held_out=0.0)
    task.prepare(data)
    loader = AnomalyDataloader(
        dataset=data, transforms=None, preprocess=preprocess, training=True, seed=0, num_workers=0
    )
    task.use_loader(loader)
    with torch.no_grad():
        for batch in loader:
            assert task.training_step(batch) == {}
    cut = 9  # 3 x 3 windows
    assert (
        sum(len(part) for own in model.collected.values() for part in own)
        == 3 * cut * (32 // model.features.reductions[0]) ** 2
    )
    task.end_of_pass()
    for image in pixels_of(loader):
        assert AnomalyTask.answer(task.run, image, task.card()).raw_score < 1e-2


def test_a_trained_model_sees_one_window_an_epoch(tmp_path):
    parts(tmp_path, (80, 72), 20, count=3)
    task = AnomalyTask(
        STFPM(backbone="test_resnet", layers=("layer1",)), Preprocess(size=(32, 32), resize="tile"), ["good", "bad"]
    )
    loader = AnomalyDataloader(dataset=MVTecDataset(str(tmp_path), held_out=0.0), transforms=None, preprocess=task.preprocess,
                               training=True, seed=0, num_workers=0)  # fmt: skip
    task.use_loader(loader)
    assert next(iter(loader)).images.shape == (3, 3, 32, 32)


def test_batches_do_not_matter_where_the_threshold_is_of_training_pictures(tmp_path):
    parts(tmp_path, (32, 32), 20, count=12)
    found = [calibrated(tmp_path, held_out=0.0, batch_size=n)[0].facts for n in (1, 5, 12)]
    assert found[0] == found[1] == found[2] and "training pictures themselves" in found[0]["calibration"]


def test_the_scores_are_those_of_an_evaluation(tmp_path):
    parts(tmp_path, (50, 41), 90)
    task, kept = calibrated(tmp_path, FalseAlarmRate(rate=0.5, method="quantile"), held_out=0.3)
    scores = sorted(AnomalyTask.answer(task.run, image, task.card()).raw_score for image in pixels_of(kept))
    assert len(scores) == 3 and scores[1] <= task.facts["picture_threshold"] <= scores[2]


def test_what_is_kept_is_the_same_whatever_the_processes(tmp_path):
    """By place in the set, not by what a process happened to see first."""
    parts(tmp_path, (8, 8), 20, count=9)
    kept = kept_for_threshold(MVTecDataset(str(tmp_path), held_out=0.0), few=5)
    assert [record.path[-6:] for record in kept.records] == ["00.png", "01.png", "02.png", "03.png", "04.png"]


def test_a_batch_without_pictures_teaches_nothing_and_moves_no_statistics(monkeypatch):
    torch.manual_seed(0)
    model = STFPM(backbone="test_resnet", layers=("layer1",))
    task = AnomalyTask(model, Preprocess(size=(32, 32)), ["good", "bad"])
    task.pictures = SimpleNamespace()
    model.train()
    batch = Batch(torch.zeros(0, 3, 32, 32, dtype=torch.uint8), None, [], [], [])
    assert task.training_step(batch) == {}  # one process leaves it out
    before = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setattr("dao.processes.dist.world_size", lambda: 2)
    losses = task.training_step(batch)
    losses["loss"].backward()
    assert losses["loss"] == 0 and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    grads = [p.grad for p in model.student.parameters() if p.grad is not None]
    assert grads and all((grad == 0).all() for grad in grads) and all(
        m.training for m in model.student.modules() if isinstance(m, torch.nn.BatchNorm2d)
    )  # fmt: skip
    task.training_step(Batch(torch.full((2, 3, 32, 32), 99, dtype=torch.uint8), None, [], [0, 1], []))
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())  # a real one does


def test_a_threshold_that_throws_most_good_parts_away_is_said_and_keeps_a_scale():
    """Escapes of 1 % where bad parts score as good ones do: the threshold lies below the usual good part."""
    good, bad = np.linspace(4, 6, 50), np.linspace(3, 7, 50)
    said = []
    sink = logger.add(said.append, level="WARNING")
    facts = thresholds(EscapeRate(0.01), CalibrationScores(good, bad, pixels_of_scores(good)))
    logger.remove(sink)
    assert "throws 100% of the good calibration pictures away" in "".join(said)
    task = AnomalyTask(Brightness(), Preprocess(size=(32, 32)), ["good", "bad"], facts=facts)
    shown = task.normalised(torch.linspace(3, 7, 9), "picture")
    assert facts["picture_typical"] < facts["picture_threshold"] and (shown.diff() > 1e-3).all()
    assert shown[0] == pytest.approx(0.5, abs=0.01)
    usual = thresholds(EscapeRate(0.01), CalibrationScores(good, bad + 5, pixels_of_scores(good)))
    assert usual["picture_typical"] == pytest.approx(5.0) and len(said) == 1


def pixels_of_scores(scores):
    histogram = ScoreHistogram()
    histogram.add(scores)
    return histogram


@pytest.mark.parametrize("place", [0, 5])
def test_maps_that_are_no_numbers_are_refused(tmp_path, monkeypatch, place):
    parts(tmp_path, (32, 32), 20)
    own = Brightness.forward

    def damaged(self, images):
        maps, scores = own(self, images)
        maps[:, :, place, place] = float("nan")
        return maps, scores

    monkeypatch.setattr(Brightness, "forward", damaged)
    for resize in ("letterbox", "tile"):
        with pytest.raises((RunError, AnswerError), match="not finite"):
            calibrated(tmp_path, resize=resize)
