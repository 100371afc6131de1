"""What the losses share: limits of their settings, class weights, targets as distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dao.config.signature import out_of_limits
from dao.errors import ConfigError, Problem
from dao.losses import parts

UNLABELLED = -100  # the class index that does not count, as torch's losses take it
Weights = list[float] | Literal["balanced"] | None


class Loss(nn.Module):
    """Base of the losses: forward(logits, target) -> scalar.

    limits: smallest and largest value a numeric setting may have, both included; checked before a run starts.
    takes_*: what the targets may be, said by the loss itself (where it hangs on a setting, by a property) and asked before
    anything is trained: pictures, one class each or shares of classes; multi_label, (B, K) of yes and no; masks, one class a
    pixel; unlabelled, pixels of UNLABELLED among them, which it leaves out; boxes.
    """

    limits: ClassVar[dict[str, tuple[float, float]]] = {}
    takes_pictures: bool = True
    takes_multi_label: bool = False
    takes_masks: bool = True
    takes_unlabelled: bool = False
    takes_boxes: bool = False

    def alike(self, target: Any) -> bool:
        """Whether every batch of so many pictures weighs the same in this loss, so that a mean over batches of one size
        is the mean over their pictures: what accumulation need not measure. By default nobody knows."""
        return False

    @classmethod
    def check_config(cls, kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Settings of a config outside their limits."""
        return out_of_limits(kwargs, cls.limits, where)


def balanced_weights(class_counts: list[int] | None, where: str) -> Tensor:
    """n / (K * count_k): every class weighs the same in sum, the average picture weighs 1.

    class_counts: training pictures per class. Returns (K,) float32.
    Raises ConfigError when the counts are unknown or a class has no picture.
    """
    counts = positive_counts(class_counts, where)
    return counts.sum() / (len(counts) * counts)


def positive_counts(class_counts: list[int] | None, where: str) -> Tensor:
    """The counts as (K,) float32. Raises ConfigError when they are unknown or a class has no picture."""
    if class_counts is None:
        raise ConfigError(Problem(where, "'balanced' needs the pictures per class, which this data set does not give"))
    empty = [index for index, count in enumerate(class_counts) if count <= 0]
    if empty:
        message = f"'balanced' cannot weigh a class without training pictures (class {', '.join(map(str, empty))}); "
        raise ConfigError(Problem(where, message + "add pictures, remove the class, or list the weights"))
    return torch.tensor(class_counts, dtype=torch.float32)


def absences_per_presence(class_counts: list[int] | None, class_total: int | None, where: str) -> Tensor:
    """(n - count_k) / count_k, (K,) float32, n of `shares_of_presence`."""
    share = shares_of_presence(class_counts, class_total, where)
    return (1 - share) / share


def shares_of_presence(class_counts: list[int] | None, class_total: int | None, where: str) -> Tensor:
    """count_k / n, (K,) float64: how much of the training data shows each class.

    n: class_total, the number of pictures (or pixels), whatever number of labels they carry; None, where each carries
    exactly one: the sum of the counts. Raises ConfigError where absences cannot be told, or a class is never absent.
    """
    counts = positive_counts(class_counts, where).double()
    if class_total is None and len(counts) < 2:
        message = "one class's count does not tell its absences; list the weight instead of 'balanced'"
        raise ConfigError(Problem(where, message))
    total = counts.sum() if class_total is None else counts.new_tensor(class_total)
    always = torch.nonzero(counts >= total).flatten().tolist()
    if always:
        message = (
            f"'balanced' cannot weigh a class that every training picture shows (class {', '.join(map(str, always))}); "
        )
        raise ConfigError(Problem(where, message + "add pictures without it, remove the class, or list the weights"))
    return counts / total


