"""SPADE (Cohen and Hoshen 2020): the good pictures most alike, and, for every place, the most alike place in them."""

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
from dao.models.expected import timm_weights
from dao.processes import dist
from dao.processes.gather import from_main, processes_here, rows_on_main
from dao.register import Registers
from dao.words.counted import counted

SIGMA = 4.0  # pixels of the model's input, the paper's
CHUNK = 2**24  # distances that are held at once, 64 MiB, in a batch of
BATCH = 8  # pictures; larger batches hold more (an exported file takes any)


@Registers.anomaly_models.register()
class SPADE(AnomalyModel):
    """K nearest good pictures by pooled features; the map is the distance to the nearest feature of any place in them.

    backbone, layers: a timm network and its layers; pretrained or checkpoint_path: its weights (see notes).
    neighbours: K, at most the number of good pictures. The picture's score is the mean of the Euclidean distances of the
    pooled last layer to its K nearest, not of their squares.
    sigma: of the Gaussian that smooths the map, in input pixels.
    half: keep the good pictures' features in 16 bits. max_gib: of memory they may take; None for what is free.
    Answering compares every place with every place of K pictures: by far the slowest method here.
    """

    expects = staticmethod(timm_weights("backbone", "resnet18"))
    brings = ("loss", "optimizer", "lr_scheduler")
    score_is_peak = False
    sized_by_data = ("gallery", "pooled")
    gallery: Tensor
    pooled: Tensor

    def __init__(
        self,
        backbone: str = "resnet18",
        layers: tuple[str, ...] = ("layer1", "layer2", "layer3"),
        neighbours: int = 50,
        in_chans: int = 3,
        pretrained: bool = False,
        checkpoint_path: str | None = None,
        sigma: float = SIGMA,
        half: bool = True,
        max_gib: float | None = None,
    ) -> None:
        super().__init__()
        self.features = FeatureExtractor(backbone, layers, in_chans, pretrained, checkpoint_path)
        self.neighbours, self.max_gib, self.smoothing = neighbours, max_gib, Smoothing(sigma)
        kind = torch.float16 if half else torch.float32
        self.register_buffer("gallery", torch.zeros(0, 0, sum(self.features.channels), dtype=kind))
        self.register_buffer("pooled", torch.zeros(0, self.features.channels[-1]))
        self.collected: dict[int, list[Tensor]] = {}
        self.vectors: dict[int, list[Tensor]] = {}

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Numbers that are out of range."""
        least = {"neighbours": 1, "sigma": 0}
        return [
            Problem(f"{where}.{key}", f"must be at least {low}, got {kwargs[key]}")
            for key, low in least.items()
            if key in kwargs and kwargs[key] < low
        ]

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """(B, P, D) features of all layers at every place of the first one's map, (B, C) pooled last layer, (H, W)."""
        maps = self.features(images)
        joined = torch.cat(same_size(maps, "bilinear"), dim=1)
        hw = (joined.shape[-2], joined.shape[-1])
        return joined.flatten(2).transpose(1, 2), maps[-1].mean(dim=(2, 3)), hw

    def expect(self, pictures: int, input_hw: tuple[int, int]) -> None:
        stride, width = self.features.reductions[0], self.gallery.shape[2]
        places = -(-input_hw[0] // stride) * -(-input_hw[1] // stride)
        # what is collected, and what every process of the machine then answers with
        own = pictures * places * width * self.gallery.element_size() / 2**30
        need = own * (1 + processes_here())
        free = self.max_gib if self.max_gib is not None else psutil.virtual_memory().available / 2**30
        logger.info("SPADE: {} of {}, {:.2f} GiB, {:.2f} GiB while it is fitted",
                    counted(pictures, "picture"), counted(places, "place"), own, need)  # fmt: skip
        if need > free:
            message = (
                f"fitting SPADE takes {need:.1f} GiB, and {free:.1f} GiB are to be had. Lower preprocess.size, use deeper "
                "layers, fewer pictures (dataset.kwargs.shots), or PaDiM, whose memory does not grow with them"
            )
            raise ConfigError(Problem("model.kwargs", message))

    def begin(self) -> None:
        self.collected, self.vectors = {}, {}

    def collect(self, images: Tensor, indices: list[int]) -> None:
        patches, pooled, _ = self.embed(images)
        kept = patches.to("cpu", self.gallery.dtype)
        for index, own, vector in zip(indices, kept, pooled.cpu(), strict=True):
            self.collected.setdefault(index, []).append(own[None].clone())
            self.vectors.setdefault(index, []).append(vector[None].clone())

    def fit(self) -> None:
        vectors = rows_on_main(self.vectors)  # both emptied by it
        places = rows_on_main(self.collected)
        if dist.broadcast_object(places is None):
            raise DataError("SPADE needs at least 1 good picture, and none was collected")
        self.gallery = from_main(places).to(self.pooled.device)
        self.pooled = from_main(vectors).to(self.pooled.device)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        patches, pooled, (height, width) = self.embed(images)
        if not len(self.pooled):
            return images.new_zeros((len(images), 1, *images.shape[-2:])), images.new_zeros(len(images))
        apart = (pooled[:, None] - self.pooled).square().sum(dim=2).sqrt()
        count = min(self.neighbours, len(self.pooled))
        scores, alike = apart.topk(count, dim=1, largest=False)
        coarse = self._to_nearest_place(patches, alike).reshape(-1, 1, height, width)
        size = (images.shape[-2], images.shape[-1])
        maps = self.smoothing(F.interpolate(coarse, size=size, mode="bilinear", align_corners=False))
        return maps, scores.mean(dim=1)

    def _to_nearest_place(self, patches: Tensor, alike: Tensor) -> Tensor:
        """(B, P) distance to the nearest place of any of the K good pictures.

        patches: (B, P, D); alike: (B, K) places in the gallery. One good picture after the other, and CHUNK distances at
        once: beside them B of the gallery's pictures are held, whatever K and P.
        """
        own = patches.square().sum(dim=2)
        rows = max(1, CHUNK // (BATCH * self.gallery.shape[1]))
        best = [torch.full_like(part, torch.inf) for part in own.split(rows, dim=1)]
        for number in range(alike.shape[1]):
            other = self.gallery[alike[:, number]].to(patches.dtype)
            squares = other.square().sum(dim=2)[:, None]
            for i, part in enumerate(patches.split(rows, dim=1)):
                products = torch.baddbmm(squares, part, other.transpose(1, 2), alpha=-2)
                best[i] = torch.minimum(best[i], products.amin(dim=2))
        return (torch.cat(best, dim=1) + own).clamp_min(0).sqrt()
