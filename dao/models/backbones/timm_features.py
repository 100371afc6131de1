"""Any timm model as a feature extractor."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from dao.errors import ConfigError, Problem
from dao.models.expected import timm_weights
from dao.models.pretrained import download, freeze_modules, load_local_weights, refuse_hub, refuse_unknown
from dao.register import Registers

WHERE = "model.kwargs.backbone.kwargs"


@Registers.backbones.register()
class TimmFeatures(nn.Module):
    """The maps that a timm model makes on its way, at chosen strides.

    model_name: any model that timm can build with features_only. strides: of the maps, in pixels of the input.
    pretrained: download timm's weights; checkpoint_path: a local file instead, timm's or torchvision's names; what fits
    is loaded. freeze: modules whose weights and batch-norm statistics stay, by name or regular expression.
    Raises ConfigError for a model that timm does not have or that has no map at a stride.
    """

    expects = staticmethod(timm_weights("model_name"))

    def __init__(
        self,
        model_name: str,
        strides: Sequence[int] = (8, 16, 32),
        pretrained: bool = False,
        checkpoint_path: str | None = None,
        freeze: list[str] | None = None,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        if pretrained and checkpoint_path:
            message = "give either pretrained: true (download) or checkpoint_path (local file), not both"
            raise ConfigError(Problem(f"{WHERE}.checkpoint_path", message))
        refuse_hub(model_name, f"{WHERE}.model_name", pretrained)
        levels = _levels(model_name, strides)
        self.net = _create(model_name, levels, in_chans, pretrained)
        self.channels = tuple(self.net.feature_info.channels())
        self.channels_come_last = str(getattr(self.net, "output_fmt", "")).endswith("NHWC")
        if checkpoint_path:
            load_local_weights(self.net, checkpoint_path)
        freeze_modules(self.net, freeze or [])

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_chans, H, W) -> one (B, channels, H / stride, W / stride) map for each stride."""
        maps = self.net(x)
        return [y.permute(0, 3, 1, 2).contiguous() for y in maps] if self.channels_come_last else list(maps)


def _levels(model_name: str, strides: Sequence[int]) -> list[int]:
    """Which of a model's maps have the strides."""
    import timm

    refuse_unknown(model_name, f"{WHERE}.model_name")
    try:
        found = timm.create_model(model_name, features_only=True).feature_info.reduction()
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ConfigError(Problem(f"{WHERE}.model_name", f"{model_name} gives no feature maps: {error}")) from None
    missing = [stride for stride in strides if stride not in found]
    if missing:
        message = f"{model_name} has maps at strides {list(found)}, and strides {list(strides)} are needed"
        raise ConfigError(Problem(f"{WHERE}.model_name", message))
    return [len(found) - 1 - found[::-1].index(stride) for stride in strides]  # the last of a stride knows the most


def _create(model_name: str, levels: list[int], in_chans: int, pretrained: bool) -> nn.Module:
    import timm

    options = {"features_only": True, "out_indices": levels, "in_chans": in_chans}
    if not pretrained:
        return timm.create_model(model_name, **options)
    return download(lambda: timm.create_model(model_name, pretrained=True, **options), model_name, "pretrained")
