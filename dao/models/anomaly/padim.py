"""PaDiM (Defard et al. 2021): at every position, how far from the Gaussian of good parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from loguru import logger
from torch import Tensor

from dao.errors import ConfigError, DataError, Problem
from dao.models.anomaly.base import AnomalyModel, Smoothing, same_size
from dao.models.anomaly.features import FeatureExtractor
from dao.models.anomaly.gaussian import PICTURES_AT_ONCE, StreamedGaussians, mahalanobis, whitening
from dao.models.expected import timm_weights
from dao.processes import dist
from dao.processes.gather import processes_here
from dao.register import Registers

EPSILON = 0.01  # on the covariance's diagonal, the paper's
SIGMA = 4.0  # pixels of the model's input, the paper's


@Registers.anomaly_models.register()
class PaDiM(AnomalyModel):
    """A Gaussian at every position of the concatenated maps of some layers.

    backbone, layers: a timm network and its layers; pretrained or checkpoint_path: its weights (see notes).
    dimensions: how many of all the layers' channels are used, drawn by ``seed``; None for all.
    epsilon: added to the covariance's diagonal; sigma: of the Gaussian that smooths the map, in input pixels.
    Memory: positions x dimensions^2 x 8 bytes while fitting, whatever the number of pictures, and half of it after.
    """

    expects = staticmethod(timm_weights("backbone", "resnet18"))
    brings = ("loss", "optimizer", "lr_scheduler")
    position_bound = True
    sized_by_data = ("mean", "precision_root")
    mean: Tensor
    precision_root: Tensor

    def __init__(
        self,
        backbone: str = "resnet18",
        layers: tuple[str, ...] = ("layer1", "layer2", "layer3"),
        dimensions: int | None = 100,
        in_chans: int = 3,
        pretrained: bool = False,
        checkpoint_path: str | None = None,
        epsilon: float = EPSILON,
        sigma: float = SIGMA,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.features = FeatureExtractor(backbone, layers, in_chans, pretrained, checkpoint_path)
        total = sum(self.features.channels)
        if dimensions is not None and dimensions > total:
            message = f"is {dimensions}, but the layers have {total} channels together"
            raise ConfigError(Problem("model.kwargs.dimensions", message))
        self.epsilon, self.smoothing = epsilon, Smoothing(sigma)
        drawn = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[: dimensions or total]
        self._choose(drawn.sort().values)
        self.register_buffer("mean", torch.zeros(0, len(drawn)))
        self.register_buffer("precision_root", torch.zeros(0, len(drawn), len(drawn)))
        self.collected: StreamedGaussians | None = None

    def _choose(self, drawn: Tensor) -> None:
        """Each layer's share of the drawn channels, as a buffer: the checkpoint remembers what was drawn."""
        names = tuple(f"chosen_{number}" for number in range(len(self.features.channels)))
        self.sized_by_data = (*type(self).sized_by_data, *names)
        start = 0
        for number, channels in enumerate(self.features.channels):
            mine = drawn[(drawn >= start) & (drawn < start + channels)] - start
            self.register_buffer(f"chosen_{number}", mine)
            start += channels

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Numbers that are out of range."""
        least = {"dimensions": 1, "sigma": 0}
        problems = [
            Problem(f"{where}.{key}", f"must be at least {low}, got {kwargs[key]}")
            for key, low in least.items()
            if kwargs.get(key) is not None and kwargs[key] < low
        ]
        if kwargs.get("epsilon", EPSILON) <= 0:
            message = (
                f"must be above 0, got {kwargs['epsilon']}: without it a covariance of few pictures has no inverse"
            )
            problems.append(Problem(f"{where}.epsilon", message))
        return problems

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(P, B, d) chosen channels of all layers at every position of the first layer's map, and its (H, W)."""
        # chosen before they are enlarged: nothing is enlarged in vain
        parts = [take_channels(x, getattr(self, f"chosen_{i}")) for i, x in enumerate(self.features(images))]
        joined = torch.cat(same_size(parts, "nearest"), dim=1)
        hw = (joined.shape[-2], joined.shape[-1])
        return joined.flatten(2).permute(2, 0, 1), hw

    def expect(self, pictures: int, input_hw: tuple[int, int]) -> None:
        stride, d = self.features.reductions[0], self.mean.shape[1]
        positions = -(-input_hw[0] // stride) * -(-input_hw[1] // stride)
        numbers = positions * d * (d + 1)
        need = (8 * numbers + 4 * PICTURES_AT_ONCE * positions * d) / 2**30
        logger.info(
            "PaDiM: {} positions of {} dimensions, {:.2f} GiB while it is fitted, {:.2f} GiB after, however many pictures",
            positions, d, need, numbers * 4 / 2**30,
        )  # fmt: skip
        if self.mean.device.type == "cuda":  # each process has its own
            free = torch.cuda.mem_get_info(self.mean.device)[0] / 2**30
        else:
            free, need = psutil.virtual_memory().available / 2**30, need * processes_here()
        if need > free:
            message = f"fitting PaDiM takes {need:.1f} GiB, and {free:.1f} GiB are free: lower dimensions"
            raise ConfigError(Problem("model.kwargs.dimensions", f"{message} (or preprocess.size)"))

    def begin(self) -> None:
        self.collected = None

    def collect(self, images: Tensor, indices: list[int]) -> None:
        for part in self.features.parts(images):
            features, _ = self.embed(part)
            if self.collected is None:
                self.collected = StreamedGaussians(features.shape[0], features.shape[2], features.device)
            self.collected.update(features)

    def fit(self) -> None:
        gathered, self.collected = self._sums_of_own(), None
        if gathered is not None:
            gathered.reduce()
        if gathered is None or gathered.count.item() < 2:
            raise DataError("PaDiM needs at least 2 good pictures to know how good parts differ")
        self.mean = gathered.mean().float()
        try:
            self.precision_root = whitening(gathered.take_covariances(self.epsilon), positions=len(self.mean))
        except torch.linalg.LinAlgError:
            raise DataError(
                f"epsilon {self.epsilon:g} is too small beside these features: a covariance has no inverse. Set "
                f"model.kwargs.epsilon higher ({EPSILON:g} by default), or dimensions lower"
            ) from None

    def _sums_of_own(self) -> StreamedGaussians | None:
        """What this process collected; sums of nothing where only others have pictures, None where none has."""
        own = None if self.collected is None else tuple(self.collected.sums.shape)
        known = [shape for shape in dist.all_gather_object(own) if shape is not None]
        if self.collected is None and known:
            return StreamedGaussians(known[0][0], known[0][1], self.mean.device)
        return self.collected

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, (height, width) = self.embed(images)
        if not len(self.mean):
            return images.new_zeros((len(images), 1, *images.shape[-2:])), images.new_zeros(len(images))
        distances = mahalanobis(features, self.mean, self.precision_root)
        coarse = distances.transpose(0, 1).reshape(-1, 1, height, width)
        size = (images.shape[-2], images.shape[-1])
        maps = self.smoothing(F.interpolate(coarse, size=size, mode="bilinear", align_corners=False))
        return maps, maps.amax(dim=(1, 2, 3))


def take_channels(maps: Tensor, chosen: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, len(chosen), H, W), laid out with the channels last, as all that follows reads it."""
    return maps.permute(0, 2, 3, 1).index_select(3, chosen).permute(0, 3, 1, 2)
