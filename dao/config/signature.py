"""The signature is the schema: what a component's parameters say about the keywords a config may give it."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from dao.errors import Problem, like

Component = Callable[..., Any]


def check_kwargs(
    component: Component, kwargs: Mapping[str, Any], where: str, context: tuple[str, ...] = ()
) -> list[Problem]:
    """Everything wrong with ``kwargs`` for ``component``: unknown and missing keys, wrong types.

    Parameters named in ``context`` may be missing: the core hands them over.
    """
    fields = config_parameters(component)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(component).parameters.values())
    name = component.__name__
    problems = []
    for key in kwargs:
        if key not in fields and not takes_any:
            problems.append(Problem(f"{where}.{key}", f"{name} takes no '{key}'. {_meant(key, component, context)}"))
    for key, parameter in fields.items():
        if parameter.default is inspect.Parameter.empty and key not in kwargs and key not in context:
            problems.append(Problem(f"{where}.{key}", f"{name} needs '{key}' ({_type_name(parameter.annotation)})"))
        elif key in kwargs:
            problems += check_type(parameter.annotation, kwargs[key], f"{where}.{key}")
    return problems


def _meant(key: str, component: Component, context: tuple[str, ...]) -> str:
    """The parameters that a misspelt one may have been meant for, and all that there are."""
    close = like(key, [name for name in config_parameters(component) if name not in context])
    takes = f"It takes: {describe_parameters(component, skip=context) or 'nothing'}"
    return f"Nearest: {', '.join(close)}. {takes}" if close else takes


def out_of_limits(kwargs: Mapping[str, Any], limits: Mapping[str, tuple[float, float]], where: str) -> list[Problem]:
    """Settings outside the smallest and largest value that they may have, both included. Values that are no numbers are
    not judged here."""
    return [
        Problem(f"{where}.{key}", f"expected {_range(low, high)}, got {kwargs[key]:g}")
        for key, (low, high) in limits.items()
        if isinstance(kwargs.get(key), int | float) and not low <= kwargs[key] <= high
    ]


def _range(low: float, high: float) -> str:
    return f"a number from {low:g} to {high:g}" if high != float("inf") else f"a number from {low:g} up"


@cache
def config_parameters(component: Component) -> dict[str, inspect.Parameter]:
    """The named parameters of a component, with their annotations resolved."""
    target = component.__init__ if inspect.isclass(component) else component
    try:
        hints = typing.get_type_hints(target)
    except Exception:  # a third-party annotation that needs names we cannot see: its parameters stay unchecked
        hints = {}
    signature = inspect.signature(component)
    return {
        name: parameter.replace(annotation=hints.get(name, Any))
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def describe_parameters(component: Component, skip: tuple[str, ...] = ()) -> str:
    """``gamma=2.0, alpha=None, reduction='mean'``: what a config may set."""
    parts = []
    for name, parameter in config_parameters(component).items():
        if name not in skip:
            empty = parameter.default is inspect.Parameter.empty
            parts.append(name if empty else f"{name}={parameter.default!r}")
    return ", ".join(parts)


def _type_name(annotation: Any) -> str:
    if annotation in (Any, inspect.Parameter.empty):
        return "any value"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


@cache
def type_adapter(annotation: Any) -> Any:
    """pydantic's validator for an annotation, strict: text is not a number and 1 is not a bool."""
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        return TypeAdapter(annotation, config=ConfigDict(strict=True, arbitrary_types_allowed=True))
    except PydanticUserError:  # models and dataclasses carry their own config
        return TypeAdapter(annotation)


def check_type(annotation: Any, value: Any, where: str) -> list[Problem]:
    """Problems of one value against its annotation; JSON rules, so a list may fill a tuple and 1 may fill a float."""
    from pydantic import ValidationError

    if annotation in (Any, inspect.Parameter.empty):
        return []
    try:
        type_adapter(annotation).validate_json(json.dumps(value))
    except ValidationError as error:
        shown = json.dumps(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        detail = error.errors()[0]["msg"] if len(error.errors()) == 1 else "fits none of these"
        return [Problem(where, f"expected {_type_name(annotation)}, got {shown} ({detail})")]
    except TypeError:  # built in Python, not JSON: the component checks it itself
        return []
    return []
