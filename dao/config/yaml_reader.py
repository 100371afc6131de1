"""YAML as data of bounded size: aliases make of a few lines billions of values, and a cycle has no end."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

MOST_VALUES = 200_000  # of a file with its aliases written out: more than any config or list of classes has
DEEPEST = 100  # levels
NOT_YAML = (ValueError, TypeError, RecursionError, OverflowError, AttributeError, KeyError)  # dates, numbers, nesting


def load(text: str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None, as_words: Collection[str] = ()) -> Any:
    """What a YAML text says. pairs: makes a mapping of its keys, as text, and values, in their order; a dict by default.
    as_words: keys whose values are names, every word of them text.

    Raises ValueError, in a line, for what is no YAML, or is more than `MOST_VALUES` values or `DEEPEST` levels.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> Any:
        loader.flatten_mapping(node)
        names = [(_written(key) or str(loader.construct_object(key, deep=True)), value) for key, value in node.value]
        for name, value in names:
            if name in as_words:
                _keep_words(value, set())
        return pairs([(name, loader.construct_object(value, deep=True)) for name, value in names])  # type: ignore[misc]

    if pairs is not None:
        Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    loader = None
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _written_out(node, {}, 1)
        return loader.construct_document(node)
    except _TooMuchError as error:
        raise ValueError(str(error)) from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except NOT_YAML as error:
        raise ValueError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from None
    finally:
        if loader is not None:
            loader.dispose()


class _TooMuchError(Exception):
    """A file that would be more than it looks."""


def _written_out(node: Any, known: dict[int, int], depth: int) -> int:
    """How many values a node is with every alias in it written out.

    known: of nodes that are counted, by id; 0 of those that are being counted, which an alias inside them names again.
    """
    import yaml

    if depth > DEEPEST:
        raise _TooMuchError(f"it is nested more than {DEEPEST} levels deep")
    if known.get(id(node)) == 0:
        raise _TooMuchError("an alias names what it stands in, which has no end")
    if id(node) not in known:
        known[id(node)] = 0
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = [part for one in inner for part in (one if isinstance(one, tuple) else (one,))]
        known[id(node)] = 1 + sum(_written_out(part, known, depth + 1) for part in parts)
        if known[id(node)] > MOST_VALUES:
            raise _TooMuchError(f"with its aliases written out it has more than {MOST_VALUES:,} values")
    return known[id(node)]


def _written(key: Any) -> str:
    """A YAML key as it is written, for keys may be names of classes too; "" for one that is no scalar."""
    return key.value if key.id == "scalar" else ""


def _keep_words(node: Any, seen: set[int]) -> None:
    """Make the words of a YAML node text as written: of class names NO is not False, and 010 is not 8."""
    if id(node) in seen:  # an alias, which may lead in a circle
        return
    seen.add(id(node))
    if node.id == "scalar" and node.tag != "tag:yaml.org,2002:null":
        node.tag = "tag:yaml.org,2002:str"
    for part in node.value if node.id != "scalar" else ():
        for inner in part if isinstance(part, tuple) else (part,):
            _keep_words(inner, seen)
