"""The YOLOX loss against its definition written out, and when L1 counts."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from dao.losses.simota import assign
from dao.losses.weighted_sum import build_loss
from dao.losses.yolox import YOLOXLoss, raw_boxes
from dao.models.detection.boxes import cxcywh_to_xyxy
from dao.models.detection.head import DenseOutput, positions
from dao.register import Registers
from dao.structures import BoxTargets

K = 3


def scene(side=64, pictures=2):
    torch.manual_seed(0)
    grid, strides = positions([(side // s, side // s) for s in (8, 16, 32)], torch.device("cpu"))
    said = torch.randn(pictures, len(grid), 4 + 1 + K).requires_grad_()
    output = DenseOutput(said[..., :4], said[..., 4], said[..., 5:], grid, strides)
    boxes = torch.tensor([[[4.0, 6, 30, 40], [20, 20, 60, 50]], [[0, 0, 0, 0], [33, 2, 62, 21]]])
    return output, BoxTargets(boxes, torch.tensor([[0, 2], [-1, 1]])), said


@pytest.mark.parametrize("l1", ["always", "never"])
def test_value_is_the_sum_over_positives_by_their_number(l1):
    output, targets, _ = scene()
    got = YOLOXLoss(l1=l1)(output, targets)
    predicted = output.boxes_cxcywh()
    found = assign(
        targets.boxes_xyxy, targets.labels, predicted, output.classes, output.objectness, output.grid, output.strides
    )
    box = cls = raw = 0.0
    number = int((found.objects >= 0).sum())
    for b in range(2):
        for a in torch.nonzero(found.objects[b] >= 0)[:, 0]:
            m = found.objects[b, a]
            goal, label = targets.boxes_xyxy[b, m], targets.labels[b, m]
            box += 5 * (1 - found.ious[b, a] ** 2)
            cls += bce(output.classes[b, a], torch.eye(K)[label] * found.ious[b, a], reduction="sum")
            stride, (gx, gy) = output.strides[a], output.grid[a]
            x, y, w, h = (goal[0] + goal[2]) / 2, (goal[1] + goal[3]) / 2, goal[2] - goal[0], goal[3] - goal[1]
            wanted = torch.stack([x / stride - gx, y / stride - gy, (w / stride).log(), (h / stride).log()])
            raw += (output.offsets[b, a] - wanted).abs().sum()
    obj = bce(output.objectness, (found.objects >= 0).float(), reduction="sum")
    terms = {"box": box, "objectness": obj, "class": cls} | ({"l1": raw} if l1 == "always" else {})
    assert set(got) == {*terms, "loss"}
    for name, value in terms.items():
        torch.testing.assert_close(got[name], value.detach() / number, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got["loss"], sum(terms.values()) / number, atol=1e-4, rtol=1e-4)


def test_raw_boxes_invert_the_decoding():
    output, _, _ = scene()
    boxes = cxcywh_to_xyxy(output.boxes_cxcywh())[0]
    torch.testing.assert_close(raw_boxes(boxes, output.grid, output.strides), output.offsets[0], atol=1e-4, rtol=1e-4)


def test_pictures_without_objects_teach_that_there_is_nothing():
    output, targets, said = scene()
    got = YOLOXLoss(l1="always")(output, BoxTargets(targets.boxes_xyxy, torch.full_like(targets.labels, -1)))
    assert got["box"] == got["class"] == got["l1"] == 0 and got["objectness"] > 0
    got["loss"].backward()
    assert (said.grad[..., 4] > 0).all() and said.grad[..., :4].abs().sum() == 0


@pytest.mark.parametrize("iou", ["iou", "giou"])
def test_a_few_steps_put_boxes_where_they_belong(iou):
    output, targets, said = scene()
    said = said.detach().requires_grad_()
    loss, optimizer = YOLOXLoss(iou), torch.optim.Adam([said], lr=0.1)
    values = []
    for _ in range(60):
        output = output._replace(offsets=said[..., :4], objectness=said[..., 4], classes=said[..., 5:])
        parts = loss(output, targets)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        values.append(parts["loss"].item())
    assert values[-1] < 0.2 * values[0]


def test_l1_counts_when_augmentation_is_off():
    output, targets, _ = scene()
    loss = YOLOXLoss()
    assert "l1" not in loss(output, targets)
    loss.begin_pass(augment=False)
    assert "l1" in loss(output, targets)
    loss.begin_pass(augment=True)
    assert "l1" not in loss(output, targets)


def test_config_builds_it_and_parts_are_logged():
    import dao.register

    dao.register.import_all_modules_for_register()
    output, targets, _ = scene()
    one = build_loss({"type": "YOLOXLoss", "kwargs": {"iou": "giou"}}, num_classes=K)(output, targets)
    assert set(one) == {"box", "objectness", "class", "loss"} and not one["box"].requires_grad
    two = build_loss([{"type": "YOLOXLoss"}, {"type": "YOLOXLoss", "weight": 0.5, "name": "b"}])(output, targets)
    assert {"yolox", "b", "yolox/box", "b/class", "loss"} <= set(two)
    torch.testing.assert_close(two["loss"], two["yolox"] * 1.5)
    component = Registers.losses.get("YOLOXLoss")
    assert Registers.losses.check_kwargs(component, {"iou": "ciou"}, "loss.kwargs")
    assert Registers.losses.check_kwargs(component, {"box_weight": -1}, "loss.kwargs")