def listed_weights(weights: list[float], num_classes: int | None, where: str) -> Tensor:
    """Weights as the config lists them, (K,) float32. Raises ConfigError for a wrong number or a negative one."""
    if num_classes is not None and len(weights) != num_classes:
        raise ConfigError(Problem(where, f"expected {num_classes} numbers, one per class, got {len(weights)}"))
    if min(weights, default=-1.0) < 0 or max(weights) == 0:
        raise ConfigError(Problem(where, f"expected numbers from 0 up, not all of them 0, got {weights}"))
    return torch.tensor(weights, dtype=torch.float32)


def per_class(values: Tensor, logits: Tensor) -> Tensor:
    """(K,) reshaped to (K, 1, ...) so that it broadcasts along dimension 1 of (B, K, ...) logits."""
    return values.view(-1, *[1] * (logits.ndim - 2))


def is_class_index(target: Tensor, logits: Tensor) -> bool:
    """Whether the target holds one class index a place, (B, ...), rather than a number per class, (B, K, ...)."""
    return target.ndim == logits.ndim - 1 and not target.is_floating_point()


def labelled_places(target: Tensor, logits: Tensor, ignore_index: int) -> Tensor | None:
    """(B, ...) bool, which places of class indices count; None for a number per class, where all of them do."""
    return target != ignore_index if is_class_index(target, logits) else None


def mean_of_labelled(each: Tensor, labelled: Tensor | None) -> Tensor:
    """Mean of what every place costs over the labelled places of all processes; 0 where nothing is labelled.

    each: (B, ...) float; labelled: (B, ...) bool, or None: all of them are.
    """
    if labelled is None:
        return mean_of_all(each.mean(), each.numel())
    return each.where(labelled, 0).sum() / divisor_of(labelled.sum(), each)


def as_distribution(target: Tensor, logits: Tensor, labelled: Tensor | None = None) -> Tensor:
    """The target with a number per class: class indices become one-hot, (B, K, ...) stays as it is.

    With a single output (K = 1) the indices 0 and 1 are taken as absence and presence. What is not labelled
    (see `labelled_places`) becomes some class: it is for the caller to leave it out.
    logits: (B, K, ...); target: (B, ...) integer or (B, K, ...). Returns float of the logits' shape.
    Raises ConfigError when the shapes do not fit: they would broadcast and train on nonsense.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    if labelled is not None:
        target = target.where(labelled, 0)
    if is_class_index(target, logits) and logits.shape[1] == 1:
        target = target.unsqueeze(1)
    if is_class_index(target, logits):
        return torch.zeros_like(logits, dtype=dtype).scatter_(1, target.long().unsqueeze(1), 1.0)
    if target.shape != logits.shape:
        shapes = f"the model gives {tuple(logits.shape)}, the data {tuple(target.shape)}"
        raise ConfigError(Problem("loss.type", f"this loss does not fit the task: {shapes}"))
    return target.to(dtype)


def of_pictures(target: Any) -> bool:
    """Whether targets are one thing a picture: (B,) classes or (B, K) shares, not pixels or boxes."""
    return isinstance(target, Tensor) and target.ndim <= 2


def divisor_of(count: Tensor | float, like: Tensor, least: float = 1.0) -> Tensor:
    """What a sum over these pictures is divided by to make a mean over everybody's: max(all, least) / parts, which are
    other processes' batches and those of an accumulation window.

    DDP averages the processes' gradients. Each dividing by a count of its own, the average would be a mean of means, and
    depend on which picture was dealt to whom. count: pictures, pixels, positives or their weight, here; like: a tensor on
    the device. Returns a scalar without gradient; max(count, least) in a single process.
    """
    here = torch.as_tensor(count, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)
    return parts.mean(here).clamp_min(least / parts.count())


def mean_of_all(mean: Tensor, count: Tensor | float) -> Tensor:
    """A mean over ``count`` things here as this process's part in the mean over everybody's; see `divisor_of`."""
    if parts.alone():
        return mean
    return mean * (count / divisor_of(count, mean, least=torch.finfo(torch.float32).tiny))
