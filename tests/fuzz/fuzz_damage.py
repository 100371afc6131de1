"""Damaged copies of a file, each a function of the random numbers given."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

DEEP = "@deep@"  # stands for lists in lists, which Python itself cannot write that deep
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**40, 1e308, -1e308, float("nan"), float("inf"), 0.5, "", " ", "x",
    "-1", "1e999", "None", "\u0000", "\ud800", "../../x", "/dev/zero", "/proc/self/mem", "x" * 5000, [], {}, [[]], [None], {"": None},
    [[[[[]]]]], "\U0001f600", "\u202e", "=cmd()", [1] * 1000,
)  # fmt: skip


def damage(whole: bytes, rng: random.Random, suffix: str) -> bytes:
    """A damaged copy; JSON is damaged as JSON most of the time."""
    if suffix == ".json" and rng.random() < 0.7:
        content = json.loads(whole)
        for _ in range(rng.randint(1, 3)):
            content = damage_json(content, rng)
        depth = rng.choice((5, 200, 5000, 100_000))
        text = json.dumps(content).replace(json.dumps(DEEP), "[" * depth + "]" * depth)
        return text.encode("utf-8", "surrogatepass")
    data = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        damage_bytes(data, rng)
    return bytes(data)


def damage_bytes(data: bytearray, rng: random.Random) -> None:
    """One change, in place."""
    if not data:
        return
    place = rng.randrange(len(data))
    length = min(len(data) - place, rng.choice((1, 2, 4, 8, 100)))
    kind = rng.randrange(6)
    if kind == 0:
        data[place] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[place:]
    elif kind == 2:
        del data[place : place + length]
    elif kind == 3:
        data[place:place] = data[place : place + length] * rng.choice((1, 2, 50))
    elif kind == 4:
        data[place : place + length] = rng.randbytes(length)
    else:
        data[place : place + length] = (
            rng.choice((b"\x00", b"\xff", b"9", b"-", b"\n", b",", b'"', b"[", b"\x80")) * length
        )


def damage_json(content: Any, rng: random.Random) -> Any:
    """One value replaced by an odd one, one key dropped or renamed, or one entry given twice; sometimes very deep."""
    places = list(walk(content, ()))
    path = rng.choice(places)
    if not path:
        return copy.deepcopy(rng.choice(ODD)) if rng.random() < 0.1 else content
    node = content
    for key in path[:-1]:
        node = node[key]
    kind = rng.randrange(8)
    if kind == 0 and isinstance(node, dict):
        del node[path[-1]]
    elif kind == 1 and isinstance(node, list):
        node.append(node[path[-1]])
    elif kind == 2 and isinstance(node, dict):
        node[str(rng.choice(ODD))[:50]] = node.pop(path[-1])
    elif kind == 3:
        node[path[-1]] = DEEP
    else:
        node[path[-1]] = copy.deepcopy(rng.choice(ODD))
    return content


def walk(node: Any, path: tuple[Any, ...]) -> Any:
    """The path of every value."""
    yield path
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield from walk(value, (*path, key))
