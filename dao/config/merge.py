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
BY_CLASS_NAME = (
    "class_thresholds",
    "class_weights",
    "mask_values",
)  # settings in which "0" may be what a class is called
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
    merged = type(base or child)(kv for kv in base.items() if not (changes_type and kv[0] == "kwargs"))
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
    """What an -o path says of the places of a list: of one that is there, or of one that may yet turn up below it. Where
    none does, it becomes the list of its values (`drop_delete_marks`), if it names them all from 0 on."""

    def settled(self) -> list[Any] | Raw:
        """The list, or a plain dict where places are missing."""
        keys = [str(i) for i in range(len(self))]
        return [self[key] for key in keys] if set(keys) == set(self) else dict(self)


def drop_delete_marks(value: Any, where: str = "") -> Any:
    """The same without ``_delete_``, when all is merged, and with the lists that -o made by their places. Raises
    ConfigError for a mark that is neither true nor false."""
    if isinstance(value, list):
        return [drop_delete_marks(item, f"{where}.{i}".lstrip(".")) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if not isinstance(value.get(DELETE, False), bool):
        message = f"expected true or false, got {short(value[DELETE])}"
        raise ConfigError(Problem(f"{where}.{DELETE}".lstrip("."), message))
    if isinstance(value, _Places) and isinstance(items := value.settled(), list):
        return drop_delete_marks(items, where)
    return {k: drop_delete_marks(v, f"{where}.{k}".lstrip(".")) for k, v in value.items() if k != DELETE}


# -- the command line --------------------------------------------------------------------------------------------------


def override(raw: Raw, overrides: Iterable[str]) -> Raw:
    """The config with ``a.b.0.c=value`` pairs over it, in whatever order they come; a value is JSON, or text. Of a list
    that is not there yet ``a.b.0=x a.b.1=y`` makes one.

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
        message = f"{short(value)} is not JSON; if the shell took its double quotes, say {_apart(path, value.strip())}"
        raise ConfigError(Problem(path, message), SOURCE)
    return value


def _apart(path: str, text: str) -> str:
    """The pairs, without a quote or a bracket, that say what ``[a,b]`` or ``{k:a}`` was to say."""
    items = [item.strip() for item in text[1:-1].split(",")]
    if text.startswith("["):
        simple = all(re.fullmatch(r"[^\[\]{}:\s]+", item) for item in items)
        return " ".join(f"{path}.{i}={item}" for i, item in enumerate(items if simple else ["...", "..."]))
    simple = all(re.fullmatch(r"\w+:[^\[\]{}:\s]+", item) for item in items)
    return " ".join(f"{path}.{item.replace(':', '=')}" for item in (items if simple else ["key:..."]))


def _nested(keys: tuple[str, ...], value: Any, node: Any, name: str = "") -> Raw:
    """``{"a": {"b": value}}``, as it lies over ``node``, which is called ``name``; a list is spoken of by its places."""
    for depth, key in enumerate(keys):
        where = ".".join(keys[:depth])
        name = keys[depth - 1] if depth else name
        if isinstance(node, list) or _makes_list(node, key, name):
            inner = _at_place(node, key, where)
            rest = _nested(keys[depth + 1 :], value, inner, key) if keys[depth + 1 :] else value
            return _wrap(keys[:depth], _Places({key: rest}))
        if not isinstance(node, (dict, type(None))):
            raise ConfigError(Problem(where, f"is {short(node)}, so it has no '{key}' to set"), SOURCE)
        node = (node or {}).get(key)
    return _wrap(keys, value)


def _makes_list(node: Any, key: str, name: str) -> bool:
    """Whether a key counts the places of a list that is still to be made. A dict stays one, whatever its keys."""
    missing = node is None or node == [] or isinstance(node, _Places)
    return missing and key.isdecimal() and bool(name) and name not in BY_CLASS_NAME


def _wrap(keys: tuple[str, ...], value: Any) -> Any:
    for key in reversed(keys):
        value = {key: value}
    return value


def _at_place(items: Any, key: str, where: str) -> Any:
    """What lies at a place of a list; None where the list is still to be made."""
    if items is None or isinstance(items, _Places):
        return (items or {}).get(key)
    if not items and key.isdecimal():
        return None
    if not PLACE.fullmatch(key) or not -len(items) <= int(key) < len(items):
        known = f"0 to {len(items) - 1}" if items else "none, the list is empty"
        raise ConfigError(Problem(where, f"'{key}' is not a place in this list; places: {known}"), SOURCE)
    return items[int(key)]


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
