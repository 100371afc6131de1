"""Where a model's first weights come from: a download, or a file; and which of them stay as they are."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlparse

from loguru import logger
from torch import nn

from dao.checkpoints import checkpoint
from dao.errors import CheckpointError, ConfigError, Problem, nearest
from dao.models import offline


def download(make: Callable[[], Any], model_name: str, keyword: str) -> Any:
    """What ``make`` builds or fetches from a hub; every way it can fail ends in one message.

    keyword: the setting under model.kwargs that asked for the download, as the message names it.
    """
    try:
        with _offline_when_the_hub_is_out_of_reach():
            return make()
    except Exception as error:  # requests', huggingface_hub's, urllib's and timm's errors share no base
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}"
        raise CheckpointError(
            f"the pretrained weights of {model_name} could not be downloaded ({reason}).\n"
            f"  Without internet: put the weights on disk (.pth or .safetensors, timm's or torchvision's), set\n"
            f"  model.kwargs.checkpoint_path to the file and leave model.kwargs.{keyword} out.\n"
            f"  To start from random weights: leave both out."
        ) from error


@contextlib.contextmanager
def _offline_when_the_hub_is_out_of_reach() -> Iterator[None]:
    """Behind an air gap the hub's client retries for a minute before it gives up: ask the name service first.

    A download that was cached earlier is still found. With a proxy set, names may only be known to the proxy.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    if not any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        try:
            socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443)
        except OSError:
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def refuse_hub(model_name: str, where: str, wanted: bool) -> None:
    """Raise ConfigError for a name that asks a hub (even for the settings of a model), where nothing pretrained is wanted."""
    if offline.names_a_hub(model_name) and not wanted:
        message = f"'{model_name}' asks a hub, which only pretrained weights may; without them name the model alone"
        raise ConfigError(Problem(where, f"{message}: '{offline.bare_name(model_name)}'"))


def refuse_unknown(model_name: str, where: str) -> None:
    """Raise ConfigError, with what is known, for a name that timm does not have, or a tag ("resnet18.a1_in1k") of none
    of that model's weights."""
    import timm

    if not timm.is_model(model_name.split("/")[-1].split(".")[0]):
        raise ConfigError(Problem(where, f"timm has no '{model_name}'. {nearest(model_name, timm.list_models())}"))
    architecture, _, tag = model_name.split("/")[-1].partition(".")
    if (
        tag
        and "/" not in model_name
        and f"{architecture}.{tag}" not in (known := timm.list_pretrained(f"{architecture}.*"))
    ):
        message = f"timm has no weights '{tag}' of {architecture}. {nearest(model_name, known)}"
        raise ConfigError(Problem(where, message))


def load_local_weights(model: nn.Module, path: str, parts: Sequence[nn.Module] = ()) -> checkpoint.FitReport:
    """Fill a model from a file and log what fitted. Raises CheckpointError when nothing, or next to nothing, did.

    parts: modules inside it that the file may be of instead (its encoder alone); taken is what most names fit.
    """
    weights = checkpoint.load_weights(path)
    model = max((model, *parts), key=lambda module: len(module.state_dict().keys() & weights.keys()))
    first = next(iter(model.parameters()))
    if first.ndim == 4 and first.shape[1] == 1:
        weights = _to_grey(model, weights)
    report = checkpoint.fit(model, weights)
    total = len(report.loaded) + len(report.missing) + len(report.mismatched)
    if len(report.loaded) * 10 < total:
        raise CheckpointError(f"{path} is of another model: {report.render()}")
    logger.info("weights from {}: {}", path, report.render())
    return report


def _to_grey(model: nn.Module, weights: checkpoint.StateDict) -> checkpoint.StateDict:
    """RGB weights for a grey input: the first convolution's kernels summed over colour, as timm does."""
    name = next(n for n, p in model.named_parameters() if p.ndim == 4)
    if name in weights and weights[name].ndim == 4 and weights[name].shape[1] == 3:
        return {**weights, name: weights[name].float().sum(dim=1, keepdim=True)}
    return weights


def freeze_modules(model: nn.Module, patterns: list[str]) -> None:
    """Stop the gradient of every module whose name matches a pattern from its start, and keep it in eval mode.

    Raises ConfigError for a pattern that matches no module (a freeze that freezes nothing must not pass in silence) and
    for one that is no regular expression.
    """
    names = [name for name, _ in model.named_modules() if name]
    for number, pattern in enumerate(patterns):
        try:
            whole = re.compile(rf"(?:{re.compile(pattern).pattern})(?:\.|$)")
        except re.error as error:
            message = f"'{pattern}' is not a regular expression: {error}"
            raise ConfigError(Problem(f"model.kwargs.freeze.{number}", message)) from None
        hit = [name for name in names if whole.match(name)]
        if not hit:
            top = [name for name, _ in model.named_children()]
            raise ConfigError(
                Problem("model.kwargs.freeze", f"no module is called '{pattern}'. {nearest(pattern, top)}")
            )
        for name in hit:
            module = model.get_submodule(name)
            module.requires_grad_(False)
            stay_in_eval(module)


def stay_in_eval(module: nn.Module) -> None:
    """Make train() leave the module in eval mode: a frozen batch norm must not move its statistics."""
    module.eval()
    module.train = lambda mode=True: module  # type: ignore[method-assign]
