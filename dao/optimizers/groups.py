"""The parameters of a model, split into groups that share a learning rate and a weight decay."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import nn

from dao.errors import ConfigError, Problem

Kind = Literal["norm", "weight", "bias"]
KINDS: tuple[Kind, ...] = ("norm", "weight", "bias")
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter that takes a gradient, once, by its first name. Raises ConfigError when there is none."""
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise ConfigError(Problem("model.kwargs.freeze", "every parameter is frozen, so there is nothing to optimise"))
    return found


def parameter_kinds(model: nn.Module) -> dict[str, Kind]:
    """What every trainable parameter is.

    "bias": vectors whose name ends in "bias"; "norm": the other parameters of normalisation layers, every other vector
    or scalar (layer scales, logit scales) and what the model lists as not to be decayed (position embeddings);
    "weight": the rest, the matrices and kernels.
    """
    norms = [module for module in model.modules() if isinstance(module, NORMS)]
    in_norm = {id(p) for norm in norms for p in norm.parameters(recurse=False)}
    spared = list(no_decay_patterns(model))
    kinds: dict[str, Kind] = {}
    for name, parameter in trainable(model).items():
        if name.endswith("bias") and (parameter.ndim <= 1 or id(parameter) in in_norm):
            kinds[name] = "bias"
        elif parameter.ndim <= 1 or id(parameter) in in_norm or any(fnmatchcase(name, s) for s in spared):
            kinds[name] = "norm"
        else:
            kinds[name] = "weight"
    return kinds


def no_decay_patterns(model: nn.Module) -> Iterator[str]:
    """Names, or patterns of names, that timm's models keep from weight decay, wherever in ``model`` they sit."""
    for prefix, module in model.named_modules():
        listed = getattr(module, "no_weight_decay", None)
        if callable(listed):
            yield from (f"{prefix}.{name}" if prefix else name for name in listed())


def layer_scales(model: nn.Module, layer_decay: float) -> dict[str, float]:
    """Factor of the learning rate of every trainable parameter: layer_decay ^ (layers between it and the head).

    The layers are timm's own (``group_matcher``), looked for in ``model.timm_model`` or in the model itself.
    Parameters outside of them, such as a head set on a timm backbone, keep factor 1.
    Raises ConfigError for a model that does not name its layers and for a decay outside (0, 1].
    """
    where = "optimizer.kwargs.layer_decay"
    if not 0 < layer_decay <= 1:
        raise ConfigError(Problem(where, f"expected a number above 0 and up to 1, got {layer_decay:g}"))
    inner = getattr(model, "timm_model", model)
    if not hasattr(inner, "group_matcher"):
        message = f"{type(inner).__name__} does not name its layers (timm's group_matcher); leave layer_decay out"
        raise ConfigError(Problem(where, message))
    from timm.models import group_parameters

    layers = group_parameters(inner, inner.group_matcher(coarse=False), reverse=True)
    prefix = next(name for name, module in model.named_modules() if module is inner)
    layer_of = {f"{prefix}.{name}" if prefix else name: layer for name, layer in layers.items()}
    last = max(layer_of.values())
    return {name: layer_decay ** (last - layer_of.get(name, last)) for name in trainable(model)}


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, layer_decay: float | None = None, decay_all: bool = False
) -> list[dict[str, Any]]:
    """Groups for an optimizer that hold every trainable parameter exactly once.

    Each group has "params", "lr", "weight_decay" and "name": "norm", "weight", "bias" (in this order, empty ones left
    out), or with ``layer_decay`` "norm_x0.75" and so on, after the factor of its learning rate.
    decay_all: norms and biases decay like weights.
    """
    kinds = parameter_kinds(model)
    scales = layer_scales(model, layer_decay) if layer_decay is not None else dict.fromkeys(kinds, 1.0)
    members: dict[tuple[Kind, float], list[nn.Parameter]] = {}
    for name, parameter in trainable(model).items():
        members.setdefault((kinds[name], scales[name]), []).append(parameter)
    order = sorted(members, key=lambda key: (KINDS.index(key[0]), key[1]))
    return [
        {
            "params": members[kind, scale],
            "lr": lr * scale,
            "weight_decay": weight_decay if decay_all or kind == "weight" else 0.0,
            "name": kind if layer_decay is None else f"{kind}_x{scale:.3g}",
        }
        for kind, scale in order
    ]
