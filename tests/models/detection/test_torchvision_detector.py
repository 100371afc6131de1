"""torchvision's families: our answers are theirs, their losses are named, labels are shifted where class 0 is nothing."""

import pytest
import torch
from torchvision.models import WeightsEnum, get_model, list_models
from torchvision.models import detection as zoo
from torchvision.ops.misc import FrozenBatchNorm2d

from dao.errors import ConfigError
from dao.models.detection import torchvision_detector as detector
from dao.models.detection.answers import AnswerSettings
from dao.structures import BoxTargets

SMALL = {"fasterrcnn_mobilenet_v3_large_320_fpn": 1, "ssdlite320_mobilenet_v3_large": 1}


def targets():
    boxes = torch.tensor([[[10.0, 10, 50, 60], [0, 0, 0, 0]], [[20, 20, 90, 90], [5, 60, 30, 90]]])
    return BoxTargets(boxes, torch.tensor([[0, -1], [1, 2]]))


@pytest.mark.parametrize("name", SMALL)
def test_losses_and_gradient(build, name):
    model = build("TorchvisionDetector", model_name=name).train()
    losses = model(torch.randn(2, 3, 96, 96), targets())
    parts = [value for key, value in losses.items() if key != "loss"]
    torch.testing.assert_close(losses["loss"].detach(), sum(parts))
    losses["loss"].backward()
    assert sum(p.grad.abs().sum() for p in model.parameters() if p.grad is not None) > 0


@pytest.mark.parametrize("name", SMALL)
def test_answers_are_torchvisions_with_our_labels(build, name):
    model = build("TorchvisionDetector", model_name=name).eval()
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        found, theirs = model.detect(x, AnswerSettings(0.001, 0.5, 6)), model.net(x)
    assert found.boxes.shape == (2, 6, 4)
    for b, answer in enumerate(theirs):
        count = len(answer["scores"])
        torch.testing.assert_close(found.scores[b, :count], answer["scores"])
        assert found.labels[b].tolist() == (answer["labels"] - SMALL[name]).tolist() + [-1] * (6 - count)


@pytest.mark.parametrize(
    ("name", "shift"),
    [("retinanet_resnet50_fpn", 0), ("fcos_resnet50_fpn", 0), ("fasterrcnn_resnet50_fpn", 1), ("ssd300_vgg16", 1)],
)
def test_every_family_counts_its_classes_its_own_way(build, name, shift):
    with torch.device("meta"):
        model = build("TorchvisionDetector", model_name=name)
    assert model.shift == shift
    given = model._targets(targets())
    assert [t["labels"].tolist() for t in given] == [[shift], [1 + shift, 2 + shift]] and len(given[0]["boxes"]) == 1


def test_what_it_cannot_be_is_refused(build):
    with pytest.raises(ConfigError, match="Nearest"):
        build("TorchvisionDetector", model_name="fasterrcn_resnet50")
    with pytest.raises(ConfigError, match="torchvision has no detector 'maskrcnn"):
        build("TorchvisionDetector", model_name="maskrcnn_resnet50_fpn")
    with pytest.raises(ConfigError, match="3 channels"):
        build("TorchvisionDetector", model_name="fcos_resnet50_fpn", in_chans=1)


def test_local_weights_with_another_number_of_classes(build, tmp_path):
    name = "ssdlite320_mobilenet_v3_large"
    source = build("TorchvisionDetector", model_name=name, num_classes=7)
    torch.save(source.net.state_dict(), tmp_path / "w.pth")
    other = build("TorchvisionDetector", model_name=name, checkpoint_path=str(tmp_path / "w.pth"))
    own, theirs = other.net.state_dict(), source.net.state_dict()
    same = [key for key in own if own[key].shape == theirs[key].shape]
    assert len(same) > 0.8 * len(own) and all(torch.equal(own[key], theirs[key]) for key in same)


def torchvisions_own(name, monkeypatch):
    """The model as torchvision builds it with pretrained weights, on no device and without downloading any."""
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, *args, **kwargs: {})
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda self, *args, **kwargs: None)
    with torch.device("meta"):
        net = get_model(name, weights="DEFAULT")
    monkeypatch.undo()
    return net


@pytest.mark.parametrize("name", [n for n in list_models(module=zoo) if not n.startswith(("mask", "keypoint"))])
def test_from_trained_weights_the_same_learns_as_torchvision_trains(name, build, tmp_path, monkeypatch):
    """Truth: torchvision's own builder; its frozen batch norms hold buffers where ours hold weights without gradient."""
    theirs = torchvisions_own(name, monkeypatch)
    learning = {key for key, p in theirs.named_parameters() if p.requires_grad}
    frozen = [key for key, m in theirs.named_modules() if isinstance(m, FrozenBatchNorm2d)]
    monkeypatch.setattr(detector, "load_local_weights", lambda *args: None)
    with torch.device("meta"):
        ours = build("TorchvisionDetector", model_name=name, checkpoint_path="weights.pth").train()
        fresh = build("TorchvisionDetector", model_name=name)
    assert {key for key, p in ours.net.named_parameters() if p.requires_grad} == learning
    assert all(not ours.net.get_submodule(key).training for key in frozen)
    trained = {key for key, m in ours.net.named_modules() if isinstance(m, torch.nn.BatchNorm2d) and m.training}
    own = {key for key, m in theirs.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert trained == own
    assert all(p.requires_grad for p in fresh.parameters())


def test_what_torchvision_fixes_can_be_set_free(build, monkeypatch):
    monkeypatch.setattr(detector, "load_local_weights", lambda *args: None)
    given = {"model_name": "fasterrcnn_resnet50_fpn", "checkpoint_path": "w.pth"}
    with torch.device("meta"):
        free = build("TorchvisionDetector", **given, trainable_layers=5, freeze_batch_norm=False).train()
        two = build("TorchvisionDetector", **given, trainable_layers=2)
        with pytest.raises(ConfigError, match="trainable_layers.*0..5.*got 6"):
            build("TorchvisionDetector", **given, trainable_layers=6)
        with pytest.raises(ConfigError, match="trains all of this model"):
            build("TorchvisionDetector", model_name="ssdlite320_mobilenet_v3_large", trainable_layers=2)
    assert all(p.requires_grad for p in free.parameters()) and free.net.backbone.body.bn1.training
    body = two.net.backbone.body
    learns = {key for key, part in body.named_children() if any(p.requires_grad for p in part.parameters())}
    assert learns == {"layer3", "layer4"}
