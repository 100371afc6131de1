"""Hooks that change the batch before the model sees it, or what is made of it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from loguru import logger

from dao.errors import ConfigError, Problem
from dao.processes.seeding import mix
from dao.register import Registers
from dao.tasks import build
from dao.trainers.hooks.base import Hook

if TYPE_CHECKING:
    from dao.trainers.trainval import TrainVal

INFINITY = float("inf")


def in_tail(trainer: TrainVal) -> bool:
    """Whether the epoch is one of the last, which train without augmentation."""
    return trainer.epoch >= trainer.max_epochs - trainer.no_aug_epochs


NOTHING = "mixup_alpha and cutmix_alpha are both 0; nothing would happen"


@Registers.hooks.register()
class MixupCutmix(Hook):
    """Blend pairs of pictures and their labels (Zhang et al. 2017; Yun et al. 2019), by timm's Mixup.

    mixup_alpha, cutmix_alpha: of the Beta distributions, 0 switches one off; prob: of doing either;
    switch_prob: of cutmix where both are on; label_smoothing: of the soft labels.
    Off in the trainer's last ``no_aug_epochs``. Needs a loss that takes soft targets.
    """

    limits = {
        "mixup_alpha": (0, INFINITY), "cutmix_alpha": (0, INFINITY), "prob": (0, 1), "switch_prob": (0, 1),
        "label_smoothing": (0, 1),
    }  # fmt: skip

    def __init__(
        self,
        mixup_alpha: float = 0.2,
        cutmix_alpha: float = 0.0,
        prob: float = 1.0,
        switch_prob: float = 0.5,
        label_smoothing: float = 0.0,
    ) -> None:
        if mixup_alpha <= 0 and cutmix_alpha <= 0:
            raise ConfigError(Problem("mixup_alpha", NOTHING))
        self.settings = {"mixup_alpha": mixup_alpha, "cutmix_alpha": cutmix_alpha, "prob": prob}
        self.settings |= {"switch_prob": switch_prob, "label_smoothing": label_smoothing}

    @classmethod
    def check_config(cls, kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        problems = super().check_config(kwargs, where)
        if not problems and kwargs.get("mixup_alpha", 0.2) <= 0 and kwargs.get("cutmix_alpha", 0.0) <= 0:
            problems.append(Problem(f"{where}.mixup_alpha", NOTHING))
        return problems

    def before_train(self, trainer: TrainVal) -> None:
        from timm.data import Mixup

        self.mixup = Mixup(**self.settings, num_classes=len(trainer.task.classes))

    def before_iter(self, trainer: TrainVal) -> None:
        batch = trainer.batch
        if in_tail(trainer) or len(batch) < 2:
            return
        if getattr(batch.targets, "ndim", 0) != 1:
            message = "MixupCutmix blends one label a picture; this data has several, or masks or boxes"
            raise ConfigError(
                Problem(self.where or "hooks", f"{message} (transforms for those: CopyPaste, Mixup, Mosaic)")
            )
        even = len(batch) // 2 * 2  # timm blends pairs; an odd last picture stays as it is
        images = batch.images.float()
        mixed, soft = self.mixup(images[:even].clone(), batch.targets[:even])
        rest = torch.nn.functional.one_hot(batch.targets[even:], len(trainer.task.classes)).to(soft.dtype)
        batch.images, batch.targets = torch.cat([mixed, images[even:]]), torch.cat([soft, rest])


@Registers.hooks.register()
class MultiScale(Hook):
    """Train on another input size every ``interval`` iterations: ``low`` to ``high`` times the batch's own, by ``stride``.

    The batch's own size is that of its pictures (or of the windows cut from them) as the dataloader gives them.
    The size is a function of (seed, iteration), so every process and every resumed run takes the same.
    """

    limits = {"low": (0.01, 100), "high": (0.01, 100), "stride": (1, INFINITY), "interval": (1, INFINITY)}

    @classmethod
    def check_config(cls, kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        problems = super().check_config(kwargs, where)
        low, high = kwargs.get("low", 0.75), kwargs.get("high", 1.25)
        if not problems and low > high:
            problems.append(Problem(f"{where}.low", f"is {low:g}, above high, which is {high:g}"))
        return problems

    def __init__(self, low: float = 0.75, high: float = 1.25, stride: int = 32, interval: int = 10) -> None:
        self.low, self.high, self.stride, self.interval = low, high, stride, interval

    def before_iter(self, trainer: TrainVal) -> None:
        if in_tail(trainer):
            return
        dice = random.Random(mix(trainer.seed, trainer.global_iter // self.interval))
        scale = dice.uniform(self.low, self.high)
        own = tuple(trainer.batch.images.shape[-2:])
        size = tuple(max(self.stride, round(side * scale / self.stride) * self.stride) for side in own)
        if size != own:
            trainer.task.resize_batch(trainer.batch, size)


@Registers.hooks.register()
class SwitchLoss(Hook):
    """From ``epoch`` (counted from 1) on, train with another loss, written as the config's ``loss`` section."""

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """The section as if it stood in its own place."""
        from dao.config.schema import section_problems

        early = [Problem(f"{where}.epoch", f"must be at least 1, got {kwargs['epoch']}")] if kwargs["epoch"] < 1 else []
        return early + section_problems("loss", kwargs["loss"], f"{where}.loss")

    def __init__(self, epoch: int, loss: dict[str, Any] | list[dict[str, Any]]) -> None:
        self.epoch, self.section, self.loss = epoch, loss, None

    def before_train(self, trainer: TrainVal) -> None:
        self.check_built(trainer)

    def check_built(self, trainer: TrainVal) -> None:
        """Build the loss, which may not go with the data."""
        if self.loss is None:
            place = f"{self.where or 'hooks.SwitchLoss'}.kwargs.loss"
            self.loss = build.loss_of(self.section, place, trainer.dataset, trainer.device)
            try:
                trainer.task.check_loss(self.loss)
            except ConfigError as error:  # which takes it for the config's own loss
                problems = [Problem(place + p.where.removeprefix("loss"), p.what) for p in error.problems]
                raise ConfigError(problems) from None

    def before_epoch(self, trainer: TrainVal) -> None:
        if trainer.epoch + 1 >= self.epoch and trainer.task.loss is not self.loss:
            trainer.task.loss = self.loss
            logger.info("epoch {}: the loss is now {}", trainer.epoch + 1, self.section)
