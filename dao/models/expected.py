"""What pretrained weights were made with: the preprocessing that a config need not say, and had better not contradict.

A model says it in `expects`: its kwargs -> settings of ``preprocess``, {} where it starts from random weights.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from typing import Any

import torch
from loguru import logger

from dao.register import Register

Settings = dict[str, Any]
LEARNT = ("mean", "std", "channel_order")  # what weights were trained on; another value of these is worth a warning


def starts_trained(kwargs: Mapping[str, Any]) -> bool:
    """Whether a model's kwargs name weights to start from."""
    return any(kwargs.get(key) for key in ("pretrained", "checkpoint_path", "encoder_weights"))


def of_timm(model_name: str) -> Settings:
    """Mean and deviation of a timm model's weights, of its default ones where the name has no tag."""
    import timm

    found = timm.get_pretrained_cfg(model_name.split("/")[-1])
    return {"mean": list(found.mean), "std": list(found.std)} if found is not None and found.mean else {}


def timm_weights(key: str, default: str | None = None) -> Any:
    """An `expects` for a model whose kwargs name a timm model in ``key``."""

    def expects(kwargs: Mapping[str, Any]) -> Settings:
        name = kwargs.get(key, default)
        return of_timm(name) if name and starts_trained(kwargs) else {}

    return expects


def preprocess_of(
    register: Register, model: Mapping[str, Any], given: Mapping[str, Any], ckpt: str | None = None
) -> Settings:
    """The section ``preprocess``, with what it does not say taken from the weights that the model starts from.

    register, model: of models, and the config's section; ckpt: one of our checkpoints that training starts from.
    Warns where a config says otherwise than the weights.
    """
    kwargs = model.get("kwargs") or {}
    expects = getattr(register.get(model["type"], "model.type"), "expects", None)
    wanted = of_checkpoint(ckpt or kwargs.get("checkpoint_path"))
    wanted = for_input(wanted or (expects(kwargs) if expects else {}), given)
    taken = {key: value for key, value in wanted.items() if key not in given}
    if taken:
        logger.info("preprocessing of the model's weights, as the config does not say otherwise: {}", _text(taken))
    others = {
        key: wanted[key] for key in LEARNT if key in wanted and not equal(given.get(key, wanted[key]), wanted[key])
    }
    if others:
        logger.warning(
            "the model's weights were made with preprocess {}, and the config says {}: it starts from features of other "
            "inputs. Leave {} out of `preprocess` to take what belongs to the weights",
            _text(others), _text({key: given[key] for key in others}), " and ".join(others),
        )  # fmt: skip
    return {**taken, **given}


def of_checkpoint(path: str | None) -> Settings:
    """Mean, deviation and channel order that one of our own checkpoints was trained with; {} for any other file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True) if path else {}
        saved = json.loads(content["card"])["preprocess"]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError):
        return {}  # who loads the weights says what is wrong with the file
    return {key: saved[key] for key in LEARNT if key in saved}


def for_input(wanted: Settings, given: Mapping[str, Any]) -> Settings:
    """What of the weights' settings means something with the size, resize and channels that the config asks for."""
    wanted = dict(wanted)
    if given.get("in_channels", 3) == 1:
        wanted.pop("channel_order", None)
        wanted |= {key: [sum(wanted[key]) / len(wanted[key])] for key in ("mean", "std") if key in wanted}
    if given.get("resize", "letterbox") != "letterbox":
        wanted.pop("position", None)
    return wanted


def equal(first: Any, second: Any) -> bool:
    """Whether two settings say the same: one number stands for all channels."""
    if isinstance(first, str) or isinstance(second, str):
        return first == second
    count = max(len(first), len(second))
    first, second = (list(values) * (count if len(values) == 1 else 1) for values in (first, second))
    return len(first) == len(second) and all(abs(a - b) < 1e-3 for a, b in zip(first, second))


def _text(settings: Settings) -> str:
    return ", ".join(
        f"{key} {[round(v, 5) for v in value] if isinstance(value, list | tuple) else value}"
        for key, value in settings.items()
    )
