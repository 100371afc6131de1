"""Losses on regions of pixels: the overlap of masks instead of the sum over pixels.

All of them take softmax logits (B, K, H, W) and integer classes (B, H, W); pixels of ``ignore_index`` do not count.
A small defect weighs as much as a large one, so they help where cross entropy is drowned by background.
"""

from __future__ import annotations

import torch
from segmentation_models_pytorch import losses as smp_losses
from torch import Tensor
from torch.nn import functional as F

from dao.errors import ConfigError, Problem
from dao.losses import parts
from dao.losses.base import UNLABELLED, Loss, is_class_index, mean_of_all
from dao.register import Registers

UNIT = (0.0, 1.0)
EPS = 1e-7  # an overlap that nothing is divided by


def overlaps(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sums over the pixels of the batch, those of all processes: an overlap is no mean of smaller batches' overlaps.

    logits: (B, K, H, W); target: (B, H, W). Returns (K,) each: probability where the class is, probability of the class
    anywhere, pixels of the class; and the number of labelled pixels, a scalar.
    """
    refuse_other_targets(logits, target)
    valid = target != ignore_index
    said = logits.float().softmax(1) * valid.unsqueeze(1)
    true = F.one_hot(target.long().where(valid, 0), logits.shape[1]).movedim(-1, 1) * valid.unsqueeze(1)
    sums = [(said * true).sum((0, 2, 3)), said.sum((0, 2, 3)), true.sum((0, 2, 3)).float(), valid.sum().float()[None]]
    classes = logits.shape[1]
    return torch.split(parts.sum_with_gradient(torch.cat(sums)), [classes, classes, classes, 1])


class MaskLoss(Loss):
    """Base of the losses that judge masks of one class a pixel, and nothing else."""

    takes_pictures = False
    takes_unlabelled = True


class OverlapLoss(MaskLoss):
    """1 - the index of Tversky (1977), TP / (TP + alpha FP + beta FN), to the power 1 / gamma, class by class.

    The mean is over those of ``classes`` (None: all) that have a pixel in the batch; where none has, the loss is 0.
    log_loss: -log(index) instead.
    """

    def __init__(
        self,
        alpha: float,
        beta: float,
        classes: list[int] | None,
        smooth: float = 0.0,
        gamma: float = 1.0,
        log_loss: bool = False,
        ignore_index: int = UNLABELLED,
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.classes, self.smooth = alpha, beta, classes, smooth
        self.gamma, self.log_loss, self.ignore_index = gamma, log_loss, ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (B, K, H, W) float; target: (B, H, W) integer classes. Returns a scalar."""
        both, said, true, _ = overlaps(logits, target, self.ignore_index)
        wrong = self.alpha * (said - both) + self.beta * (true - both)
        index = (both + self.smooth) / (both + wrong + self.smooth).clamp_min(EPS)
        loss = -index.clamp_min(EPS).log() if self.log_loss else 1 - index
        if self.gamma != 1:
            loss = loss.clamp_min(EPS) ** (1 / self.gamma)  # the floor keeps the gradient finite at 0
        present = true > 0
        if self.classes is not None:
            loss, present = loss[self.classes], present[self.classes]
        return (loss * present).sum() / present.sum().clamp_min(1)


def refuse_other_targets(logits: Tensor, target: Tensor) -> None:
    """Raise ConfigError unless every pixel has one class."""
    if not is_class_index(target, logits) or logits.ndim != 4:
        shapes = f"the model gives {tuple(logits.shape)}, the data {tuple(target.shape)}"
        raise ConfigError(Problem("loss.type", f"this loss is for masks of one class a pixel: {shapes}"))


def counted(num_classes: int | None, include_background: bool) -> list[int] | None:
    """The classes a loss counts; None for all. Raises ConfigError where none is left."""
    if include_background or num_classes is None:
        return None
    if num_classes < 2:
        raise ConfigError(Problem("loss.kwargs.include_background", "there is no class beside the background"))
    return list(range(1, num_classes))


@Registers.losses.register()
class DiceLoss(OverlapLoss):
    """1 - Dice coefficient, mean over the classes in the batch (Milletari et al. 2016, V-Net).

    smooth: added to numerator and denominator; log_loss: -log(Dice) instead, steeper for small overlaps.
    include_background: count class 0 as well.
    """

    limits = {"smooth": (0.0, float("inf"))}

    def __init__(
        self,
        include_background: bool = True,
        smooth: float = 0.0,
        log_loss: bool = False,
        ignore_index: int = UNLABELLED,
        num_classes: int | None = None,
    ) -> None:
        classes = counted(num_classes, include_background)
        super().__init__(0.5, 0.5, classes, smooth, log_loss=log_loss, ignore_index=ignore_index)


@Registers.losses.register()
class TverskyLoss(OverlapLoss):
    """1 - TP / (TP + alpha FP + beta FN) (Salehi et al. 2017), mean over the classes in the batch.

    alpha: weight of false alarms, beta: of missed pixels; beta above alpha finds more and alarms more.
    gamma: the focal Tversky loss of Abraham and Khan (2018): each class's loss to the power 1 / gamma, as they write it
        (1 to 3; their best is 4/3). Above 1 the steepest slope is where a class is nearly found, below 1 where it is not.
    include_background: count class 0 as well.
    """

    limits = {"alpha": UNIT, "beta": UNIT, "gamma": (0.1, 10.0)}

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        include_background: bool = True,
        smooth: float = 0.0,
        ignore_index: int = UNLABELLED,
        num_classes: int | None = None,
    ) -> None:
        classes = counted(num_classes, include_background)
        super().__init__(alpha, beta, classes, smooth, gamma, ignore_index=ignore_index)


