"""Text of anybody's (file names, class names, messages about them) as a terminal and a log may show it."""

from __future__ import annotations

import re

# C0 but tab and newline, DEL and C1, which a terminal obeys; marks that turn the direction of what follows; lone halves of
# characters, as which Python holds the bytes of a name that is no UTF-8
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, bytes_too: bool = True) -> str:
    r"""The text with what a terminal would obey written out: an escape becomes \\x1b, a byte of no UTF-8 \\udcff.

    bytes_too: write out bytes of no UTF-8; where a file holds names as they are, they stay.
    """
    return OBEYED.sub(lambda found: _written_out(found[0], bytes_too), text)


def _written_out(letter: str, bytes_too: bool) -> str:
    if not bytes_too and "\ud800" <= letter <= "\udfff":
        return letter
    return letter.encode("unicode_escape").decode("ascii")


def printable_json(text: str) -> str:
    """JSON text that means the same and holds nothing that a terminal would obey."""
    return OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    r"""As `printable`, with line ends written out as well: a name in a line of a log must not begin another."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")
