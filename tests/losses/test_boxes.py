"""Box losses against torchvision's."""

import pytest
import torch
from torchvision.ops import box_iou, generalized_box_iou_loss

from dao.losses.boxes import box_loss
from dao.models.detection.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh


def pairs():
    torch.manual_seed(0)
    low = torch.rand(2, 50, 2) * 50
    return torch.cat([low, low + 1 + torch.rand(2, 50, 2) * 40], -1)


def test_giou_is_torchvisions():
    first, second = pairs()
    torch.testing.assert_close(box_loss(first, second, "giou"), generalized_box_iou_loss(first, second))


def test_iou_is_squared_as_published():
    first, second = pairs()
    torch.testing.assert_close(box_loss(first, second, "iou"), 1 - box_iou(first, second).diagonal() ** 2)


@pytest.mark.parametrize("kind", ["iou", "giou"])
def test_equal_boxes_cost_nothing_and_empty_ones_have_a_gradient(kind):
    first, _ = pairs()
    torch.testing.assert_close(box_loss(first, first, kind), torch.zeros(50), atol=1e-6, rtol=0)
    point = torch.tensor([[5.0, 5, 5, 5]], requires_grad=True)
    box_loss(point, point.detach(), kind).sum().backward()
    assert point.grad.isfinite().all()


def test_corners_and_centres_are_inverse():
    first, _ = pairs()
    torch.testing.assert_close(cxcywh_to_xyxy(xyxy_to_cxcywh(first)), first)
