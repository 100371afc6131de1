"""Text of anybody's (file names, class names, messages about them) as a terminal and a log may show it."""

from __future__ import annotations

import re

# C0 but tab and newline, DEL and C1, which a terminal obeys; marks that turn the direction of what follows; lone halves of
# characters, as which Python holds the bytes of a name that is no UTF-8
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with what a terminal would obey written out: an escape becomes \\x1b, a byte of no UTF-8 \\udcff."""
    return OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: str) -> str:
    r"""As `printable`, with line ends written out as well: a name in a line of a log must not begin another."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")
