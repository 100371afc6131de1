"""Any timm model as a classifier."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from urllib.parse import urlparse

from loguru import logger
from torch import nn

from dao.errors import CheckpointError, ConfigError, Problem, nearest
from dao.register import Registers
from dao.utils import checkpoint


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

    if not timm.is_model(model_name.split("/")[-1].split(".")[0]):
        known = timm.list_models()
        raise ConfigError(
            Problem("model.kwargs.model_name", f"timm has no '{model_name}'. {nearest(model_name, known)}")
        )
    if pretrained and checkpoint_path:
        message = "give either pretrained: true (download) or checkpoint_path (local file), not both"
        raise ConfigError(Problem("model.kwargs.checkpoint_path", message))
    optional = {"drop_path_rate": drop_path_rate, "global_pool": global_pool}
    extra = {name: value for name, value in optional.items() if value is not None}
    options = {"num_classes": num_classes, "in_chans": in_chans, "drop_rate": drop_rate, **extra}
    model = download(model_name, options) if pretrained else _create(model_name, options)
    if checkpoint_path:
        load_local_weights(model, checkpoint_path)
    freeze_modules(model, freeze or [])
    return model


def _create(model_name: str, options: dict[str, object]) -> nn.Module:
    """A model with random weights; a keyword that this architecture does not know is the config's mistake."""
    import timm

    try:
        return timm.create_model(model_name, **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise ConfigError(Problem("model.kwargs", f"{model_name}: {error}")) from None


def download(model_name: str, options: dict[str, object]) -> nn.Module:
    """timm's own download; every way it can fail ends in one message that names the local-file setting."""
    import timm

    try:
        with _offline_when_the_hub_is_out_of_reach():
            return timm.create_model(model_name, pretrained=True, **options)
    except Exception as error:  # requests', huggingface_hub's, urllib's and timm's errors share no base
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}"
        raise CheckpointError(
            f"the pretrained weights of {model_name} could not be downloaded ({reason}).\n"
            f"  Without internet: put the weights on disk (.pth or .safetensors, timm's or torchvision's), set\n"
            f"  model.kwargs.pretrained to false and model.kwargs.checkpoint_path to the file.\n"
            f"  To start from random weights: model.kwargs.pretrained false."
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


def load_local_weights(model: nn.Module, path: str) -> checkpoint.FitReport:
    """Fill a model from a file and log what fitted. Raises CheckpointError when nothing, or next to nothing, did."""
    weights = checkpoint.load_weights(path)
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

    Raises ConfigError for a pattern that matches no module: a freeze that freezes nothing must not pass in silence.
    """
    names = [name for name, _ in model.named_modules() if name]
    for pattern in patterns:
        hit = [name for name in names if re.match(rf"(?:{pattern})(?:\.|$)", name)]
        if not hit:
            top = [name for name, _ in model.named_children()]
            raise ConfigError(
                Problem("model.kwargs.freeze", f"no module is called '{pattern}'. {nearest(pattern, top)}")
            )
        for name in hit:
            module = model.get_submodule(name)
            module.requires_grad_(False)
            _stay_in_eval(module)


def _stay_in_eval(module: nn.Module) -> None:
    """Make train() leave the module in eval mode: a frozen batch norm must not move its statistics."""
    module.eval()
    module.train = lambda mode=True: module  # type: ignore[method-assign]
