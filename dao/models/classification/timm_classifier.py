"""Any timm model as a classifier."""

from __future__ import annotations

from torch import nn

from dao.errors import ConfigError, Problem
from dao.models.expected import timm_weights
from dao.models.pretrained import download, freeze_modules, load_local_weights, refuse_hub, refuse_unknown
from dao.register import Registers


@Registers.cls_models.register("TimmClassifier")
def timm_classifier(
    model_name: str,
    num_classes: int,
    in_chans: int = 3,
    pretrained: bool = False,
    checkpoint_path: str | None = None,
    freeze: list[str] | None = None,
    drop_rate: float = 0.0,
    drop_path_rate: float | None = None,
    global_pool: str | None = None,
) -> nn.Module:
    """A timm model, (B, in_chans, H, W) -> (B, num_classes) logits; its state dict keeps timm's names.

    pretrained: download timm's weights (a machine without internet names a file in checkpoint_path instead).
    checkpoint_path: .pth or .safetensors with timm's or torchvision's names; what fits is loaded, the rest is listed.
    freeze: modules whose weights stay as they are, by name or regular expression ("layer1", "blocks\\.[0-3]");
        their batch-norm statistics stay as well.
    global_pool: how the last map becomes a vector: "avg" (timm's usual default), "max", "catavgmax", ... A maximum finds
        a defect that covers one position of the map and is lost in its average: worth trying for small ones.
    Raises ConfigError for an unknown model or freeze name, CheckpointError when weights cannot be had.
    """
    import timm

    refuse_hub(model_name, "model.kwargs.model_name", pretrained)
    refuse_unknown(model_name, "model.kwargs.model_name")
    if pretrained and checkpoint_path:
        message = "give either pretrained: true (download) or checkpoint_path (local file), not both"
        raise ConfigError(Problem("model.kwargs.checkpoint_path", message))
    optional = {"drop_path_rate": drop_path_rate, "global_pool": global_pool}
    extra = {name: value for name, value in optional.items() if value is not None}
    options = {"num_classes": num_classes, "in_chans": in_chans, "drop_rate": drop_rate, **extra}
    if pretrained:
        model = download(lambda: timm.create_model(model_name, pretrained=True, **options), model_name, "pretrained")
    else:
        model = _create(model_name, options)
    if checkpoint_path:
        load_local_weights(model, checkpoint_path)
    freeze_modules(model, freeze or [])
    return model


timm_classifier.expects = timm_weights("model_name")  # type: ignore[attr-defined]


def _create(model_name: str, options: dict[str, object]) -> nn.Module:
    """A model with random weights; a keyword or value that this architecture does not take is the config's mistake."""
    import timm

    try:
        return timm.create_model(model_name, **options)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(Problem("model.kwargs", f"{model_name}: {reason}")) from error
