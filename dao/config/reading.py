"""A config file, read: inherited, overridden, expanded. What it may say is in `dao.config.schema`.

`load` turns ``file.json`` (or .yaml, or a .py with a ``config`` dict) into plain dicts; `freeze` turns a validated
one into a read-only DotMap. Every function reports all problems it finds at once.
"""

from __future__ import annotations

import json
import math
import os
import re
import runpy
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from dotmap import DotMap

from dao.config import secret_values, yaml_reader
from dao.config.merge import Raw, drop_delete_marks, json_or_text, merge, override, unique
from dao.errors import ConfigError, Problem

NAMING_CLASSES = ("classes", "mask_values", "none_label", "good")  # settings that hold names of classes
ENV_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}")


def load(path: str | Path, overrides: Iterable[str] = ()) -> Raw:
    """A config file with everything it inherits, ``a.b.c=value`` overrides over it, and ``${ENV}`` expanded.

    Raises ConfigError with every problem found in the step that failed.
    """
    return drop_delete_marks(load_marked(path, overrides))


def load_marked(path: str | Path, overrides: Iterable[str] = ()) -> Raw:
    """`load`, with every ``_delete_`` still in its place: for what is to be merged over a checkpoint's config."""
    raw = override(inherit(Path(path)), overrides)
    problems: list[Problem] = []
    raw = expand_env(raw, problems)
    problems += [Problem(where, f"is {value}, and numbers must be finite") for where, value in not_finite(raw)]
    if problems:
        raise ConfigError(problems, str(path))
    raw.pop("$schema", None)
    return raw


# -- reading ---------------------------------------------------------------------------------------------------------


def inherit(path: Path, chain: tuple[Path, ...] = ()) -> Raw:
    """The file's content merged over what its ``_base_`` names (a path or a list, relative to the file)."""
    resolved = path.resolve()
    if resolved in chain:
        cycle = " -> ".join(p.name for p in (*chain[chain.index(resolved) :], resolved))
        raise ConfigError(Problem("_base_", f"inherits from itself: {cycle}"), str(chain[0]))
    raw = read_file(path)
    bases = raw.pop("_base_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(b, str) for b in bases):
        raise ConfigError(Problem("_base_", f"expected a path or a list of paths, got {json.dumps(bases)}"), str(path))
    merged: Raw = {}
    for base in bases:
        target = path.parent / base
        if target.suffix.lower() == ".py":
            message = f"{base} is a Python file, which would be run: a config names data, and -c alone may name a .py"
            raise ConfigError(Problem("_base_", message), str(path))
        if not target.is_file():
            raise ConfigError(
                Problem("_base_", f"{base} does not exist beside {path.name} (looked for {target})"), str(path)
            )
        merged = merge(merged, inherit(target, (*chain, resolved)))
    return merge(merged, raw)


def read_file(path: Path) -> Raw:
    """One file's own content, without inheritance."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"expected {', '.join(_READERS)}, got '{path.suffix or path.name}'", str(path))
    if not path.is_file():
        raise ConfigError(f"the file does not exist (working directory: {Path.cwd()})", str(path))
    content = reader(path)
    if not isinstance(content, dict):
        raise ConfigError(f"expected an object at the top, got {type(content).__name__}", str(path))
    refuse_deep(content, str(path))
    return content


def refuse_deep(content: Any, source: str) -> None:
    """Raise ConfigError for values nested so deep that whatever walks through them would end in Python's own limit."""
    level, depth = [content], 0
    while level and depth <= yaml_reader.DEEPEST:
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level, depth = [one for values in inner for one in values], depth + 1
    if level:
        raise ConfigError(f"it is nested more than {yaml_reader.DEEPEST} levels deep", source)


def _read_json(path: Path) -> Any:
    problems: list[Problem] = []
    try:
        content = json.loads(
            path.read_text(encoding="utf-8-sig"),
            object_pairs_hook=lambda pairs: unique(pairs, problems),
            parse_constant=lambda name: problems.append(Problem("", f"{name} is not a JSON value")),
        )
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}", str(path)
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"not a UTF-8 text file: {error}", str(path)) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand brackets
        raise ConfigError(f"not valid JSON: {type(error).__name__}: {str(error)[:100]}", str(path)) from None
    if problems:
        raise ConfigError(problems, str(path))
    return content


