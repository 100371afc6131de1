"""Building what a file of anybody's names, without asking anybody on the network for it."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any

from dao.errors import CheckpointError

# how timm, and smp before its own prefix, name a place to fetch a model from
SCHEME = re.compile(
    r"\s*(?P<prefix>tu-)?\s*(?:hf[-_]hub|local-dir|timm|https?|file)\s*:(?:.*[/\\:])?(?P<name>[^/\\]*)", re.I
)
_here = threading.local()  # source: the file that this thread builds from, if any
_hooked = threading.Lock()
_installed = False


def bare_name(name: str) -> str:
    """A model's name without the hub or folder it was fetched from: "hf-hub:timm/resnet18.a1_in1k" is "resnet18.a1_in1k"."""
    found = SCHEME.fullmatch(name)
    return (found["prefix"] or "") + found["name"] if found else name


def names_a_hub(name: str) -> bool:
    """Whether timm would ask a hub for a model of this name, even without weights."""
    return re.match(r"\s*(tu-)?\s*hf[-_]hub\s*:", name, re.I) is not None


@contextlib.contextmanager
def no_network(source: str) -> Iterator[None]:
    """In this thread and block, whatever looks for another machine ends with a CheckpointError naming ``source``."""
    _install()
    before = getattr(_here, "source", None)
    _here.source = source
    try:
        yield
    finally:
        _here.source = before


def _install() -> None:
    global _installed
    with _hooked:
        if not _installed:
            sys.addaudithook(_refuse)
            _installed = True


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    """See sys.addaudithook: called at every event of the interpreter, for good, so it looks at the name first."""
    if not event.startswith("socket.") or event not in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        return
    source = getattr(_here, "source", None)
    if source is not None:
        raise CheckpointError(
            f"{source}: the model it names asks another machine for its weights or settings, and a model from a file is built "
            "offline, always. Train it from a config of your own (pretrained: true), or take a file that holds all of it"
        )
