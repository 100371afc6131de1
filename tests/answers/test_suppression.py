"""What a file without suppression says comes to the boxes that the model's own graph would have chosen."""

import numpy as np
import pytest
import torch

from dao.answers.suppression import AnswerSettings, chosen, corners
from dao.models.detection.answers import choose
from dao.models.detection.boxes import cxcywh_to_xyxy


def dense(seed, count=400, classes=3, side=96):
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(-5, side + 5, (count, 2)), rng.uniform(0, 40, (count, 2))
    return np.concatenate([centre, size, rng.uniform(0, 1, (count, 1 + classes))], axis=1).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("settings", [AnswerSettings(), AnswerSettings(0.2, 0.3, 20), AnswerSettings(0.9999)])
def test_it_is_what_torch_chooses(seed, settings):
    said = dense(seed, classes=1 + seed % 4)
    tensor = torch.from_numpy(said)[None]
    scores, labels = (tensor[..., 5:] * tensor[..., 4:5]).max(dim=-1)
    wanted = choose(cxcywh_to_xyxy(tensor[..., :4]), scores, labels, said.shape[1] - 5, (96, 64), settings)
    found = wanted.labels[0] >= 0
    boxes, scores, labels = chosen(said, (96, 64), settings)
    assert np.array_equal(boxes, wanted.boxes[0][found].numpy()) and np.array_equal(
        scores, wanted.scores[0][found].numpy()
    )
    assert np.array_equal(labels, wanted.labels[0][found].numpy()) and labels.dtype == np.int64


def test_by_hand_two_that_overlap_are_one_unless_they_are_of_two_classes():
    rows = [
        [10, 10, 8, 8, 1, 0.9, 0],
        [11, 10, 8, 8, 1, 0.8, 0],
        [10, 10, 8, 8, 1, 0, 0.7],
        [40, 40, 8, 8, 1, 0.005, 0],
    ]
    boxes, scores, labels = chosen(np.array(rows, np.float32), (64, 64), AnswerSettings())
    assert boxes.tolist() == [[6, 6, 14, 14]] * 2 and labels.tolist() == [0, 1]
    np.testing.assert_allclose(scores, [0.9, 0.7])
    assert corners(np.array([4.0, 6, 2, 8])).tolist() == [3, 2, 5, 10]


def test_a_nan_anywhere_leaves_no_score():
    said = dense(0)
    said[7, 6] = np.nan
    assert np.isnan(chosen(said, (96, 96), AnswerSettings())[1]).all()
