"""Four batches of two are one batch of eight, to the gradient, for every loss: unlabelled pixels, positives, class weights."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dao.losses.base import UNLABELLED
from dao.losses.weighted_sum import build_loss
from dao.register import Registers, import_all_modules_for_register
from dao.structures import Batch, BoxTargets
from dao.trainers.accumulation import WholeWindow, must_measure
from dao.trainers.update import GradientUpdate

import_all_modules_for_register()
K = 3


class Trainer:
    """The part of the trainer that a window asks."""

    def __init__(self, model, section, accumulate, iters):
        loss = build_loss(section, num_classes=K)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        self.update = GradientUpdate(optimizer, model, torch.device("cpu"), accumulate)
        self.task = SimpleNamespace(model=model, loss=loss, training_step=lambda b: loss(model(b.images), b.targets))
        self.accumulate, self.iters_per_epoch, self.device = accumulate, iters, torch.device("cpu")
        self.window = WholeWindow()

    def train(self, batches):
        for self.iter, self.batch in enumerate(batches):
            if self.window.wants(self):
                self.window.train_one_iter(self)
            else:
                self.update(self.task.training_step(self.batch)["loss"], self.iter, self.iters_per_epoch)
        return torch.cat([p.detach().flatten() for p in self.task.model.parameters()])


def batch_of(images, targets):
    count = len(images)
    return Batch(images, targets, [""] * count, list(range(count)), [(8, 8)] * count)


def masks(count):
    """Labelled very unevenly: the last picture not at all, and class 2 in one picture alone."""
    dice = torch.Generator().manual_seed(1)
    target = torch.randint(0, 2, (count, 8, 8), generator=dice)
    target[1, :2] = 2
    for i in range(count):
        target[i, :, 8 - i :] = UNLABELLED
    return torch.randn(count, 3, 8, 8, generator=dice), target


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, K, 1))


SECTIONS = [
    *({"type": name} for name in (
        "CrossEntropyLoss", "FocalLoss", "BCEWithLogitsLoss", "SoftBCELoss", "KLDivLoss", "L1Loss", "MSELoss",
        "SoftTargetCrossEntropy", "DiceLoss", "JaccardLoss", "TverskyLoss", "MCCLoss", "BoundaryLoss",
    )),
    {"type": "CrossEntropyLoss", "kwargs": {"class_weights": [0.2, 1.0, 5.0]}},
    {"type": "FocalLoss", "kwargs": {"reduction": "sum"}},
    {"type": "FocalLoss", "kwargs": {"activation": "sigmoid"}},
    {"type": "OhemCrossEntropyLoss", "kwargs": {"threshold": 0.5, "min_share": 0.0}},
    {"type": "LovaszLoss", "kwargs": {"per_image": True}},
    [{"type": "CrossEntropyLoss"}, {"type": "DiceLoss", "weight": 0.5}, {"type": "MCCLoss", "weight": 0.0}],
]  # fmt: skip


@pytest.mark.parametrize("section", SECTIONS, ids=str)
@pytest.mark.parametrize("parts", [(2, 2, 2, 2), (3, 4, 1)])
def test_a_window_of_masks_is_one_large_batch(section, parts):
    images, target = masks(8)
    whole = Trainer(net(), section, 1, 1).train([batch_of(images, target)])
    cut = zip(images.split(parts), target.split(parts))
    start = torch.cat([p.detach().flatten() for p in net().parameters()])
    got = Trainer(net(), section, len(parts), len(parts)).train([batch_of(*pair) for pair in cut])
    assert (whole - start).abs().max() > 1e-6
    torch.testing.assert_close(got - start, whole - start, rtol=2e-3, atol=2e-6)


def test_each_batch_by_itself_is_another_gradient():
    """What was done before, and is with whole_windows: false: a mean of means."""
    images, target = masks(8)
    whole = Trainer(net(), {"type": "CrossEntropyLoss"}, 1, 1).train([batch_of(images, target)])
    trainer = Trainer(net(), {"type": "CrossEntropyLoss"}, 4, 4)
    trainer.window.wants = lambda _: False
    got = trainer.train([batch_of(*pair) for pair in zip(images.split(2), target.split(2))])
    assert (got - whole).abs().max() > 1e-3


def test_a_window_of_boxes_is_one_large_batch(monkeypatch):
    """YOLOX, whose terms are divided by the positives that SimOTA finds: none in some batches, many in others."""
    boxes = torch.zeros(8, 3, 4)
    labels = torch.full((8, 3), -1)
    for i in (0, 5, 6):
        for j in range(i % 3 + 1):
            boxes[i, j] = torch.tensor([4.0 + 8 * j, 6, 30 + 8 * j, 40])
            labels[i, j] = j
    images = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(2))

    def model():
        torch.manual_seed(0)
        return Registers.det_models.get("YOLOX")("nano", num_classes=K).eval()  # batch norms are of batches: fixed

    def trained(parts):
        cut = zip(images.split(parts), boxes.split(parts), labels.split(parts))
        batches = [batch_of(x, BoxTargets(b, n)) for x, b, n in cut]
        return Trainer(model(), {"type": "YOLOXLoss"}, len(parts), len(parts)).train(batches)

    start = torch.cat([p.detach().flatten() for p in model().parameters()])
    whole, got = trained((8,)), trained((2, 2, 2, 2))
    assert (whole - start).abs().max() > 1e-3
    torch.testing.assert_close(got - start, whole - start, rtol=1e-2, atol=2e-4)


def test_statistics_and_dropout_of_a_window_are_those_of_one_pass():
    """Batch norms count each batch once, and what is learnt from is what was measured."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, K, 1)).train()
    images, target = masks(4)
    trainer = Trainer(layers, {"type": "CrossEntropyLoss"}, 2, 2)
    seen = []
    inner = trainer.task.training_step
    trainer.task.training_step = lambda b: seen.append(inner(b)) or seen[-1]
    counted = []
    layers[2].register_forward_hook(lambda m, x, y: counted.append(y.detach().clone()))
    trainer.train([batch_of(*pair) for pair in zip(images.split(2), target.split(2))])
    assert layers[1].num_batches_tracked == 2
    assert torch.equal(counted[0], counted[2]) and torch.equal(counted[1], counted[3])


def test_pictures_of_one_class_each_need_no_second_pass():
    plain = build_loss({"type": "CrossEntropyLoss"}, num_classes=K)
    weighted = build_loss({"type": "CrossEntropyLoss", "kwargs": {"class_weights": [1, 2, 3]}}, num_classes=K)
    assert not must_measure(plain, torch.tensor([0, 1])) and must_measure(plain, torch.zeros(2, 4, 4).long())
    assert must_measure(weighted, torch.tensor([0, 1])) and not must_measure(nn.CrossEntropyLoss(), torch.tensor([0]))
    assert not must_measure(None, None)
