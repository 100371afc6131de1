"""Every optimizer that timm's factory knows, under timm's name; torch's own also under theirs ("AdamW", "SGD").

Left out are second-order optimizers, which need another backward pass than ours, and those of packages that are not
installed (bitsandbytes, apex). A registered function gets the signature of its optimizer, cut to what JSON can say.
"""

from __future__ import annotations

import importlib.util
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import torch
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from torch import nn

from dao.errors import ConfigError, Problem
from dao.optimizers.groups import parameter_groups
from dao.register import Registers

Factory = Callable[..., torch.optim.Optimizer]
TIMM_MOMENTUM = 0.9  # what timm's factory takes where the optimizer itself would go without momentum
COMMON = ("params", "lr", "weight_decay")
UNFIT = ("maximize", "differentiable", "verbose")  # would break training, or belong to another kind of loop
NOT_PLAIN = object()


def available_optimizers() -> list[str]:
    """timm's names of the optimizers that can run here."""
    return [name for name in list_optimizers() if not _why_left_out(name)]


def _why_left_out(name: str) -> str:
    """Why an optimizer is not registered, or nothing."""
    info = get_optimizer_info(name)
    if info.second_order:
        return "needs second derivatives"
    package = info.opt_class.split(".")[0] if isinstance(info.opt_class, str) else ""
    return f"needs {package}" if package and importlib.util.find_spec(package) is None else ""


def make_factory(name: str) -> Factory:
    """The function (model, *, lr, weight_decay, layer_decay, filter_bias_and_bn, ...) that builds timm's ``name``."""
    own = own_parameters(name)
    decay = _class_parameters(get_optimizer_info(name)).get("weight_decay")
    own_decay = float(decay.default) if decay else 0.0

    def factory(
        model: nn.Module,
        *,
        lr: float,
        weight_decay: float = own_decay,
        layer_decay: float | None = None,
        filter_bias_and_bn: bool = True,
        **options: Any,
    ) -> torch.optim.Optimizer:
        groups = parameter_groups(model, lr, weight_decay, layer_decay, decay_all=not filter_bias_and_bn)
        if "momentum" in own:  # timm would take its 0.9 even where the optimizer has a default of its own
            options.setdefault("momentum", own["momentum"].default)
        given = {key: _tuples(value) for key, value in options.items()}
        try:
            return create_optimizer_v2(groups, name, lr=lr, weight_decay=weight_decay, **given)
        except (ValueError, ImportError, AssertionError) as error:  # timm asserts that a GPU is there
            message = f"'{name}' cannot be built: {error or type(error).__name__}"
            raise ConfigError(Problem("optimizer", message)) from error

    _show(factory, own)
    factory.__name__ = factory.__qualname__ = name
    factory.__doc__ = f"{get_optimizer_info(name).description.rstrip('.')}. (timm)"
    return factory


def own_parameters(name: str) -> dict[str, inspect.Parameter]:
    """The optimizer's own settings that a config may give, with plain annotations and timm's defaults."""
    info = get_optimizer_info(name)
    own = {}
    for key, parameter in _class_parameters(info).items():
        default = (info.defaults or {}).get(key, parameter.default)
        default = str(default).removeprefix("torch.") if isinstance(default, torch.dtype) else default
        if key == "momentum":
            default = default or TIMM_MOMENTUM
        annotation = plain_annotation(parameter.annotation, default)
        if key not in (*COMMON, *UNFIT) and annotation is not NOT_PLAIN:
            own[key] = inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
    return own


def _class_parameters(info: Any) -> dict[str, inspect.Parameter]:
    """Parameters of the optimizer class; of one that is not imported yet, what timm says of it."""
    if not isinstance(info.opt_class, str):
        return dict(inspect.signature(info.opt_class).parameters)
    betas = (0.9, 0.999, 0.9999)[: info.num_betas]  # bitsandbytes' and apex' defaults
    known = {"eps": (info.has_eps, 1e-8), "betas": (info.has_betas, betas), "momentum": (info.has_momentum, 0.0)}
    named = {key: default for key, (has, default) in known.items() if has} | dict(info.defaults or {})
    kind = inspect.Parameter.KEYWORD_ONLY
    return {key: inspect.Parameter(key, kind, default=default) for key, default in named.items()}


def _show(factory: Factory, own: dict[str, inspect.Parameter]) -> None:
    """Make a factory's signature name the optimizer's own settings in place of ``**options``."""
    hints = typing.get_type_hints(factory)
    shown = [
        p.replace(annotation=hints[p.name])
        for p in inspect.signature(factory).parameters.values()
        if p.kind is not p.VAR_KEYWORD
    ]
    signature = inspect.Signature([*shown, *own.values()], return_annotation=torch.optim.Optimizer)
    factory.__signature__ = signature  # type: ignore[attr-defined]
    # the register resolves annotations through get_type_hints, which reads these
    factory.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    factory.__annotations__["return"] = torch.optim.Optimizer


def plain_annotation(annotation: Any, default: Any) -> Any:
    """The part of an annotation that JSON can say; NOT_PLAIN when nothing is left.

    default: tells the type where there is no annotation.

    >>> plain_annotation(float | torch.Tensor, 1e-3), plain_annotation(inspect.Parameter.empty, (0.9, 0.999))
    (<class 'float'>, tuple[float, float])
    """
    if annotation is inspect.Parameter.empty:
        return _type_of(default)
    if annotation in (int, float, bool, str, type(None)):
        return annotation
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    plain = [part if part is Ellipsis else plain_annotation(part, None) for part in arguments]
    if origin in (typing.Union, types.UnionType):
        plain = [part for part in plain if part is not NOT_PLAIN]
        return typing.Union[tuple(plain)] if set(plain) - {type(None)} else NOT_PLAIN  # noqa: UP007
    if origin in (list, tuple) and NOT_PLAIN not in plain:
        return origin[tuple(plain)]
    return annotation if origin is typing.Literal else NOT_PLAIN


def _type_of(default: Any) -> Any:
    """The annotation that a default stands for; a whole number may stand for any."""
    if isinstance(default, bool | str):
        return type(default)
    if isinstance(default, int | float):
        return float
    if isinstance(default, tuple):
        return tuple[tuple(_type_of(part) for part in default)]
    return NOT_PLAIN


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that optimizers expect."""
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


def _names(name: str) -> Iterator[str]:
    """timm's name, and torch's where it is the same optimizer by the same name."""
    yield name
    cls = get_optimizer_info(name).opt_class
    if not isinstance(cls, str) and cls.__module__.startswith("torch.optim") and cls.__name__.lower() == name:
        yield cls.__name__


for _name in available_optimizers():
    Registers.optimizers.register(*_names(_name))(make_factory(_name))
