"""The font to write a text with: DejaVu Sans where it is, else the first of the machine's fonts that has all of it.

DejaVu Sans comes with matplotlib, of which nothing is imported, and with most Linux systems; it covers Latin, Greek, Cyrillic
and more. For what it lacks (Chinese, Japanese, Korean, ...) the machine's own fonts are searched once. A machine without
any has the one that Pillow holds.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from functools import cache, lru_cache
from pathlib import Path

from dao.drawing.font_file import characters
from dao.words.warning import warn

MAX_NAMED = 20  # letters, about, that warnings are given for
ENDINGS = (".ttf", ".otf", ".ttc")
_undrawn: set[str] = set()  # letters that were warned of
# file names of fonts that hold many scripts; tried before all others
_WIDE_FONTS = re.compile(
    r"cjk|wqy|msyh|simhei|simsun|pingfang|hiragino|heiti|song|fallback|malgun|meiryo|unicode", re.I
)
FOLDERS = {
    "win32": ("%WINDIR%/Fonts", "%LOCALAPPDATA%/Microsoft/Windows/Fonts"),
    "darwin": ("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
    "linux": (
        "/usr/share/fonts",
        "/usr/local/share/fonts",
        "~/.fonts",
        "~/.local/share/fonts",
        "/usr/X11R6/lib/X11/fonts",
    ),
}


@lru_cache(maxsize=4096)
def font_path(text: str, bold: bool = False) -> Path | None:
    """The font file to write ``text`` with; None where this machine has none, and Pillow's own is to be taken."""
    usual = _usual_font(bold)
    needed = frozenset(ord(letter) for letter in text if not letter.isspace())
    if usual is not None and needed <= characters(usual):
        return usual
    whole = next((path for path in system_fonts() if needed <= characters(path)), None)
    return whole or _most_of(text, needed, (*([usual] if usual else []), *system_fonts()))


@cache
def _usual_font(bold: bool) -> Path | None:
    """DejaVu Sans of matplotlib, or of the system."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    spec = importlib.util.find_spec("matplotlib")  # looked for, not imported
    if spec is not None and spec.origin is not None:
        shipped = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / name
        if shipped.is_file():
            return shipped
    return next((path for path in system_fonts() if path.name == name), None)


@cache
def system_fonts() -> tuple[Path, ...]:
    """The machine's font files, those of many scripts first."""
    folders = [Path(os.path.expandvars(folder)).expanduser() for folder in FOLDERS.get(sys.platform, FOLDERS["linux"])]
    found = {
        Path(where, name)
        for folder in folders
        for where, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(ENDINGS)
    }
    return tuple(sorted(found, key=lambda path: (not _WIDE_FONTS.search(path.name), path.name)))


def _most_of(text: str, needed: frozenset[int], fonts: tuple[Path, ...]) -> Path | None:
    """The font that has most of a text's letters, the others being shown as boxes; said of the first few texts."""
    best = max(fonts, key=lambda path: len(needed & characters(path)), default=None)
    missing = "".join(chr(code) for code in sorted(needed - (characters(best) if best else frozenset())))
    if not set(missing) <= _undrawn and len(_undrawn) < MAX_NAMED:
        _undrawn.update(missing)
        warn(f"no font on this machine can write {text!r}: {missing} will be shown as boxes on pictures; install one "
             "(Linux: fonts-noto-cjk or fonts-noto-core)")  # fmt: skip
    return best
