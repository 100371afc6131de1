"""EfficientAD's teacher: read from a file, or distilled from a larger network before its student begins."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from loguru import logger
from torch import Tensor, nn

from dao.checkpoints import checkpoint
from dao.errors import CheckpointError, ConfigError, Problem
from dao.models.anomaly.base import TINY, Pictures
from dao.models.anomaly.features import FeatureExtractor
from dao.models.anomaly.pdn import CHANNELS, PDN, described, resized
from dao.processes import dist
from dao.words.counted import counted

ENLARGED = 2  # the network that is distilled sees pictures so many times larger, as in the paper
FLOOR = 1e-3  # of the usual deviation, the least that a channel is divided by: one may be silent on all pictures
PHOTOGRAPHS = 16  # times four, that have a say in those deviations
SHARE = 4  # of a run's iterations, one in so many teaches the teacher where no number is given


class Teacher(nn.Module):
    """A PDN, its channels' means and deviations over the good pictures, and how far its own learning is.

    features: what it is distilled from; None where it is not, or no more: then it never changes again.
    distilled: iterations that taught it. known: 1 from the student's first step on.
    The buffers say all of it, so that a run which is stopped in any phase goes on there.
    """

    mean: Tensor
    std: Tensor
    target_mean: Tensor
    target_std: Tensor
    known: Tensor
    distilled: Tensor
    steps: int  # `distilled` and `known` as plain numbers: reading a tensor makes a GPU wait
    is_known: bool

    def __init__(self, net: PDN, features: FeatureExtractor | None, margin: int, steps: int | None = None) -> None:
        super().__init__()
        self.net, self.margin = net, margin
        self.given_steps, self.steps_wanted = steps, steps or 1
        self.features: FeatureExtractor | None = features
        for name in ("mean", "target_mean"):
            self.register_buffer(name, torch.zeros(1, CHANNELS, 1, 1))
        for name in ("std", "target_std"):
            self.register_buffer(name, torch.ones(1, CHANNELS, 1, 1))
        self.register_buffer("known", torch.zeros(()))
        self.register_buffer("distilled", torch.zeros((), dtype=torch.int64))
        self._recall()

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 384, H', W') float32, every channel of mean 0 and deviation 1 over good pictures."""
        return (self.net(images).float() - self.mean) / self.std

    # -- learning

    def plan(self, iterations: int) -> None:
        """A run has so many. Raises ConfigError where distillation leaves none to the student."""
        if self.features is None:
            return
        if self.given_steps is None:
            self.steps_wanted = min(max(iterations // SHARE, 1), iterations - 1)
        elif self.given_steps >= iterations:
            message = f"is {self.given_steps}, but the run has {counted(iterations, 'iteration')}: none is left for the student"
            raise ConfigError(Problem("model.kwargs.distil_steps", f"{message}. Lower it, or raise max_epochs"))

    @torch.no_grad()
    def begin_step(self, pictures: Pictures, folder: str | None = None) -> None:
        """Before each training step: count it, and between phases look at all good pictures.

        folder: of ordinary pictures, which a distilled teacher sees as well.
        """
        if self.features is not None and self.steps >= self.steps_wanted:
            self.stop_learning()
        if self.features is not None:
            if self.steps == 0:
                logger.info(
                    "the teacher is distilled for {}, then its student begins", counted(self.steps_wanted, "iteration")
                )
                ordinary = (pictures.draw(folder, 4) for _ in range(PHOTOGRAPHS) if folder is not None)
                seen = chain(pictures.good(), ordinary)
                self._measure("target_", (self.described(images) for images in seen), FLOOR)
            self.steps += 1
            self.distilled += 1
        elif not self.is_known:
            logger.info("the student begins")
            self._measure("", (self.net(images) for images in pictures.good()))
            self.is_known = True
            self.known.fill_(1)

    def distil(self, images: Tensor) -> Tensor:
        """Mean squared distance to what the larger network says, its channels of mean 0 and deviation 1."""
        with torch.no_grad():
            target = (self.described(images) - self.target_mean) / self.target_std
        return (self.net(images).float() - target).square().mean()

    def described(self, images: Tensor) -> Tensor:
        """(B, 384, H', W') float32: the larger network's features at the places of the teacher's output."""
        if self.features is None:
            raise RuntimeError("the teacher is not distilled, or no more")
        large = resized(images, (ENLARGED * images.shape[-2], ENLARGED * images.shape[-1]))
        maps = described([one.float() for one in self.features(large)])
        places, m = self.net.places((images.shape[-2], images.shape[-1])), self.margin
        whole = resized(maps, (places[0] + 2 * m, places[1] + 2 * m))
        return whole[..., m : m + places[0], m : m + places[1]]

    def _measure(self, name: str, maps: Iterable[Tensor], floor: float = 0.0) -> None:
        mean, std = channel_statistics(maps, CHANNELS, self.known.device)
        std = std.clamp_min(floor * float(std.square().mean().sqrt()))
        getattr(self, f"{name}mean").copy_(mean.view(1, -1, 1, 1))
        getattr(self, f"{name}std").copy_(std.clamp_min(TINY).view(1, -1, 1, 1))

    def stop_learning(self) -> None:
        """It stays as it is, and what it was distilled from is dropped."""
        self.features = None
        self.net.requires_grad_(False)

    # -- going on

    def _recall(self) -> None:
        """From the buffers, what decides what a step does."""
        self.steps, self.is_known = int(self.distilled), bool(self.known)
        if self.features is None or self.is_known:
            self.stop_learning()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:  # type: ignore[override]
        """What it was distilled from is in the checkpoint until it is finished, and is nothing to anybody after."""
        theirs = [name for name in state_dict if name.startswith(f"{prefix}features.")]
        if not theirs and f"{prefix}known" in state_dict:
            self.stop_learning()
        for name in theirs if self.features is None else ():
            del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._recall()


def channel_statistics(maps: Iterable[Tensor], channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation (channels,), float64, of maps (B, channels, H, W) over all places of all processes' pictures."""
    sums = torch.zeros(2, channels, dtype=torch.float64, device=device)
    count = torch.zeros((), dtype=torch.float64, device=device)
    for one in maps:
        flat = one.double().transpose(0, 1).flatten(1)
        sums += torch.stack([flat.sum(1), flat.square().sum(1)])
        count += flat.shape[1]
    mean, squares = dist.all_reduce_sum(sums) / dist.all_reduce_sum(count).clamp_min(1)
    return mean, (squares - mean.square()).clamp_min(0).sqrt()


def load_teacher(net: PDN, path: str) -> None:
    """Fill a PDN from a file: its own names, perhaps after a prefix, or a plain sequence's in the same order.

    Raises CheckpointError naming every tensor that does not fit: a teacher that is random in part teaches nothing.
    """
    weights = checkpoint.load_weights(path)
    for prefix in ("model.teacher.net.", "teacher.net.", "model.teacher.", "teacher.", "model."):
        inner = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        weights = inner or weights
    places = sorted({int(name.split(".")[0]) for name in weights if name.split(".")[0].isdigit()})
    convs = {str(place): f"conv{number}" for number, place in enumerate(places, 1)}
    weights = {".".join(convs.get(part, part) for part in name.split(".")): value for name, value in weights.items()}
    first = weights.get("conv1.weight")
    if next(net.parameters()).shape[1] == 1 and first is not None and first.ndim == 4 and first.shape[1] == 3:
        weights["conv1.weight"] = first.float().sum(dim=1, keepdim=True)
    report = checkpoint.fit(net, weights)
    if report.missing or report.mismatched:
        wanted = ", ".join(f"{name} {list(value.shape)}" for name, value in net.state_dict().items() if value.ndim == 4)
        raise CheckpointError(
            f"{path} is no such teacher: {report.render()}\n  expected: {wanted}\n"
            '  A teacher of the other size needs model.kwargs.size: "small" or "medium".'
        )
    logger.info("teacher from {}: {}", path, report.render())