def _read_yaml(path: Path) -> Any:
    problems: list[Problem] = []
    try:
        content = yaml_reader.load(
            path.read_text(encoding="utf-8"), lambda pairs: unique(pairs, problems), NAMING_CLASSES
        )
    except UnicodeDecodeError as error:
        raise ConfigError(f"not a UTF-8 text file: {error}", str(path)) from None
    except ValueError as error:
        raise ConfigError(f"not valid YAML: {error}", str(path)) from None
    if problems:
        raise ConfigError(problems, str(path))
    return content


def _read_python(path: Path) -> Any:
    try:
        names = runpy.run_path(str(path))
    except Exception as error:
        raise ConfigError(f"running it failed: {type(error).__name__}: {error}", str(path)) from error
    if "config" not in names:
        raise ConfigError("a Python config defines a dict called 'config'; there is none", str(path))
    try:  # a copy through JSON: the dict must be plain data, as any other config
        return json.loads(json.dumps(names["config"]))
    except TypeError as error:
        raise ConfigError(f"'config' must hold JSON values only: {error}", str(path)) from None


_READERS: dict[str, Callable[[Path], Any]] = {
    ".json": _read_json,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".py": _read_python,
}


# -- environment and numbers ------------------------------------------------------------------------------------------


def expand_env(value: Any, problems: list[Problem], where: str = "") -> Any:
    """``${NAME}`` and ``${NAME:default}`` in every string; a string that is one reference becomes a JSON value."""
    if isinstance(value, dict):
        return type(value)((k, expand_env(v, problems, f"{where}.{k}" if where else k)) for k, v in value.items())
    if isinstance(value, list):
        return [expand_env(v, problems, f"{where}.{i}") for i, v in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def replace(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = os.environ.get(name, default)
        if secret_values.looks_secret(name) and name in os.environ:
            secret_values.remember(name)
        if found is None:
            problems.append(
                Problem(where, f"${{{name}}}: the environment variable is not set; ${{{name}:default}} gives one")
            )
        return found or ""

    expanded, whole = ENV_REFERENCE.sub(replace, value), ENV_REFERENCE.fullmatch(value)
    # a password of digits is no number
    return json_or_text(expanded) if whole and not secret_values.looks_secret(whole[1]) else expanded


def not_finite(value: Any, where: str = "") -> Iterator[tuple[str, float]]:
    """Every NaN and infinity with its place: YAML and Python can say them, and JSON by a number that is too large."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from not_finite(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, float) and not math.isfinite(value):
        yield where, value


# -- the loaded config -----------------------------------------------------------------------------------------------


class Config(DotMap):
    """A DotMap that is read-only and raises on unknown keys: ``config.trainer.kwargs.max_epochs``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["_dynamic"] = False
        super().__init__(*args, **kwargs)

    def __setattr__(self, key: str, value: Any) -> None:
        if key in {"_map", "_dynamic", "_prevent_method_masking", "_key_convert_hook", "_trunc_values"}:
            super().__setattr__(key, value)
        else:
            self._refuse(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self._refuse(key)

    def __delitem__(self, key: str) -> None:
        self._refuse(key)

    __delattr__ = __delitem__

    def update(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse(", ".join(map(str, dict(*args, **kwargs))))

    def __ior__(self, other: Any) -> NoReturn:
        self._refuse(", ".join(map(str, dict(other))))

    def setdefault(self, key: str, default: Any = None) -> NoReturn:
        self._refuse(key)

    def pop(self, key: str, default: Any = None) -> NoReturn:
        self._refuse(key)

    def popitem(self, last: bool = True) -> NoReturn:
        self._refuse("popitem")

    def clear(self) -> NoReturn:
        self._refuse("clear")

    def move_to_end(self, key: str, last: bool = True) -> NoReturn:
        self._refuse(key)

    def _refuse(self, key: str) -> NoReturn:
        raise TypeError(f"config is read-only once loaded ('{key}'); what changes during a run is state")


def freeze(raw: Mapping[str, Any]) -> Config:
    """A validated config as a read-only DotMap."""
    return Config(dict(raw))
