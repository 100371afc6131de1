"""Inner maps of a pretrained network: what the anomaly models look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from loguru import logger
from torch import Tensor, nn

from dao.errors import ConfigError, Problem, nearest
from dao.models.folding import fold_batch_norms
from dao.models.pretrained import download, load_local_weights, refuse_hub
from dao.words.counted import counted

PIXELS_AT_ONCE = 8 * 224 * 224  # on a CPU: what more pictures at once would need falls out of its cache


class FeatureExtractor(nn.Module):
    """The maps of some layers of a timm network, which itself never learns: no gradient, batch norms folded away.

    backbone: a timm name; layers: modules as timm's ``feature_info`` names them ("layer1") or their numbers, from 0.
    pretrained: download timm's weights; checkpoint_path: or a file with what fits of them.
    channels, reductions: of each layer's map, in the order of ``layers``; random: no weights were given at all.
    Raises ConfigError for an unknown backbone or layer, CheckpointError when weights cannot be had.
    """

    def __init__(
        self,
        backbone: str,
        layers: Sequence[str | int],
        in_chans: int = 3,
        pretrained: bool = False,
        checkpoint_path: str | None = None,
    ) -> None:
        super().__init__()
        if pretrained and checkpoint_path:
            message = "give either pretrained (download) or checkpoint_path (local file), not both"
            raise ConfigError(Problem("model.kwargs.checkpoint_path", message))
        refuse_hub(backbone, "model.kwargs.backbone", pretrained)
        whole = _create(backbone, in_chans, pretrained)
        report = load_local_weights(whole, checkpoint_path) if checkpoint_path else None
        places = places_of(backbone, layers)
        self.net = _feature_net(backbone, in_chans, places)
        _copy_by_name(whole, self.net)
        self.feature_place = places
        self.order = [sorted(places).index(place) for place in places]
        self.channels = [int(c) for c in self.net.feature_info.channels()]
        self.reductions = [int(r) for r in self.net.feature_info.reduction()]
        self.channels, self.reductions = (
            [values[i] for i in self.order] for values in (self.channels, self.reductions)
        )
        self.random = not pretrained and checkpoint_path is None
        if report is not None:
            self._refuse_holes(report.missing + report.mismatched, str(checkpoint_path))
        self.eval()
        fold_batch_norms(self.net)
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # a third faster on the CPUs it was measured on

    def train(self, mode: bool = True) -> FeatureExtractor:
        """Stays in eval mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) normalised input -> one (B, channels, H / reduction, W / reduction) map a layer."""
        maps = self.net(images.contiguous(memory_format=torch.channels_last))
        return [maps[i] for i in self.order]

    @staticmethod
    def parts(images: Tensor) -> tuple[Tensor, ...]:
        """A batch in as many pieces as are soonest worked on one after the other."""
        at_once = max(1, PIXELS_AT_ONCE // (images.shape[-2] * images.shape[-1]))
        return images.split(at_once) if images.device.type == "cpu" else (images,)

    def _refuse_holes(self, missing: Sequence[str], source: str) -> None:
        """Weights that the chosen layers need and the file does not have would stay random, without a word."""
        needed = {_bare(name) for name in self.net.state_dict()}
        holes = [name for name in missing if _bare(name) in needed]
        if holes:
            logger.warning(
                "{} lacks {} that the chosen layers are computed from, e.g. {}: random values stand there",
                source, counted(len(holes), "tensor"), holes[0],
            )  # fmt: skip


def student_of(teacher: FeatureExtractor, backbone: str, in_chans: int) -> nn.Module:
    """The same network and layers without any weights, to be trained; it answers in the order of the layers' numbers."""
    student: nn.Module = _feature_net(backbone, in_chans, teacher.feature_place)
    return student


def places_of(backbone: str, layers: Sequence[str | int]) -> list[int]:
    """The numbers of layers among those that timm can give out of a network.

    Raises ConfigError for a name that it does not know.
    """
    with torch.device("meta"):  # its names are wanted, not its numbers
        info = _feature_net(backbone, 3, None).feature_info
    names = [str(name) for name in info.module_name()]
    found = []
    for layer in layers:
        place = names.index(layer) if layer in names else layer
        if not isinstance(place, int) or not 0 <= place < len(names):
            message = f"{backbone} has no layer '{layer}'. {nearest(str(layer), names)}; it has: {', '.join(names)}"
            raise ConfigError(Problem("model.kwargs.layers", message))
        found.append(place)
    if not found or len(set(found)) < len(found):
        raise ConfigError(Problem("model.kwargs.layers", f"needs at least one layer, each once; got {list(layers)}"))
    return found


def _create(backbone: str, in_chans: int, pretrained: bool) -> nn.Module:
    import timm

    if not timm.is_model(backbone.split("/")[-1].split(".")[0]):
        raise ConfigError(
            Problem("model.kwargs.backbone", f"timm has no '{backbone}'. {nearest(backbone, timm.list_models())}")
        )

    def make() -> Any:
        return timm.create_model(backbone, pretrained=pretrained, in_chans=in_chans, num_classes=0)

    return download(make, backbone, "pretrained") if pretrained else make()


def _feature_net(backbone: str, in_chans: int, places: Sequence[int] | None) -> Any:
    import timm

    chosen = {} if places is None else {"out_indices": tuple(sorted(places))}
    try:
        return timm.create_model(backbone, features_only=True, in_chans=in_chans, **chosen)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        message = f"timm cannot give out inner maps of {backbone}: {str(error).splitlines()[0]}"
        raise ConfigError(Problem("model.kwargs.backbone", message)) from error


def _bare(name: str) -> str:
    """A tensor's name without what timm's wrappers change of it."""
    return name.removeprefix("model.").replace("_", ".")


@torch.no_grad()
def _copy_by_name(source: nn.Module, target: nn.Module) -> None:
    """Tensors of the whole network into the one that stops at its last wanted layer."""
    known = {_bare(name): value for name, value in source.state_dict().items()}
    own = target.state_dict()
    target.load_state_dict({name: known.get(_bare(name), value) for name, value in own.items()})
