"""EfficientAD (Batzner, Heckler, Koenig 2024): a student of a small teacher, and of an autoencoder of whole pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loguru import logger
from numpy.typing import NDArray
from torch import Tensor

from dao.errors import Problem
from dao.models.anomaly.base import TINY, AnomalyModel, Pictures
from dao.models.anomaly.features import FeatureExtractor
from dao.models.anomaly.pdn import (
    CHANNELS,
    MARGIN,
    PDN,
    Autoencoder,
    Size,
    hard_feature_loss,
    jittered,
    over_pixels,
    region_of_places,
)  # fmt: skip
from dao.models.anomaly.pdn_teacher import Teacher, load_teacher
from dao.models.expected import timm_weights
from dao.processes import dist
from dao.register import Registers

LOW, HIGH = 0.9, 0.995  # quantiles of good places' distances, by which both maps are brought to one scale
SCALE = 0.1  # what lies between the two becomes this much of the map
JITTER = 0.2  # by which brightness, contrast or saturation of the autoencoder's input is changed at most
ORDINARY, GREYED = 4, 0.3  # ordinary pictures a step, and the share of them that lose their colour


@Registers.anomaly_models.register()
class EfficientAD(AnomalyModel):
    """What a student of good parts answers otherwise than its teacher does, and than an autoencoder does.

    size: "small" or "medium" networks. teacher_path: a file with a teacher's weights (conv1 ... conv4, or conv6).
    Without one the teacher is distilled first, for ``distil_steps`` iterations (a quarter of the run's), from a timm
    network: backbone, layers, pretrained or checkpoint_path.
    penalty_folder: of ordinary pictures (a few thousand photographs), on which the student is to answer nothing.
    autoencoder: false for the student alone, which does not know how a part is laid out, and takes tiles.
    padding: places at the border are described as well, by what zeros around the picture make of them.
    p_hard: the student learns from the distances above this quantile of a batch. Give an optimizer (the paper: Adam,
    rate 1e-4, weight decay 1e-5, 70,000 pictures, a tenth of the rate in the last 5 %).
    """

    expects = staticmethod(timm_weights("backbone", "resnet18"))
    brings = ("loss",)
    fitted_in_one_pass = False
    not_averaged = ("teacher.",)
    set_by_calibration = ("quantiles",)
    quantiles: Tensor

    def __init__(
        self,
        size: Size = "small",
        teacher_path: str | None = None,
        backbone: str = "resnet18",
        layers: tuple[str, ...] = ("layer2", "layer3"),
        pretrained: bool = False,
        checkpoint_path: str | None = None,
        distil_steps: int | None = None,
        penalty_folder: str | None = None,
        autoencoder: bool = True,
        padding: bool = False,
        p_hard: float = 0.999,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        self.padding, self.p_hard, self.penalty_folder = padding, p_hard, penalty_folder
        self.margin = 0 if padding else MARGIN
        net = PDN(size, CHANNELS, in_chans, padding)
        if teacher_path is not None:
            load_teacher(net, teacher_path)
            self.teacher = Teacher(net, None, self.margin)
        else:
            larger = FeatureExtractor(backbone, layers, in_chans, pretrained, checkpoint_path)
            self.teacher = Teacher(net, larger, self.margin, distil_steps)
        self.student = PDN(size, CHANNELS * (2 if autoencoder else 1), in_chans, padding)
        self.autoencoder = Autoencoder(CHANNELS, in_chans) if autoencoder else None
        self.position_bound = autoencoder  # type: ignore[misc]  # it learns what belongs where
        self.register_buffer("quantiles", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))  # of student's, autoencoder's map
        # as the training loop lays it out, so that the same numbers come out to the last digit wherever it answers
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Numbers out of range, a teacher from two places, a folder that is none."""
        found = []
        if not 0 <= kwargs.get("p_hard", 0) < 1:
            found.append(Problem(f"{where}.p_hard", f"must be at least 0 and below 1, got {kwargs['p_hard']}"))
        if kwargs.get("distil_steps", 1) is not None and kwargs.get("distil_steps", 1) < 1:
            found.append(Problem(f"{where}.distil_steps", f"must be at least 1, got {kwargs['distil_steps']}"))
        if kwargs.get("teacher_path") and (kwargs.get("pretrained") or kwargs.get("checkpoint_path")):
            message = "is a teacher already; pretrained and checkpoint_path are of a network to distil one from"
            found.append(Problem(f"{where}.teacher_path", message))
        folder = kwargs.get("penalty_folder")
        if folder and not Path(folder).is_dir():
            message = f"{folder} is not a folder (working directory: {Path.cwd()})"
            found.append(Problem(f"{where}.penalty_folder", message))
        return found

    # -- before training, and before each of its steps

    @property
    def features(self) -> FeatureExtractor | None:
        """What the teacher is distilled from, as long as it is."""
        return self.teacher.features

    @property
    def in_phases(self) -> bool:
        return self.features is not None

    def plan(self, iterations: int) -> None:
        self.teacher.plan(iterations)

    def stop_learning(self) -> None:
        self.teacher.stop_learning()

    def expect(self, pictures: int, input_hw: tuple[int, int]) -> None:
        if self.penalty_folder is None:
            logger.info(
                "no penalty_folder: nothing keeps the student from answering as its teacher does where it has seen no "
                "good part either. A folder of ordinary photographs would, and some more defects would be found"
            )

    @torch.no_grad()
    def beside(self, images: Tensor, pictures: Pictures) -> dict[str, Tensor]:
        """Functions of torch's generators, which the loop seeds anew for every iteration."""
        with torch.autocast(images.device.type, enabled=False):
            self.teacher.begin_step(pictures, self.penalty_folder)
        found = {}
        if self.penalty_folder is not None:
            pixels = pictures.to_pixels(pictures.draw(self.penalty_folder, ORDINARY))
            colour = (torch.rand(ORDINARY) >= GREYED).float().to(pixels.device)
            found["ordinary"] = pictures.to_input(jittered(pixels, torch.full_like(colour, 2), colour))
        if self.autoencoder is not None and self.features is None:
            kind = torch.randint(3, (len(images),)).to(images.device)
            factor = (1 + JITTER * (2 * torch.rand(len(images)) - 1)).to(images.device)
            found["augmented"] = pictures.to_input(jittered(pictures.to_pixels(images), kind, factor))
        return found

    # -- learning

    def forward(  # type: ignore[override]
        self, images: Tensor, augmented: Tensor | None = None, ordinary: Tensor | None = None
    ) -> tuple[Tensor, Tensor] | dict[str, Tensor]:
        """In training {"loss", and its parts}, of the teacher until it is distilled, then of the others. Else map, score.

        augmented: the same pictures in other colours; ordinary: (P, C, h, w), others.
        """
        if not self.training:
            return self.answer(images)
        if self.features is not None:
            seen = images if ordinary is None else torch.cat([images, ordinary])
            return {"loss": self.teacher.distil(seen)}
        parts = self.losses(images, images if augmented is None else augmented, ordinary)
        return {"loss": torch.stack(list(parts.values())).sum(), **{k: v.detach() for k, v in parts.items()}}

    def losses(self, images: Tensor, augmented: Tensor, ordinary: Tensor | None) -> dict[str, Tensor]:
        """The paper's terms, of equal weight: student, penalty, autoencoder, and student of the autoencoder."""
        gap = self.teacher(images) - self.student(images)[:, :CHANNELS].float()
        found = {"student": hard_feature_loss(gap.square(), self.p_hard)}
        if ordinary is not None:
            found["penalty"] = self.student(ordinary)[:, :CHANNELS].float().square().mean()
        if self.autoencoder is not None:
            taught = self.teacher(augmented)
            made = self.autoencoder(augmented, (taught.shape[-2], taught.shape[-1]), self.margin).float()
            found["autoencoder"] = (taught - made).square().mean()
            found["both"] = (made - self.student(augmented)[:, CHANNELS:].float()).square().mean()
        return found

    # -- answering

    def maps(self, images: Tensor) -> list[Tensor]:
        """Mean squared distance over the channels, (B, 1, H', W') float32: student to teacher, and to autoencoder."""
        taught, learnt = self.teacher(images), self.student(images).float()
        found = [(taught - learnt[:, :CHANNELS]).square().mean(dim=1, keepdim=True)]
        if self.autoencoder is not None:
            made = self.autoencoder(images, (taught.shape[-2], taught.shape[-1]), self.margin).float()
            found.append((made - learnt[:, CHANNELS:]).square().mean(dim=1, keepdim=True))
        return found

    def answer(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of both maps, each as a multiple of the way from its quantile LOW to its quantile HIGH.

        The paper takes the lower one off each map first. That is one number for all places of all pictures: without it no order
        changes, and no score is negative.
        """
        found = self.maps(images)
        wide = (self.quantiles[:, 1] - self.quantiles[:, 0]).clamp_min(TINY)
        places = torch.stack([SCALE * one / wide[i] for i, one in enumerate(found)]).mean(dim=0) * self.teacher.known
        maps = over_pixels(places, (images.shape[-2], images.shape[-1]), self.padding)
        return maps, maps.amax(dim=(1, 2, 3))

    @torch.no_grad()
    def settle(self, pictures: Iterable[Tensor]) -> None:
        """The quantiles of good places' distances, of all processes' pictures (B, C, h, w)."""
        own: list[tuple[NDArray[np.float32], ...]] = []
        for images in pictures:
            found = self.maps(images)
            seen = region_of_places(self.region, (found[0].shape[-2], found[0].shape[-1]), self.padding)
            own.append(tuple((one if seen is None else one[:, :, seen]).flatten().cpu().numpy() for one in found))
        shared = [picture for process in dist.all_gather_object(own) for picture in process]
        for row, values in enumerate(zip(*shared)):
            both = np.quantile(np.concatenate(values).astype(np.float64), (LOW, HIGH))
            self.quantiles[row].copy_(torch.from_numpy(both))
