"""PatchCore (Roth et al. 2022): a memory of good patches, and how far the nearest of them is."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from loguru import logger
from numpy.typing import NDArray
from torch import Tensor

from dao.errors import ConfigError, DataError, Problem
from dao.models.anomaly.base import TINY, AnomalyModel, Smoothing, same_size
from dao.models.anomaly.coreset import greedy_k_centre
from dao.models.anomaly.features import FeatureExtractor
from dao.models.expected import timm_weights
from dao.processes import dist
from dao.processes.gather import from_main, processes_here, rows_on_main
from dao.register import Registers
from dao.words.counted import counted

SIGMA = 4.0  # pixels of the model's input, the paper's
DISTORTION = 0.9  # of the random projection in which the coreset is chosen, the authors' setting
NEIGHBOURS = 9  # by which the picture's score is weighted, the authors' setting
CHUNK = 2**24  # distances that are held at once, 64 MiB, in a batch of
BATCH = 8  # pictures; larger batches hold more


@Registers.anomaly_models.register()
class PatchCore(AnomalyModel):
    """Locally aware patches of some layers, thinned out to a coreset; distance to the nearest, re-weighted for pictures.

    backbone, layers: a timm network and its layers; pretrained or checkpoint_path: its weights (see notes).
    coreset: share of all patches that is kept, chosen by greedy k-centre; where features are wide, in a random projection
    drawn by ``seed``.
    neighbours: of the strangest patch's nearest memory that weigh the picture's score; 1 for no weighting.
    sigma: of the Gaussian that smooths the map, in input pixels. patch: pixels of the map that are averaged to one patch.
    max_gib: of memory that fitting may take; None for what the machine has free. More is refused before it starts.
    """

    expects = staticmethod(timm_weights("backbone", "resnet18"))
    brings = ("loss", "optimizer", "lr_scheduler")
    scored_by_map = score_is_peak = False
    sized_by_data = ("bank",)
    bank: Tensor

    def __init__(
        self,
        backbone: str = "resnet18",
        layers: tuple[str, ...] = ("layer2", "layer3"),
        coreset: float = 0.1,
        neighbours: int = NEIGHBOURS,
        patch: int = 3,
        in_chans: int = 3,
        pretrained: bool = False,
        checkpoint_path: str | None = None,
        sigma: float = SIGMA,
        max_gib: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.features = FeatureExtractor(backbone, layers, in_chans, pretrained, checkpoint_path)
        self.coreset, self.neighbours, self.patch = coreset, neighbours, patch
        self.max_gib, self.seed, self.smoothing = max_gib, seed, Smoothing(sigma)
        self.register_buffer("bank", torch.zeros(0, sum(self.features.channels)))
        self.collected: dict[int, list[Tensor]] = {}

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Numbers that are out of range."""
        problems = []
        if not 0 < kwargs.get("coreset", 0.1) <= 1:
            problems.append(Problem(f"{where}.coreset", f"must lie above 0 and be at most 1, got {kwargs['coreset']}"))
        if kwargs.get("neighbours", 1) < 1:
            problems.append(Problem(f"{where}.neighbours", f"must be at least 1, got {kwargs['neighbours']}"))
        if kwargs.get("patch", 3) < 1 or kwargs.get("patch", 3) % 2 == 0:
            problems.append(Problem(f"{where}.patch", f"must be an odd number of pixels, got {kwargs['patch']}"))
        return problems

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, P, D): every position's patch over all layers, at the size of the first layer's map, and its (H, W)."""
        half = self.patch // 2
        maps = [F.avg_pool2d(x, self.patch, stride=1, padding=half) for x in self.features(images)]
        joined = torch.cat(same_size(maps, "bilinear"), dim=1)
        return joined.flatten(2).transpose(1, 2), (joined.shape[-2], joined.shape[-1])

    def patches_within(self, hw: tuple[int, int]) -> Tensor:
        """(1, 1, H, W), 1 where a patch's cell of the map has any of the region in it, else 0."""
        region = self.region
        if region is None:
            raise RuntimeError("there is no region: every patch counts")
        # adaptive pooling by uneven cells cannot be exported
        cell = (-(-region.shape[-2] // hw[0]), -(-region.shape[-1] // hw[1]))
        pooled = F.max_pool2d(region, cell, cell, ceil_mode=True)
        return pooled if tuple(pooled.shape[-2:]) == hw else F.interpolate(pooled, size=hw, mode="nearest")

    def begin(self) -> None:
        self.collected = {}

    def expect(self, pictures: int, input_hw: tuple[int, int]) -> None:
        """Size the work on ``pictures`` pictures before it starts. Raises ConfigError when it will not fit."""
        stride = self.features.reductions[0]
        patches = pictures * -(-input_hw[0] // stride) * -(-input_hw[1] // stride)
        width = self.bank.shape[1]
        reduced = projected_dimensions(patches, width)
        kept = max(1, int(patches * self.coreset))
        # process 0 gathers all patches and chooses among them; what is kept, every process of the machine has
        need = 4 * (patches * (width + (reduced or 0)) + kept * width * processes_here()) / 2**30
        free = self.max_gib if self.max_gib is not None else psutil.virtual_memory().available / 2**30
        logger.info(
            "PatchCore: {} patches of {}, of which {} are kept ({:.2f} GiB); {:.2f} GiB while it is fitted",
            patches, counted(pictures, "picture"), kept, 4 * kept * width / 2**30, need,
        )  # fmt: skip
        if need > free:
            raise ConfigError(
                Problem(
                    "model.kwargs",
                    f"fitting PatchCore takes {need:.1f} GiB, and {free:.1f} GiB are to be had. Lower preprocess.size "
                    "(half of it is a quarter of the patches), use fewer or deeper layers, fewer pictures "
                    "(dataset.kwargs.shots), or PaDiM, whose memory does not grow with them",
                )
            )

    def collect(self, images: Tensor, indices: list[int]) -> None:
        every = iter(indices)
        for part in self.features.parts(images):
            patches, hw = self.embed(part)
            if self.region is not None:
                patches = patches[:, self.patches_within(hw).flatten() > 0]
            for own in patches.cpu():
                self.collected.setdefault(next(every), []).append(own.clone())

    def fit(self) -> None:
        patches = rows_on_main(self.collected)  # emptied by it
        if dist.broadcast_object(patches is None):
            raise DataError("PatchCore needs at least 1 good picture, and none was collected")
        # one process chooses: it alone holds everything, and another machine's rounding might break a tie the other way
        self.bank = from_main(None if patches is None else self._thinned(patches)).to(self.bank.device)

    def _thinned(self, patches: Tensor) -> Tensor:
        """The coreset of (N, D) patches."""
        chosen = self._choose(patches.numpy(), max(1, int(len(patches) * self.coreset)))
        return patches[torch.from_numpy(chosen)]

    def _choose(self, patches: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        if count == len(patches):
            return np.arange(count)
        started = time.perf_counter()
        rng = np.random.default_rng(self.seed)
        chosen, work = greedy_k_centre(project(patches, rng), count, first=int(rng.integers(len(patches))))
        logger.info(
            "PatchCore: {} of {} patches chosen in {:.1f} s; {:.1%} of the literal greedy's pairs were looked at",
            count, len(patches), time.perf_counter() - started, work.products / work.literal,
        )  # fmt: skip
        return chosen

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        patches, (height, width) = self.embed(images)
        if not len(self.bank):
            return images.new_zeros((len(images), 1, *images.shape[-2:])), images.new_zeros(len(images))
        distances, nearest = nearest_in(patches, self.bank)
        size = (images.shape[-2], images.shape[-1])
        within = None if self.region is None else self.patches_within((height, width))
        if within is not None:
            distances = distances * within.flatten()
        coarse = F.interpolate(distances.reshape(-1, 1, height, width), size=size, mode="bilinear", align_corners=False)
        if within is not None:  # a mean of the patches that were looked at
            share = F.interpolate(within, size=size, mode="bilinear", align_corners=False)
            coarse = coarse / share.clamp_min(TINY)
        return self.smoothing(coarse), self._picture_score(patches, distances, nearest)

    def _picture_score(self, patches: Tensor, distances: Tensor, nearest: Tensor) -> Tensor:
        """(B,) eq. (7): the strangest patch's distance, weighted up where its nearest memory is itself a rare one.

        patches: (B, P, D); distances, nearest: (B, P).
        """
        score, place = distances.max(dim=1)
        count = min(self.neighbours, len(self.bank))
        if count < 2:
            return score
        strangest = patches.gather(1, place[:, None, None].expand(-1, 1, patches.shape[2]))[:, 0]
        memory = self.bank[nearest.gather(1, place[:, None])[:, 0]]
        around = euclidean(memory, self.bank).topk(count, dim=1, largest=False).indices
        to_those = (strangest[:, None] - self.bank[around]).square().sum(dim=2).sqrt()
        # the share of the nearest memory itself; the paper's exponentials overflow, a softmax does not
        own = (strangest - memory).square().sum(dim=1).sqrt()
        total = torch.logsumexp(to_those, dim=1)
        return score * (1 - torch.exp(own - total))


def projected_dimensions(points: int, width: int) -> int | None:
    """Dimensions that keep the distances of so many points (Johnson and Lindenstrauss, as Achlioptas 2003 has it).

    None where that is more than half of their ``width``: it would save little, and cost a copy of all of them.
    """
    enough = int(4 * math.log(max(points, 2)) / (DISTORTION**2 / 2 - DISTORTION**3 / 3))
    return enough if 2 * enough <= width else None


def project(points: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """(N, d) random projection of (N, D) points; the points themselves where it would not make them half as short."""
    width = projected_dimensions(*points.shape)
    if width is None:
        return points
    matrix = rng.standard_normal((points.shape[1], width), dtype=np.float32) / np.float32(math.sqrt(width))
    return points @ matrix


def euclidean(points: Tensor, others: Tensor) -> Tensor:
    """(M, D), (K, D) -> (M, K) distances, by one matrix product."""
    squares = points.square().sum(1, keepdim=True) + others.square().sum(1) - 2 * points @ others.T
    return squares.clamp_min(0).sqrt()


def nearest_in(patches: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to the nearest of the bank, and which one it is, (B, P) each; 64 MiB of distances at once.

    patches: (B, P, D); bank: (K, D). The distance itself is taken by differences: the products' rounding would show.
    """
    best, place = [], []
    norms = bank.square().sum(1)
    step = max(1, CHUNK // (len(bank) * BATCH))
    for start in range(0, patches.shape[1], step):
        part = patches[:, start : start + step]
        products = torch.addmm(norms, part.flatten(0, 1), bank.T, alpha=-2)
        nearest = products.argmin(dim=1).unflatten(0, (-1, part.shape[1]))
        best.append((part - bank[nearest]).square().sum(dim=2).sqrt())
        place.append(nearest)
    return torch.cat(best, dim=1), torch.cat(place, dim=1)
