"""Every architecture of segmentation-models-pytorch, with every encoder it and timm know."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import segmentation_models_pytorch as smp
from torch import nn

from dao.errors import CheckpointError, ConfigError, Problem, nearest
from dao.models.expected import Settings, of_timm, starts_trained
from dao.models.pretrained import download, freeze_modules, load_local_weights, refuse_hub
from dao.models.segmentation.deep_supervision import DeeplySupervised
from dao.register import Registers

TIMM_PREFIX = "tu-"  # by which smp tells timm's encoders from its own
SET_BY_US = ("self", "encoder_weights", "in_channels", "classes", "activation", "aux_params", "kwargs")


def build(
    architecture: type[nn.Module],
    num_classes: int,
    in_chans: int = 3,
    encoder_weights: str | None = None,
    checkpoint_path: str | None = None,
    freeze: list[str] | None = None,
    deep_supervision: float = 0.0,
    **options: Any,
) -> nn.Module:
    """An encoder-decoder network, (B, in_chans, H, W) -> (B, num_classes, H, W) logits.

    encoder_name: an encoder of smp ("resnet50"), or any timm model by its own name ("convnext_tiny").
    encoder_weights: download the encoder's weights, "imagenet" for most (a machine without internet names a file in
        checkpoint_path instead).
    checkpoint_path: .pth or .safetensors of the whole network or of its encoder; what fits is loaded, the rest listed.
    freeze: modules whose weights stay as they are, by name or regular expression ("encoder").
    deep_supervision: weight of the losses of small heads on the encoder's inner maps, in training only (Zhao et al.
        2017 use 0.4); 0 for none.
    Further keywords are the architecture's own.
    Raises ConfigError for an unknown encoder, CheckpointError when weights cannot be had.
    """
    if encoder_weights and checkpoint_path:
        message = "give either encoder_weights (download) or checkpoint_path (local file), not both"
        raise ConfigError(Problem("model.kwargs.checkpoint_path", message))
    if "encoder_name" in options:
        refuse_hub(options["encoder_name"], "model.kwargs.encoder_name", bool(encoder_weights))
        options["encoder_name"] = encoder_named(options["encoder_name"])

    def make() -> nn.Module:
        weights = encoder_weights or None
        return architecture(encoder_weights=weights, in_channels=in_chans, classes=num_classes, **options)

    model = download(make, options["encoder_name"], "encoder_weights") if encoder_weights else _create(make)
    if checkpoint_path:
        encoder = model.encoder
        load_local_weights(model, checkpoint_path, parts=[encoder, getattr(encoder, "model", encoder)])
    freeze_modules(model, freeze or [])
    return DeeplySupervised(model, num_classes, deep_supervision) if deep_supervision else model


def encoder_named(name: str) -> str:
    """The name that smp knows an encoder by. Raises ConfigError with the nearest names for one that nobody knows."""
    import timm
    from segmentation_models_pytorch.encoders import encoders

    bare = name.removeprefix(TIMM_PREFIX)
    if name in encoders:
        return name
    if timm.is_model(bare.split("/")[-1].split(".")[0]):
        return TIMM_PREFIX + bare
    known = [*encoders, *timm.list_models()]
    raise ConfigError(Problem("model.kwargs.encoder_name", f"there is no encoder '{name}'. {nearest(bare, known)}"))


def _create(make: Callable[[], nn.Module]) -> nn.Module:
    """What cannot be built of these keywords is the config's mistake, told in the library's own words."""
    try:
        return make()
    except (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(Problem("model.kwargs", f"the network cannot be built: {reason}")) from error


def as_component(architecture: type[nn.Module]) -> Callable[..., nn.Module]:
    """An architecture as a registered component: its own signature, with our keywords for weights beside it."""

    def component(**kwargs: Any) -> nn.Module:
        return build(architecture, **{"encoder_name": _default_encoder(architecture), **kwargs})

    ours = inspect.signature(build, eval_str=True).parameters.values()
    theirs = inspect.signature(architecture.__init__).parameters.values()
    named = [p for p in ours if p.kind is not p.VAR_KEYWORD and p.name != "architecture"]
    named += [p for p in theirs if p.name not in SET_BY_US and p.kind is not p.VAR_KEYWORD]
    keyword_only = [p.replace(kind=p.KEYWORD_ONLY) for p in named]
    component.expects = functools.partial(expects, _default_encoder(architecture))  # type: ignore[attr-defined]
    component.__signature__ = inspect.Signature(keyword_only, return_annotation=nn.Module)
    component.__annotations__ = {p.name: p.annotation for p in keyword_only}
    component.__name__ = component.__qualname__ = architecture.__name__
    component.__doc__ = f"{architecture.__name__} of segmentation-models-pytorch.\n\n{inspect.getdoc(build)}"
    return component


def expects(default_encoder: str, kwargs: Mapping[str, Any]) -> Settings:
    """What the encoder's weights were made with; see `dao.models.expected`.

    timm's encoders say it at once; smp's own say it where they are downloaded from, and only there.
    """
    from segmentation_models_pytorch.encoders import get_preprocessing_params

    name, weights = encoder_named(kwargs.get("encoder_name", default_encoder)), kwargs.get("encoder_weights")
    if not starts_trained(kwargs):
        return {}
    if name.startswith(TIMM_PREFIX):
        return of_timm(name.removeprefix(TIMM_PREFIX))
    if not weights:
        return {}
    try:
        found = download(lambda: get_preprocessing_params(name, weights), name, "encoder_weights")
    except CheckpointError as error:
        if isinstance(error.__cause__, ValueError | KeyError):  # no weights of that name: who builds the model says so
            return {}
        raise
    unit, turned = found["input_range"][-1], found["input_space"] == "BGR"
    mean, std = ([value / unit for value in found[key]][:: -1 if turned else 1] for key in ("mean", "std"))
    return {"mean": mean, "std": std, "channel_order": "bgr" if turned else "rgb"}


def _default_encoder(architecture: type[nn.Module]) -> str:
    return inspect.signature(architecture.__init__).parameters["encoder_name"].default


for _architecture in smp.MODEL_ARCHITECTURES_MAPPING.values():
    Registers.seg_models.register(_architecture.__name__)(as_component(_architecture))
