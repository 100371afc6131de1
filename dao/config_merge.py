"""What lies over what in a config: the one rule by which files, ``-o`` pairs and a checkpoint's config are merged.

A mark ``"_delete_": true`` stays where it was written until everything that may lie below has been merged
(`drop_delete_marks`): what an Eval config replaces is known only when its checkpoint has been read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from dao.errors import ConfigError, Problem

Raw = dict[str, Any]
SOURCE = "--override"
DELETE = "_delete_"
PLACE = re.compile(r"-?\d+")
WITHOUT_QUOTES = re.compile(r"\{.*\}|\[.*\]", re.DOTALL)  # what is left of JSON when a shell has taken its quotes


def merge(base: Raw, child: Raw) -> Raw:
    """``child`` over ``base``: dicts merge key by key, everything else replaces.

    A dict with ``"_delete_": true`` replaces instead of merging. A component whose ``type`` changes does not inherit
    the other type's kwargs: they would be refused as unknown, or worse, fit by accident. A dict of places
    (``{"0": {...}}``) over a list of components changes those places.
    """
    if child.get(DELETE):
        return child
    changes_type = "type" in child and "type" in base and child["type"] != base["type"]
    merged = {key: value for key, value in base.items() if not (changes_type and key == "kwargs")}
    for key, value in child.items():
        merged[key] = _over(merged.get(key), value)
    return merged


def _over(old: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if isinstance(old, list) and _names_places(value, old):
        items = list(old)
        for place, item in value.items():
            items[int(place)] = _over(items[int(place)], item)
        return items
    return merge(old if isinstance(old, dict) else {}, value)


def _names_places(value: Mapping[str, Any], items: list[Any]) -> bool:
    """Whether a dict speaks of places in a list. Lists of numbers are values (weights of classes that are called "0" and
    "1" may replace them by a dict); for -o, whose paths say what they mean, a list of anything has places."""
    inside = bool(value) and all(PLACE.fullmatch(k) and -len(items) <= int(k) < len(items) for k in value)
    return inside and (isinstance(value, _Places) or all(isinstance(item, dict) for item in items))


class _Places(dict[str, Any]):
    """What an -o path says of the places of a list."""


def drop_delete_marks(value: Any, where: str = "") -> Any:
    """The same without ``_delete_``, when all is merged. Raises ConfigError for a mark that is neither true nor false."""
    if isinstance(value, list):
        return [drop_delete_marks(item, f"{where}.{i}".lstrip(".")) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if not isinstance(value.get(DELETE, False), bool):
        message = f"expected true or false, got {short(value[DELETE])}"
        raise ConfigError(Problem(f"{where}.{DELETE}".lstrip("."), message))
    return {k: drop_delete_marks(v, f"{where}.{k}".lstrip(".")) for k, v in value.items() if k != DELETE}


# -- the command line --------------------------------------------------------------------------------------------------


def override(raw: Raw, overrides: Iterable[str]) -> Raw:
    """The config with ``a.b.0.c=value`` pairs over it, in whatever order they come; a value is JSON, or text.

    Raises ConfigError for a pair that says nothing, or that leads through a value or past the end of a list.
    """
    pairs = dict(_parsed(text) for text in overrides)
    for keys, value in sorted(pairs.items(), key=lambda pair: _rank(pair[0])):
        raw = merge(raw, _nested(keys, value, raw))
    return raw


def _rank(keys: tuple[str, ...]) -> tuple[int, int]:
    """The general before the particular, and a type, or a mark, before what goes with it."""
    return len(keys), {DELETE: 0, "type": 1}.get(keys[-1], 2)


def _parsed(text: str) -> tuple[tuple[str, ...], Any]:
    path, equals, value = text.partition("=")
    keys = tuple(path.strip().split("."))
    if path.startswith(("'", '"')):
        message = 'the quotes have come with it: this shell wants "a.b.c=value" in double quotes, or none'
        raise ConfigError(Problem(text, message), SOURCE)
    if not equals or not all(keys):
        raise ConfigError(Problem(text, "expected a.b.c=value"), SOURCE)
    return keys, _value(".".join(keys), value)


def _value(path: str, text: str) -> Any:
    problems: list[Problem] = []
    value = json_or_text(text, lambda pairs: unique(pairs, problems, path))
    if problems:
        raise ConfigError(problems, SOURCE)
    if isinstance(value, str) and value == text and WITHOUT_QUOTES.fullmatch(value.strip()):
        parts = f"{path}.0=... {path}.1=..." if value.strip().startswith("[") else f"{path}.key=..."
        message = f"{short(value)} is not JSON; if the shell took its double quotes, say {parts}"
        raise ConfigError(Problem(path, message), SOURCE)
    return value


def _nested(keys: tuple[str, ...], value: Any, node: Any) -> Raw:
    """``{"a": {"b": value}}``, as it lies over ``node``, a list being spoken of by its places."""
    for depth, key in enumerate(keys):
        where = ".".join(keys[:depth])
        if isinstance(node, list):
            _check_place(node, key, where)
            return _wrap(keys[:depth], _Places({key: _wrap_rest(keys[depth + 1 :], value, node[int(key)])}))
        if not isinstance(node, (dict, type(None))):
            raise ConfigError(Problem(where, f"is {short(node)}, so it has no '{key}' to set"), SOURCE)
        node = (node or {}).get(key)
    return _wrap(keys, value)


def _wrap_rest(keys: tuple[str, ...], value: Any, node: Any) -> Any:
    return _nested(keys, value, node) if keys else value


def _wrap(keys: tuple[str, ...], value: Any) -> Any:
    for key in reversed(keys):
        value = {key: value}
    return value


def _check_place(items: list[Any], key: str, where: str) -> None:
    if not PLACE.fullmatch(key) or not -len(items) <= int(key) < len(items):
        known = f"0 to {len(items) - 1}" if items else "none, the list is empty"
        raise ConfigError(Problem(where, f"'{key}' is not a place in this list; places: {known}"), SOURCE)


# -- values ------------------------------------------------------------------------------------------------------------


def unique(pairs: list[tuple[str, Any]], problems: list[Problem], where: str = "") -> Raw:
    """An object of pairs; a key that comes twice is added to ``problems``."""
    content: Raw = {}
    for key, value in pairs:
        if key in content:
            what = f"the key is given twice, with {short(content[key])} and {short(value)}"
            problems.append(Problem(f"{where}.{key}" if where else key, what))
        content[key] = value
    return content


def json_or_text(text: str, pairs: Any = None) -> Any:
    """The JSON value a text spells, or the text itself; ``pairs``: see json.loads's object_pairs_hook."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def short(value: Any, limit: int = 40) -> str:
    """A value as JSON, its beginning where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else text[: limit - 3] + "..."
