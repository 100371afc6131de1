"""The anomaly task: scores on one scale, tiles, verdicts that follow the threshold."""

import numpy as np
import pytest
import torch

from dao.answers import anomaly
from dao.errors import ConfigError
from dao.models.anomaly.base import AnomalyModel
from dao.preprocess import Preprocess
from dao.tasks.anomaly import AnomalyTask

FACTS = {"picture_threshold": 0.5, "picture_typical": 0.1, "pixel_threshold": 0.4, "pixel_typical": 0.05}


class Brightness(AnomalyModel):
    """A model whose answer is known: a pixel is as strange as it is bright."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, images):
        maps = images.mean(1, keepdim=True)
        return maps, maps.amax((1, 2, 3))


def make(**preprocess):
    return AnomalyTask(Brightness(), Preprocess(size=(32, 32), mean=[0.0] * 3, std=[1.0] * 3, **preprocess),
                       ["good", "bad"], facts=FACTS)  # fmt: skip


def picture(hw, level):
    image = np.full((*hw, 3), 10, np.uint8)
    image[hw[0] // 2 :, hw[1] // 2 :] = level
    return image


def test_half_is_the_threshold_and_a_tenth_the_usual_good_part():
    task = make()
    raw = torch.tensor([0.1, 0.5, 0.9])
    torch.testing.assert_close(task.normalised(raw, "picture"), torch.tensor([0.1, 0.5, 0.9]))
    rising = task.normalised(torch.linspace(0, 2, 50), "pixel")
    assert (rising.diff() > 0).all()


@pytest.mark.parametrize(
    ("hw", "resize"), [((64, 64), "stretch"), ((40, 90), "letterbox"), ((70, 100), "tile"), ((20, 25), "tile")]
)
def test_answers_lie_where_the_picture_has_them(hw, resize):
    task = make(resize=resize, pad_value=0)
    for level, bad in ((250, True), (60, False)):
        found = AnomalyTask.answer(task.run, picture(hw, level), task.card())
        assert found.anomaly_map.shape == hw == found.mask.shape and found.label == int(bad)
        assert (found.anomaly_score >= 0.5) == bad
        assert found.mask[hw[0] * 3 // 4, hw[1] * 3 // 4] == int(bad) and not found.mask[3, 3]
        assert found.raw_score == pytest.approx(level / 255, abs=0.01)


def test_a_task_warns_of_a_threshold_far_from_its_own_and_not_of_one_that_training_keeps(monkeypatch):
    said = []
    monkeypatch.setattr(anomaly, "warn", said.append)
    task = make()
    task.facts["calibration"] = "by hand"
    task = task.with_facts({"threshold": 5.0}, "evaluator.kwargs")
    assert len(said) == 1 and said[0].startswith("evaluator.kwargs.threshold = 5 is far")
    task.take_over(dict(FACTS))
    assert len(said) == 1 and task.facts["picture_threshold"] == 5


def test_another_threshold_changes_the_verdict_and_what_half_means():
    task = make().with_facts({"picture_threshold": 0.2})
    found = AnomalyTask.answer(task.run, picture((32, 32), 60), task.card())
    assert found.label == 1 and found.anomaly_score > 0.5
    assert "0.2, set by facts.picture_threshold, not calibrated" in task.facts["calibration"]


def test_a_threshold_below_the_usual_good_part_keeps_half_its_meaning():
    """A report may propose one; it was refused."""
    task = make().with_facts({"threshold": 0.05})
    assert task.facts["picture_typical"] == pytest.approx(0.05 - (0.5 - 0.1))
    shown = task.normalised(torch.tensor([0.05 - 1e-4, 0.05, 0.06]), "picture")
    assert shown[0] < 0.5 <= shown[1] < shown[2]


@pytest.mark.parametrize("value", ["5.2", None, True, float("nan"), [1.0]])
def test_a_threshold_that_is_no_number_is_one_message(value):
    with pytest.raises(ConfigError, match="picture_threshold +must be a number"):
        make().with_facts({"picture_threshold": value})


def test_what_a_demo_says_and_draws():
    task = make()
    image = picture((48, 64), 250)
    found = AnomalyTask.answer(task.run, image, task.card())
    said = AnomalyTask.describe(found, task.card())
    assert said["label"] == "bad" and len(said["regions"]) == 1
    assert said["anomalous_share"] == pytest.approx(0.25, abs=0.05)
    drawn = AnomalyTask.draw(image, found, task.card())
    assert drawn.shape[1] > 3 * 64 and drawn.dtype == np.uint8
    assert AnomalyTask.files(found, task.card())["mask"].max() == 255
    assert AnomalyTask.caption(found, task.card()).startswith("bad")


REGION = [[[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]]]  # the left half


def test_what_lies_outside_a_region_has_no_say():
    facts = {**FACTS, "region": REGION}
    task = AnomalyTask(Brightness(), Preprocess(size=(32, 32), mean=[0.0] * 3, std=[1.0] * 3, resize="stretch"),
                       ["good", "bad"], facts=facts)  # fmt: skip
    image = np.full((64, 96, 3), 25, np.uint8)
    image[:, 60:] = 255
    found = AnomalyTask.answer(task.run, image, task.card())
    assert found.label == 0 and found.raw_score == pytest.approx(25 / 255, abs=0.01)
    assert found.region[:, :47].all() and not found.region[:, 50:].any()
    assert found.raw_map[:, 52:].max() == 0 and found.raw_map[:, :46].min() == pytest.approx(25 / 255, abs=0.01)
    image[30:40, 10:20] = 250
    assert AnomalyTask.answer(task.run, image, task.card()).label == 1
    drawn = AnomalyTask.draw(image, found, task.card())
    assert (drawn == (0, 140, 255)).all(-1).any()  # the region's outline
    with pytest.raises(ConfigError, match="train anew"):
        task.with_facts({"region": []})


@pytest.mark.parametrize("resize", ["letterbox", "tile"])
def test_a_region_needs_one_place_for_every_picture(resize):
    with pytest.raises(ConfigError, match="stretch"):
        AnomalyTask(Brightness(), Preprocess(size=(32, 32), resize=resize), ["good", "bad"], facts={"region": REGION})


def test_pixels_outside_a_region_are_not_counted():
    from dao.evaluators.anomaly import AnomalyEvaluator
    from dao.structures import AnomalyTruth, Batch, Prediction

    mask, region = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    mask[2:6, 2:6], region[:, :4] = True, True
    raw = np.where(mask, 2.0, 1.0).astype(np.float32) * region
    evaluator = AnomalyEvaluator(["good", "bad"])
    prediction = Prediction(path="a", label=1, anomaly_map=raw / 2, anomaly_score=0.9, raw_map=raw, raw_score=2.0,
                            region=region)  # fmt: skip
    batch = Batch(torch.zeros(1), [AnomalyTruth("dent", True, mask)], ["a"], [0], [(8, 8)])
    evaluator.update([prediction], batch)
    own = evaluator.kinds["dent"]
    assert evaluator.good_pixels.total == 24 and own.bad.total == 8 and own.overlap.total == pytest.approx(1.0)


def test_the_worst_are_ranked_by_raw_scores_where_normalised_ones_are_all_one():
    from dao.evaluators.anomaly import PictureRow

    scores = make().normalised(torch.tensor([9.5, 20.0, 11.0, 0.2]), "picture").tolist()
    assert scores[:3] == [1.0, 1.0, 1.0]
    rows = [
        PictureRow(i, "", "good", False, True, raw, score)
        for i, (raw, score) in enumerate(zip([9.5, 20.0, 11.0, 0.2], scores))
    ]
    assert [row.index for row in sorted(rows, key=lambda row: row.rank)] == [1, 2, 0, 3]


def test_a_map_that_is_no_number_is_refused():
    from dao.errors import RunError
    from dao.evaluators.anomaly import refuse_not_finite
    from dao.structures import Prediction

    raw = np.ones((4, 4), np.float32)
    refuse_not_finite(Prediction(path="a", raw_map=raw, raw_score=1.0))
    raw[1, 2] = np.nan
    with pytest.raises(RunError, match="map for a is not finite"):
        refuse_not_finite(Prediction(path="a", raw_map=raw, raw_score=1.0))
