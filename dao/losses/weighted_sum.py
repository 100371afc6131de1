"""A config's loss section as one module: one loss, or the weighted sum of several named ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dao.config.contracts import check_loss_value
from dao.errors import ConfigError, Problem
from dao.register import Registers, to_plain

TOTAL = "loss"


class WeightedSum(nn.Module):
    """Named losses and their weighted sum.

    terms: the losses by name; weights: a factor for each. A term of weight 0 is measured, not minimised.
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.names = list(terms)
        self.losses = nn.ModuleList(terms.values())  # a ModuleDict refuses names such as "train"
        self.weights = dict(weights)

    def forward(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        """Every term unweighted and detached under its name, and "loss", the scalar to differentiate.

        A single term has no name of its own beside "loss". A loss that gives named parts and their "loss" is a term as
        well; its parts are handed on under their names, after the term's own name where there are several.
        """
        values: dict[str, Tensor] = {}
        parts: dict[str, Tensor] = {}
        for name, loss in zip(self.names, self.losses):
            value = self._value(loss, self.weights[name], outputs, target)
            if isinstance(value, dict):
                prefix = f"{name}/" if len(self.names) > 1 else ""
                parts |= {f"{prefix}{part}": each.detach() for part, each in value.items() if part != TOTAL}
                value = value.get(TOTAL)
            check_loss_value(loss, value)
            values[name] = value
        # Terms of weight 0 stay out of the sum, so that a measurement that is not finite cannot spoil it.
        total = sum(self.weights[name] * value for name, value in values.items() if self.weights[name])
        if len(values) == 1:
            return {**parts, TOTAL: total}
        return {**{name: value.detach() for name, value in values.items()}, **parts, TOTAL: total}

    @staticmethod
    def _value(loss: nn.Module, weight: float, outputs: Any, target: Any) -> Any:
        with torch.set_grad_enabled(torch.is_grad_enabled() and weight != 0):
            return loss(outputs, target)


def build_loss(section: Mapping[str, Any] | Sequence[Any], where: str = "loss", **context: Any) -> WeightedSum:
    """The module that a loss section describes.

    section: {"type", "kwargs"}, or a list of such, each with an optional "weight" (default 1) and "name" (default: the
        type in snake case without "Loss"); equal names get a number. context: num_classes, class_counts,
        class_total, multi_label.
    Raises ConfigError for an empty list, a sum in which nothing is minimised, and a term called "loss".
    """
    plain = to_plain(section)
    items = [plain] if isinstance(plain, dict) else plain
    places = [where] if isinstance(plain, dict) else [f"{where}.{i}" for i in range(len(items))]
    terms: dict[str, nn.Module] = {}
    weights: dict[str, float] = {}
    for item, place in zip(items, places, strict=True):
        name = _unique(item.get("name") or snake_case(item["type"]), terms)
        if name == TOTAL:
            raise ConfigError(Problem(f"{place}.name", f"a term cannot be called '{name}'; choose another name"))
        weight = float(item.get("weight", 1.0))
        if weight < 0:
            raise ConfigError(
                Problem(f"{place}.weight", f"must be at least 0, got {weight:g}: it would make the loss grow")
            )
        terms[name] = Registers.losses.build(item, place, **context)
        weights[name] = weight
    if not any(weights.values()):
        message = "the list is empty" if not weights else "every weight is 0"
        raise ConfigError(Problem(where, f"{message}, so there is nothing to minimise; give a loss with a weight"))
    return WeightedSum(terms, weights)


def snake_case(type_name: str) -> str:
    """The name a loss is logged by.

    >>> [snake_case(n) for n in ("CrossEntropyLoss", "BCEWithLogitsLoss", "L1Loss")]
    ['cross_entropy', 'bce_with_logits', 'l1']
    """
    stem = type_name.removesuffix("Loss") or type_name
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", stem).lower()


def _unique(name: str, taken: Mapping[str, Any]) -> str:
    """The name itself, or with the first number from 2 that makes it new."""
    number, candidate = 2, name
    while candidate in taken:
        number, candidate = number + 1, f"{name}_{number}"
    return candidate
