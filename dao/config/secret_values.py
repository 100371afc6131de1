"""Values of ``${...}`` that are nobody's business: what is written down of a run names the variable, not its value."""

from __future__ import annotations

import os
import re
from typing import Any

REMEMBERED = (
    "AICORE_SECRET_NAMES"  # of variables that this run's config refers to; processes that it starts inherit them
)
CERTAIN = re.compile(r"TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIAL|APIKEY|ACCESSKEY|PRIVATEKEY", re.I)
AS_A_WORD = re.compile(r"(?:^|_)(?:KEYS?|AUTH|PASS|PAT)(?:_|$)", re.I)
LONG = 6  # characters of a value that is hidden inside other text as well; a shorter one would hide half of a log


def looks_secret(name: str) -> bool:
    """Whether a variable's name says that its value is not to be written down: TOKEN, KEY, PASSWORD, SECRET, ..."""
    return bool(CERTAIN.search(name) or AS_A_WORD.search(name))


def remember(name: str) -> None:
    """A config refers to this variable."""
    names = _names()
    if name not in names:
        os.environ[REMEMBERED] = ",".join([*names, name])


def hidden(text: str) -> str:
    """The text with every such value in it as the reference that it came from, ``${NAME}``."""
    for name in _names():
        value = os.environ.get(name, "")
        if value and (text == value or (len(value) >= LONG and value in text)):
            text = text.replace(value, f"${{{name}}}")
    return text


def hidden_in(value: Any) -> Any:
    """A plain config with `hidden` strings."""
    if isinstance(value, dict):
        return {key: hidden_in(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hidden_in(item) for item in value]
    return hidden(value) if isinstance(value, str) else value


def _names() -> list[str]:
    names = os.environ.get(REMEMBERED, "")
    return names.split(",") if names else []
