"""Suppression of many pictures and classes at once against torchvision's, one at a time."""

import pytest
import torch
from torchvision.ops import batched_nms

from dao.models.detection.answers import AnswerSettings, choose


def crowd(seed, pictures, count, classes, side):
    torch.manual_seed(seed)
    centers, sizes = torch.rand(pictures, count, 2) * side, 8 + torch.rand(pictures, count, 2) * side / 3
    boxes = torch.cat([centers - sizes / 2, centers + sizes / 2], -1)
    return boxes, torch.rand(pictures, count), torch.randint(0, classes, (pictures, count))


@pytest.mark.parametrize(("pictures", "classes", "side"), [(1, 1, 64), (4, 3, 128), (6, 80, 640)])
def test_equals_torchvision_picture_by_picture(pictures, classes, side):
    boxes, scores, labels = crowd(0, pictures, 300, classes, side)
    settings = AnswerSettings(0.2, 0.5, 100)
    found = choose(boxes, scores, labels, classes, (side, side), settings)
    for b in range(pictures):
        above = scores[b] >= 0.2
        kept = batched_nms(boxes[b][above].double(), scores[b][above].double(), labels[b][above], 0.5)[:100]
        count = int((found.scores[b] > 0).sum())
        assert count == len(kept)
        torch.testing.assert_close(found.boxes[b, :count], boxes[b][above][kept])
        assert found.labels[b, :count].tolist() == labels[b][above][kept].tolist()
        assert (found.labels[b, count:] == -1).all() and (found.boxes[b, count:] == 0).all()


def test_nothing_above_the_threshold_is_an_empty_answer_of_the_same_shape():
    boxes, scores, labels = crowd(1, 2, 50, 3, 64)
    found = choose(boxes, scores * 0.1, labels, 3, (64, 64), AnswerSettings(0.5, 0.5, 10))
    assert found.boxes.shape == (2, 10, 4) and (found.scores == 0).all() and (found.labels == -1).all()


def test_more_boxes_than_positions_cannot_be_asked_for():
    boxes, scores, labels = crowd(2, 1, 5, 3, 64)
    found = choose(boxes, scores, labels, 3, (64, 64), AnswerSettings(0.0, 1.0, 300))
    assert found.scores.shape == (1, 5) and (found.scores > 0).all()


def test_boxes_far_outside_do_not_reach_into_another_picture():
    boxes = torch.tensor([[[-500.0, -500, 900, 900]], [[0, 0, 64, 64]]])
    found = choose(
        boxes, torch.tensor([[0.9], [0.8]]), torch.zeros(2, 1, dtype=torch.int64), 2, (64, 64), AnswerSettings()
    )
    assert found.scores[:, 0].tolist() == pytest.approx([0.9, 0.8])
