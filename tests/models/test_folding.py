"""Folded batch norms: the same answers, and left alone where they must not be folded."""

import pytest
import timm
import torch
from torch import nn

from dao.models.folding import fold_batch_norms


def awake(net: nn.Module) -> nn.Module:
    """Statistics and scales that do something."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return net.eval()


@pytest.mark.parametrize(
    ("name", "least"), [("resnet18", 15), ("mobilenetv3_small_050", 10), ("efficientnet_lite0", 10)]
)
def test_the_answers_stay_the_same(name, least):
    net = awake(timm.create_model(name, features_only=True, out_indices=(1, 2, 3)))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        wanted = net(images)
        norms = sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
        folded = fold_batch_norms(net)
        found = net(images)
    assert folded >= least and norms - sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) == folded
    for one, other in zip(wanted, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


class Twice(nn.Module):
    """A convolution whose answer is used beside its norm, one that is used twice, and a norm that comes first."""

    def __init__(self):
        super().__init__()
        self.first, self.conv, self.norm = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.shared, self.after = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        x = self.conv(self.first(x))
        x = x + self.norm(x)
        return self.after(self.shared(x)) + self.shared(x)


def test_what_is_used_elsewhere_too_is_left_alone():
    net = awake(Twice())
    images = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        wanted = net(images)
        assert fold_batch_norms(net) == 0
        torch.testing.assert_close(net(images), wanted)


def test_a_network_that_cannot_be_traced_is_left_alone():
    class Branching(Twice):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    assert fold_batch_norms(awake(Branching())) == 0
