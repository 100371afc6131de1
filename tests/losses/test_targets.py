"""Every registered loss over every kind of target: refused in words before training, or right to the last ignored pixel."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dao.errors import ConfigError
from dao.losses.base import UNLABELLED, Loss
from dao.losses.bce import BCEWithLogitsLoss
from dao.losses.targets import refuse_unfit
from dao.losses.weighted_sum import build_loss
from dao.models.detection.head import DenseOutput
from dao.register import Registers, import_all_modules_for_register
from dao.structures import BoxTargets

import_all_modules_for_register()
K = 3
OURS = [name for name in Registers.losses if Registers.losses.get(name).__module__.startswith("dao.")]
NEEDS = {
    "classes": ("pictures",), "shares": ("pictures",), "several": ("pictures", "multi_label"),
    "masks": ("masks", "unlabelled"), "nothing_labelled": ("masks", "unlabelled"), "boxes": ("boxes",),
}  # fmt: skip
# written down by hand: which of the losses may meet which targets
PICTURES = {
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "SoftTargetCrossEntropy",
}
MASKS = PICTURES | {
    "BoundaryLoss", "DiceLoss", "JaccardLoss", "LovaszLoss", "MCCLoss", "OhemCrossEntropyLoss", "SoftBCELoss", "TverskyLoss",
}  # fmt: skip
MAY = {
    "classes": PICTURES, "shares": PICTURES, "several": {"BCEWithLogitsLoss", "FocalLoss"}, "masks": MASKS,
    "nothing_labelled": MASKS, "boxes": {"YOLOXLoss"},
}  # fmt: skip


def drawn(kind):
    """Outputs of a model that ask for gradients, and targets."""
    dice = torch.Generator().manual_seed(5)
    if kind == "boxes":
        grid = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="xy"), -1).reshape(-1, 2)
        parts = [torch.randn(2, 16, n, generator=dice).requires_grad_() for n in (4, 1, K)]
        output = DenseOutput(parts[0], parts[1][..., 0], parts[2], grid, torch.full((16,), 8.0))
        boxes = torch.tensor([[[4.0, 4, 20, 20], [0, 0, 0, 0]], [[0.0, 0, 0, 0], [0, 0, 0, 0]]])
        return output, BoxTargets(boxes, torch.tensor([[1, -1], [-1, -1]])), parts
    if kind in ("masks", "nothing_labelled"):
        logits = torch.randn(2, K, 9, 8, generator=dice).requires_grad_()
        target = torch.randint(0, K, (2, 9, 8), generator=dice)
        target[:, :, 5:] = UNLABELLED
        return logits, target.fill_(UNLABELLED) if kind == "nothing_labelled" else target, [logits]
    logits = torch.randn(4, K, generator=dice).requires_grad_()
    if kind == "several":
        return logits, (torch.rand(4, K, generator=dice) > 0.5).float(), [logits]
    target = torch.tensor([0, 2, 1, 2])
    hot = nn.functional.one_hot(target, K).float()
    return logits, target if kind == "classes" else 0.3 * hot + 0.7 * hot.flip(0), [logits]


@pytest.mark.parametrize("kind", list(NEEDS))
@pytest.mark.parametrize("name", OURS)
def test_every_loss_takes_a_target_or_refuses_it_before_training(name, kind):
    loss = build_loss({"type": name}, num_classes=K, multi_label=kind == "several")
    if name not in MAY[kind]:
        with pytest.raises(ConfigError, match=f"{name}.*(use |this task has none)"):
            refuse_unfit(loss, NEEDS[kind])
        return
    refuse_unfit(loss, NEEDS[kind])
    outputs, target, asked = drawn(kind)
    value = loss(outputs, target)["loss"]
    value.backward()
    assert value.ndim == 0 and value.isfinite() and all(x.grad.isfinite().all() for x in asked)
    if kind == "nothing_labelled":
        assert value == 0 and not asked[0].grad.any()
    elif kind == "masks":
        assert not asked[0].grad[..., 5:].any() and asked[0].grad[..., :5].any()


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_unlabelled_pixels_are_left_out_as_if_they_were_not_there(name):
    """Truth: the loss of the labelled pixels alone, as a list of pictures with one class each."""
    logits, target, _ = drawn("masks")
    loss, rows = Registers.losses.get(name)(), logits.detach().movedim(1, -1)[target != UNLABELLED]
    assert torch.allclose(loss(logits, target), loss(rows, target[target != UNLABELLED]))
    other = logits.detach().clone()
    other[..., 5:] = 1e4
    assert torch.equal(loss(other, target), loss(logits.detach(), target))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_sigmoid_focal_loss_leaves_unlabelled_pixels_out(reduction):
    logits, target, _ = drawn("masks")
    loss = Registers.losses.get("FocalLoss")(activation="sigmoid", alpha=0.25, reduction=reduction)
    rows, known = logits.detach().movedim(1, -1)[target != UNLABELLED], target[target != UNLABELLED]
    assert torch.allclose(loss(logits, target), loss(rows, known))


@pytest.mark.parametrize(
    ("section", "fits"),
    [
        ({"type": "FocalLoss", "kwargs": {"activation": "softmax"}}, False),
        ({"type": "FocalLoss", "kwargs": {"activation": "sigmoid"}}, True),
        ({"type": "KLDivLoss"}, False),
        ({"type": "L1Loss"}, False),
        ({"type": "MSELoss", "kwargs": {"activation": "softmax"}}, False),
        ({"type": "MSELoss", "kwargs": {"activation": "sigmoid"}}, True),
    ],
)
def test_several_labels_a_picture_are_for_losses_of_independent_classes(section, fits):
    loss = build_loss(section, num_classes=K, multi_label=True)
    if fits:
        return refuse_unfit(loss, ("pictures", "multi_label"))
    with pytest.raises(ConfigError, match="one label a picture.*use BCEWithLogitsLoss.*takes_multi_label = True"):
        refuse_unfit(loss, ("pictures", "multi_label"))


def test_a_derived_or_a_containing_loss_says_what_its_parent_or_its_parts_say():
    class Mine(Registers.losses.get("L1Loss")):
        pass

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Registers.losses.get("CrossEntropyLoss")()

    class Masked(Loss):
        takes_multi_label = True

        def __init__(self):
            super().__init__()
            self.inner = Registers.losses.get("CrossEntropyLoss")()

    several = ("pictures", "multi_label")
    for loss, wrong in ((Mine(), "Mine"), (Own(), "CrossEntropyLoss")):
        with pytest.raises(ConfigError, match=f"{wrong} is for one label"):
            refuse_unfit(loss, several)
    refuse_unfit(Masked(), several)
    refuse_unfit(nn.MSELoss(), several)  # says nothing: believed
    with pytest.raises(ConfigError, match="MSELoss does not judge boxes.*YOLOXLoss"):
        refuse_unfit(nn.MSELoss(), ("boxes",))


def test_all_wrong_terms_are_named_at_once():
    loss = build_loss([{"type": "KLDivLoss"}, {"type": "BCEWithLogitsLoss"}, {"type": "DiceLoss"}], num_classes=K)
    with pytest.raises(ConfigError) as caught:
        refuse_unfit(loss, ("pictures", "multi_label"))
    assert [p.what.split()[0] for p in caught.value.problems] == ["KLDivLoss", "DiceLoss", "DiceLoss"]


# -- "balanced" by the number of pictures

SCRATCH_AND_DENT = SimpleNamespace(
    classes=["scratch", "dent"], multi_label=True, loss_counts=lambda: [50, 20], loss_total=lambda: 1000
)


def test_balanced_of_several_labels_goes_by_pictures_not_by_the_sum_of_counts():
    """1000 pictures, 50 with a scratch, 20 with a dent: 950 / 50 and 980 / 20."""
    from dao.tasks import build

    section = {"type": "BCEWithLogitsLoss", "kwargs": {"pos_weight": "balanced"}}
    loss = build.loss_of(section, "loss", SCRATCH_AND_DENT, torch.device("cpu"))
    assert loss.losses[0].pos_weight.tolist() == pytest.approx([19.0, 49.0])
    section = {"type": "FocalLoss", "kwargs": {"alpha": "balanced"}}
    loss = build.loss_of(section, "loss", SCRATCH_AND_DENT, torch.device("cpu"))
    assert loss.losses[0].presence.tolist() == pytest.approx([0.95, 0.98])


def test_balanced_of_a_single_kind_of_defect_is_told_by_the_number_of_pictures():
    loss = BCEWithLogitsLoss(pos_weight="balanced", num_classes=1, class_counts=[50], class_total=1000)
    assert loss.pos_weight.tolist() == pytest.approx([19.0])


@pytest.mark.parametrize("name", ["BCEWithLogitsLoss", "FocalLoss"])
def test_balanced_of_a_class_that_every_picture_shows_is_refused(name):
    """Its presence would weigh nothing."""
    key = "pos_weight" if name == "BCEWithLogitsLoss" else "alpha"
    with pytest.raises(ConfigError, match=r"every training picture shows \(class 1\)"):
        Registers.losses.build(
            {"type": name, "kwargs": {key: "balanced"}}, "loss", class_counts=[4, 10], class_total=10, multi_label=True
        )
