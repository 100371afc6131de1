"""Losses on masks against their definitions written out."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dao.errors import ConfigError
from dao.losses.pixelwise import OhemCrossEntropyLoss, SoftBCELoss
from dao.losses.region import BoundaryLoss, DiceLoss, JaccardLoss, LovaszLoss, MCCLoss, TverskyLoss

K, UNLABELLED = 3, -100
ALL = [DiceLoss, JaccardLoss, TverskyLoss, LovaszLoss, MCCLoss, BoundaryLoss, OhemCrossEntropyLoss, SoftBCELoss]


@pytest.fixture
def data():
    torch.manual_seed(0)
    logits = torch.randn(2, K, 12, 10, dtype=torch.float32, requires_grad=True)
    return logits, torch.randint(0, K, (2, 12, 10))


def perfect(target, classes=K):
    return 60.0 * F.one_hot(target, classes).movedim(-1, 1).float() - 30.0


@pytest.mark.parametrize("loss", ALL)
def test_right_costs_nothing_and_wrong_costs_more(loss, data):
    logits, target = data
    target = torch.zeros_like(target)
    target[:, 3:8, 2:6], target[:, 9:, 7:] = 1, 2
    wrong = perfect((target + 1) % K)
    assert float(loss()(perfect(target), target)) < 0.02
    assert float(loss()(wrong, target)) > 0.2
    loss()(logits, target).backward()
    assert torch.isfinite(logits.grad).all() and logits.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", ALL)
def test_unlabelled_pixels_change_nothing(loss, data):
    logits, target = data
    target[:, :, 5:] = UNLABELLED
    other = logits.detach().clone()
    other[..., 5:] = 7.0
    if loss is not BoundaryLoss:  # whose outlines begin where labels end
        torch.testing.assert_close(loss()(logits, target), loss()(other, target))
    nothing = loss()(logits, torch.full_like(target, UNLABELLED))
    assert torch.isfinite(nothing) and float(nothing) < 1e-3


@pytest.mark.parametrize("loss", ALL)
def test_other_targets_are_refused(loss, data):
    with pytest.raises(ConfigError, match="one class a pixel"):
        loss()(data[0], torch.rand(2, K, 12, 10))


def overlaps(logits, target):
    said, true = logits.softmax(1).movedim(1, -1).reshape(-1, K), F.one_hot(target, K).reshape(-1, K).float()
    return (said * true).sum(0), said.sum(0), true.sum(0)


def test_dice_tversky_and_jaccard_by_their_formulas(data):
    hit, said, true = overlaps(*data)
    torch.testing.assert_close(DiceLoss()(*data), (1 - 2 * hit / (said + true)).mean())
    torch.testing.assert_close(JaccardLoss()(*data), (1 - hit / (said + true - hit)).mean())
    tversky = hit / (hit + 0.3 * (said - hit) + 0.7 * (true - hit))
    torch.testing.assert_close(TverskyLoss()(*data), (1 - tversky).mean())
    without = DiceLoss(include_background=False, num_classes=K)(*data)
    torch.testing.assert_close(without, (1 - 2 * hit / (said + true))[1:].mean())


def test_mcc_of_sure_answers_is_that_of_counts():
    from sklearn.metrics import matthews_corrcoef

    rng = np.random.default_rng(0)
    target, said = (torch.from_numpy(rng.integers(0, K, (2, 20, 20))) for _ in range(2))
    expected = np.mean([matthews_corrcoef(target.flatten() == k, said.flatten() == k) for k in range(K)])
    assert float(MCCLoss()(perfect(said), target)) == pytest.approx(1 - expected, abs=1e-3)


def test_soft_bce_is_torchs_with_smoothing(data):
    logits, target = data
    hot = F.one_hot(target, K).movedim(-1, 1) * 0.9 + 0.05
    expected = F.binary_cross_entropy_with_logits(logits, hot)
    torch.testing.assert_close(SoftBCELoss(smooth_factor=0.1)(logits, target), expected)


def test_ohem_takes_the_hardest_share_and_whatever_is_unsure(data):
    logits, target = data
    each = F.cross_entropy(logits, target, reduction="none").flatten().sort(descending=True).values
    share = OhemCrossEntropyLoss(threshold=0.0, min_share=0.25)(logits, target)
    torch.testing.assert_close(share, each[: len(each) // 4].mean())
    everything = OhemCrossEntropyLoss(threshold=1.0)(logits, target)
    torch.testing.assert_close(everything, each.mean())
    weighted = OhemCrossEntropyLoss(threshold=1.0, class_weights=[1.0, 2.0, 3.0], num_classes=K)(logits, target)
    torch.testing.assert_close(weighted, F.cross_entropy(logits, target, weight=torch.tensor([1.0, 2.0, 3.0])))


def test_outlines_that_lie_close_cost_little():
    def square(shift):
        mask = torch.zeros(1, 40, 40, dtype=torch.long)
        mask[:, 10:30, 10 + shift : 30 + shift] = 1
        return mask

    costs = [
        float(BoundaryLoss()(30.0 * F.one_hot(square(s), 2).movedim(-1, 1).float(), square(0))) for s in (0, 1, 2, 6)
    ]
    assert costs[0] < 1e-3 and costs == sorted(costs) and costs[1] < 0.05 < costs[3]


def test_values_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="odd number"):
        BoundaryLoss(width=4)
    with pytest.raises(ConfigError, match="no class beside"):
        DiceLoss(include_background=False, num_classes=1)


@pytest.mark.parametrize("loss", [DiceLoss, JaccardLoss, TverskyLoss, MCCLoss])
def test_a_class_without_a_pixel_in_the_batch_neither_costs_nor_dilutes(loss):
    """Classes 0 and 1 of three, by hand: the mean of two, whatever is said of the third."""
    logits, target = torch.randn(2, 3, 6, 5), torch.randint(0, 2, (2, 6, 5))
    hit, said, true = overlaps(logits, target)
    fp, fn = said - hit, true - hit
    by_hand = {
        DiceLoss: 1 - 2 * hit / (said + true), JaccardLoss: 1 - hit / (said + true - hit),
        TverskyLoss: 1 - hit / (hit + 0.3 * fp + 0.7 * fn),
    }  # fmt: skip
    if loss in by_hand:
        torch.testing.assert_close(loss()(logits, target), by_hand[loss][:2].mean())
    both = [loss()(logits, target), loss()(torch.cat([logits, torch.full_like(logits[:, :1], -1e4)], 1), target)]
    torch.testing.assert_close(*both)  # a fourth class that nobody says changes nothing


@pytest.mark.parametrize("gamma", [4 / 3, 0.75, 3.0])
def test_focal_tversky_takes_the_power_1_by_gamma_of_each_class(data, gamma):
    """Abraham and Khan 2018, eq. 4: a sum over classes of (1 - TI_c)^(1/gamma), not the power of their mean."""
    hit, said, true = overlaps(*data)
    index = hit / (hit + 0.3 * (said - hit) + 0.7 * (true - hit))
    expected = sum((1 - float(index[c])) ** (1 / gamma) for c in range(K)) / K
    assert float(TverskyLoss(gamma=gamma)(*data)) == pytest.approx(expected, rel=1e-5)
    answer = perfect(data[1]).requires_grad_()
    TverskyLoss(gamma=gamma)(answer, data[1]).backward()
    assert answer.grad.isfinite().all()


def test_mcc_of_a_perfect_answer_is_0_however_small_the_defect():
    target = torch.zeros(8, 512, 512, dtype=torch.long)
    target[3, 100, 40:60] = 1
    assert float(MCCLoss()(perfect(target, 2), target)) < 1e-4
    half = target.clone()
    half[3, 100, 40:50] = 0  # 10 of 20 pixels missed: TP 10, FN 10, no alarm
    n, tp, fn = target.numel(), 10, 10
    expected = 1 - tp * (n - 20) / ((tp + fn) * tp * (n - 20) * (n - 10)) ** 0.5
    assert float(MCCLoss()(perfect(half, 2), target)) == pytest.approx(expected, abs=1e-4)


def test_mcc_of_good_parts_alone_is_0():
    """One class fills the batch: there is nothing to tell apart."""
    target = torch.zeros(2, 8, 8, dtype=torch.long)
    assert float(MCCLoss()(perfect(target, 2), target)) == 0.0
