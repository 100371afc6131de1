import pytest
import torch
from torch.nn import functional

from dao.errors import ConfigError
from dao.losses import bce, cross_entropy, focal, kl_div, regression  # noqa: F401  (they register)
from dao.losses.weighted_sum import build_loss, snake_case
from dao.register import Registers

LOGITS = torch.randn(4, 3, generator=torch.Generator().manual_seed(4))
TARGET = torch.tensor([0, 2, 1, 1])
CE, MSE = {"type": "CrossEntropyLoss"}, {"type": "MSELoss", "kwargs": {"activation": "softmax"}}


def test_one_component():
    losses = build_loss({**CE, "weight": 2.0})(LOGITS, TARGET)
    assert losses.keys() == {"loss"}
    assert torch.allclose(losses["loss"], 2 * functional.cross_entropy(LOGITS, TARGET))


def test_sum_of_named_terms():
    logits = LOGITS.clone().requires_grad_()
    losses = build_loss([{**CE, "weight": 0.5}, {**MSE, "name": "brier", "weight": 3}])(logits, TARGET)
    entropy = functional.cross_entropy(LOGITS, TARGET)
    brier = functional.mse_loss(LOGITS.softmax(1), functional.one_hot(TARGET, 3).float())
    assert list(losses) == ["cross_entropy", "brier", "loss"]
    assert torch.allclose(losses["cross_entropy"], entropy) and torch.allclose(losses["brier"], brier)
    assert torch.allclose(losses["loss"], 0.5 * entropy + 3 * brier)
    assert losses["loss"].requires_grad and not losses["brier"].requires_grad


def test_weight_0_is_measured_but_not_minimised():
    logits = torch.full((1, 2), float("inf"), requires_grad=True)
    losses = build_loss([{"type": "L1Loss"}, {"type": "MSELoss", "weight": 0}])(LOGITS, TARGET)
    assert torch.equal(losses["loss"], losses["l1"]) and losses["mse"].item() > 0
    losses = build_loss([{"type": "MSELoss", "weight": 0}, {"type": "L1Loss", "kwargs": {"activation": "sigmoid"}}])(
        logits, torch.tensor([0])
    )
    assert losses["mse"].isinf() and losses["loss"].isfinite()


def test_equal_names_get_numbers():
    assert list(build_loss([CE, CE, {**MSE, "name": "cross_entropy"}])(LOGITS, TARGET)) == [
        "cross_entropy",
        "cross_entropy_2",
        "cross_entropy_3",
        "loss",
    ]


def test_a_term_may_have_the_name_of_a_module_method():
    assert "train" in build_loss([{**CE, "name": "train"}, MSE])(LOGITS, TARGET)


def test_context_reaches_the_losses():
    section = {"type": "CrossEntropyLoss", "kwargs": {"class_weights": "balanced"}}
    loss = build_loss([section, CE], num_classes=3, class_counts=[1, 1, 2])
    weights = [module.weight for module in loss.modules() if isinstance(module, cross_entropy.CrossEntropyLoss)]
    assert weights[0].tolist() == pytest.approx([4 / 3, 4 / 3, 2 / 3]) and weights[1] is None


@pytest.mark.parametrize(
    ("section", "match"),
    [
        ([], "empty"),
        ([{**CE, "weight": 0}], "every weight is 0"),
        ([{**CE, "name": "loss"}, MSE], r"loss\.0\.name"),
        ([CE, {"type": "FocalLoss", "kwargs": {"gama": 2}}], r"loss\.1\.kwargs\.gama"),
        ({"type": "FocalLos"}, r"loss\.type .*FocalLoss"),
    ],
)
def test_mistakes_are_named_with_their_place(section, match):
    with pytest.raises(ConfigError, match=match):
        build_loss(section)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CrossEntropyLoss", "cross_entropy"),
        ("BCEWithLogitsLoss", "bce_with_logits"),
        ("SoftTargetCrossEntropy", "soft_target_cross_entropy"),
        ("KLDivLoss", "kl_div"),
        ("L1Loss", "l1"),
        ("Loss", "loss"),
    ],
)
def test_snake_case(name, expected):
    assert snake_case(name) == expected


ALL = ("BCEWithLogits", "CrossEntropy", "Focal", "KLDiv", "L1", "MSE")


@pytest.mark.parametrize("name", [*(f"{stem}Loss" for stem in ALL), "SoftTargetCrossEntropy"])
def test_every_loss_trains_towards_the_target(name):
    """A few steps of descent from zero put the right class first, with indices and with shares."""
    for target in (TARGET, functional.one_hot(TARGET, 3).float()):
        logits = torch.zeros(4, 3, requires_grad=True)
        loss = Registers.losses.build({"type": name}, "loss", num_classes=3, class_counts=[1, 2, 1])
        for _ in range(5):
            (grad,) = torch.autograd.grad(loss(logits, target), logits)
            logits = (logits - 0.5 * grad).detach().requires_grad_()
        assert torch.equal(logits.argmax(1), TARGET)