@Registers.losses.register()
class JaccardLoss(TverskyLoss):
    """1 - intersection over union, mean over the classes in the batch: Tversky with alpha = beta = 1.

    include_background: count class 0 as well.
    """

    def __init__(
        self,
        include_background: bool = True,
        smooth: float = 0.0,
        ignore_index: int = UNLABELLED,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(1.0, 1.0, 1.0, include_background, smooth, ignore_index, num_classes)


@Registers.losses.register()
class LovaszLoss(MaskLoss):
    """Lovasz-softmax (Berman et al. 2018): a surrogate whose minimum is that of the Jaccard loss itself.

    per_image: mean over pictures instead of the batch as one. The batch is that of one process: what is sorted is not
    sent about, so that several processes see smaller batches here; per_image is the same on any number of them.
    """

    def __init__(self, per_image: bool = False, ignore_index: int = UNLABELLED) -> None:
        super().__init__()
        self.loss = smp_losses.LovaszLoss("multiclass", per_image=per_image, ignore_index=ignore_index)
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (B, K, H, W) float; target: (B, H, W) integer classes. Returns a scalar.

        Pictures without a labelled pixel are left out: the library stumbles over them.
        """
        refuse_other_targets(logits, target)
        labelled = (target != self.ignore_index).flatten(1).any(dim=1)
        mean = logits.sum() * 0.0
        if bool(labelled.any()):
            mean = self.loss(logits[labelled].float(), target[labelled].long())
        return mean_of_all(mean, labelled.sum())


@Registers.losses.register()
class MCCLoss(MaskLoss):
    """1 - Matthews correlation coefficient of each class against the rest (Abhishek and Hamarneh 2021), their mean.

    include_background: count class 0 as well. Classes without a pixel in the batch, and one that fills it, are left out:
    there is nothing to tell apart. eps: pixels, added to each margin, so that nothing is divided by 0.
    """

    def __init__(self, include_background: bool = True, eps: float = 1e-5, ignore_index: int = UNLABELLED) -> None:
        super().__init__()
        self.first, self.eps, self.ignore_index = 0 if include_background else 1, eps, ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (B, K, H, W) float; target: (B, H, W) integer classes. Returns a scalar."""
        table = soft_confusion(logits, target, self.ignore_index)
        hit = table.diagonal()
        others = 1 - torch.eye(len(table), device=table.device)
        # sums of what is small beside millions of pixels, never differences of what is large
        missed, alarms = (table * others).sum(1), (table * others).sum(0)
        rest = torch.einsum("ki,ij,kj->k", others, table, others)
        said, true, not_said, not_true = hit + alarms, hit + missed, rest + missed, rest + alarms
        spread = ((said + self.eps) * (true + self.eps)).sqrt() * ((not_said + self.eps) * (not_true + self.eps)).sqrt()
        loss = 1 - (hit * rest - alarms * missed) / spread
        told = (table.sum(1) > 0) & ((others @ table).sum(1) > 0)
        loss, told = loss[self.first :], told[self.first :]
        return (loss * told).sum() / told.sum().clamp_min(1)


def soft_confusion(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """(K, K) float32: how much probability of class j the labelled pixels of class i have, over all processes.

    logits: (B, K, H, W); target: (B, H, W) integer classes.
    """
    refuse_other_targets(logits, target)
    valid = target != ignore_index
    said = (logits.float().softmax(1) * valid.unsqueeze(1)).movedim(1, -1).flatten(0, 2)
    true = (F.one_hot(target.long().where(valid, 0), logits.shape[1]) * valid.unsqueeze(-1)).flatten(0, 2).float()
    with torch.autocast(logits.device.type, enabled=False):  # a product of matrices, which half precision would spoil
        return parts.sum_with_gradient(true.T @ said)


@Registers.losses.register()
class BoundaryLoss(MaskLoss):
    """1 - boundary F1 of every class in the batch (Bokhovkin and Burnaev 2019): outlines that lie close together.

    width: pixels of the outline itself; tolerance: pixels by which two outlines may lie apart; both odd.
    Add it to a loss on regions, small at first: alone it does not know what is inside.
    """

    limits = {"width": (3, 99), "tolerance": (3, 99)}

    def __init__(self, width: int = 3, tolerance: int = 5, ignore_index: int = UNLABELLED) -> None:
        super().__init__()
        for name, value in (("width", width), ("tolerance", tolerance)):
            if value % 2 == 0:
                raise ConfigError(Problem(f"loss.kwargs.{name}", f"expected an odd number of pixels, got {value}"))
        self.width, self.tolerance, self.ignore_index = width, tolerance, ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (B, K, H, W) float; target: (B, H, W) integer classes. Returns a scalar."""
        refuse_other_targets(logits, target)
        valid = (target != self.ignore_index).unsqueeze(1)
        hot = F.one_hot(target.long().where(valid[:, 0], 0), logits.shape[1]).movedim(-1, 1).float() * valid
        said = logits.float().softmax(1) * valid
        true_edge, said_edge = (_grow(1 - x, self.width) - (1 - x) for x in (hot, said))
        near_true, near_said = _grow(true_edge, self.tolerance), _grow(said_edge, self.tolerance)
        precision = ((said_edge * near_true).sum((2, 3)) + 1e-7) / (said_edge.sum((2, 3)) + 1e-7)
        recall = ((true_edge * near_said).sum((2, 3)) + 1e-7) / (true_edge.sum((2, 3)) + 1e-7)
        f1 = 2 * precision * recall / (precision + recall)
        present = hot.sum((2, 3)) > 0
        mean = (1 - f1)[present].mean() if bool(present.any()) else logits.sum() * 0.0
        return mean_of_all(mean, present.sum())


def _grow(x: Tensor, width: int) -> Tensor:
    """The largest value in a square of ``width`` pixels round each one."""
    return F.max_pool2d(x, width, stride=1, padding=width // 2)
