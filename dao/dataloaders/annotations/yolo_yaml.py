"""data.yaml, in which YOLO names classes and folders. Every word of it is text: NO is a class, not False, and 010 no 8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dao.dataloaders.datasets.base import read_text
from dao.dataloaders.guard import reading
from dao.errors import DataError

MOST_ALIASES = 100  # an alias repeats a part; a few lines of them, nested, make gigabytes


class _TextLoader(yaml.BaseLoader):
    """Scalars as they are written; a key twice is an error, and so are aliases without end."""

    aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Counts aliases."""
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > MOST_ALIASES:
                raise ValueError(f"it has more than {MOST_ALIASES} aliases")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuses a key that stands twice."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({key for key in keys if keys.count(key) > 1}) if len(set(keys)) < len(keys) else []
        if twice:
            raise ValueError(f"the key '{twice[0][:60]}' stands twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def read_data_yaml(file: Path) -> dict[str, Any]:
    """The content of a data.yaml, every scalar as the text that is written. Raises DataError where it is no YAML object."""
    text = read_text(file, "data.yaml")
    with reading(file, "data.yaml"):
        try:
            content = yaml.load(text, Loader=_TextLoader)
        except yaml.YAMLError as error:
            raise DataError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DataError(f"{file} is not a data.yaml: expected keys such as names, train, val")
    return content


def read_names(file: Path, content: dict[str, Any]) -> dict[int, str]:
    """Class names by their number; numbers may have holes."""
    given = content.get("names")
    if isinstance(given, list):
        given = {str(number): name for number, name in enumerate(given)}
    numbers_fit = isinstance(given, dict) and all(isinstance(key, str) and _is_number(key) for key in given)
    if not given or not numbers_fit or not all(isinstance(name, str) and name for name in given.values()):
        shown = str(given)[:200] if isinstance(given, str) else f"a {type(given).__name__} with something else in it"
        raise DataError(f"{file}: 'names' must be a list of class names, or numbers with names; got {shown}")
    names = {int(key): given[key] for key in sorted(given, key=int)}
    if len(names) < len(given):
        raise DataError(f"{file}: two names have one number")
    stated = content.get("nc")
    if stated not in (None, "") and str(stated).strip() != str(len(names)):
        raise DataError(f"{file}: nc is {stated}, but there are {len(names)} names: {', '.join(names.values())}"[:500])
    every = list(names.values())
    twice = sorted({name for name in every if every.count(name) > 1}) if len(set(every)) < len(every) else []
    if twice:
        raise DataError(f"{file}: classes share a name: {', '.join(twice)}")
    return names


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
