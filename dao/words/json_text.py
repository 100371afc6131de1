"""JSON that people read: a line for every value, and one for a long row of numbers."""

from __future__ import annotations

import json
from typing import Any

LONG = 24  # numbers, from which on a list of them is one line: a matrix is a line a row, which is quicker, too


def json_text(value: Any, margin: str = "") -> str:
    """`json.dumps` with an indent of 2, but for the line breaks in long lists of numbers. margin: of its lines but the first.

    >>> print(json_text({"a": [[1] * 24, [2]]}))
    {
      "a": [
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [
          2
        ]
      ]
    }
    """
    inner = margin + "  "
    if isinstance(value, dict) and value:
        keys = (json.dumps({key: 0}, ensure_ascii=False)[1:-4] for key in value)
        return _within("{}", (f"{key}: {json_text(item, inner)}" for key, item in zip(keys, value.values())), margin)
    if isinstance(value, list | tuple) and value and not _is_long_row(value):
        return _within("[]", (json_text(item, inner) for item in value), margin)
    return json.dumps(value, ensure_ascii=False)


def _is_long_row(value: list[Any] | tuple[Any, ...]) -> bool:
    return len(value) >= LONG and set(map(type, value)) <= {int, float}


def _within(brackets: str, lines: Any, margin: str) -> str:
    return f"{brackets[0]}\n{margin}  " + f",\n{margin}  ".join(lines) + f"\n{margin}{brackets[1]}"
