"""Anti-aliased text on pictures, in any script that a font on this machine knows."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dao.drawing.fonts import font_path
from dao.words.printable import one_line

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Image = NDArray[np.uint8]
Color = tuple[int, int, int]

ELLIPSIS = "…"
FIRST_IDEOGRAPH = 0x2E80  # Chinese, Japanese and Korean letters begin here
MARKS = "_-/.,;:"  # after which a long word may break


@lru_cache(maxsize=256)
def _load(path: Path | None, size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(str(path), size) if path else ImageFont.load_default(size)  # type: ignore[return-value]


def font(text: str, size: int, bold: bool = False) -> FreeTypeFont:
    """Pillow's font object to write ``text`` with, ``size`` pixels high."""
    return _load(font_path(text, bold), max(1, int(size)))


def text_width(text: str, size: int, bold: bool = False) -> int:
    """Pixels that a line of text is wide, as `draw_text` writes it."""
    text = one_line(text)
    return int(np.ceil(font(text, size, bold).getlength(text)))


def fit_text(text: str, width: int, size: int, bold: bool = False) -> str:
    """The text, or as much of its beginning and end as ``width`` pixels hold, with an ellipsis between.

    Class names often differ at their end alone, so both ends stay. What cannot be written (a line end) is written out.
    """
    text = one_line(text)
    if text_width(text, size, bold) <= width:
        return text
    low, high = 0, len(text)  # letters kept: low fit, high do not
    while high - low > 1:
        middle = (low + high) // 2
        if text_width(_shortened(text, middle), size, bold) <= width:
            low = middle
        else:
            high = middle
    return _shortened(text, low)


def wrap_text(text: str, width: int, size: int, bold: bool = False, indent: int = 0) -> list[str]:
    """The text in lines of at most ``width`` pixels, the first ``indent`` less: none of its letters is left out.

    It breaks after a comma, where what stands between two is longer than a line between words, and a word that is longer
    than a line after a mark such as _ or -, else within.
    """
    lines = [""]
    for part in text.replace(", ", ",\n").split("\n"):
        words = part.split()
        room = width - (indent if lines == [""] else 0)
        for piece in [" ".join(words)] if text_width(" ".join(words), size, bold) <= room else words:
            _append(lines, piece, width, size, bold, indent)
    return lines


def _append(lines: list[str], rest: str, width: int, size: int, bold: bool, indent: int) -> None:
    """Write on the last line, or as much of it as there is room for, and what is left on new ones."""
    while rest:
        room = width - (indent if len(lines) == 1 else 0)
        before = f"{lines[-1]} " if lines[-1] else ""
        if text_width(before + rest, size, bold) <= room:
            lines[-1] = before + rest
            return
        better_below = text_width(rest, size, bold) <= width and (before or room < width)
        piece = "" if better_below else _beginning(before, rest, room, size, bold)
        lines[-1] = before + piece if piece else lines[-1]
        rest = rest[len(piece) :]
        lines += [""] if rest else []


def _may_break(letter: str) -> bool:
    """Whether a line may end after it: a mark, or a letter of a script that is written without spaces."""
    return letter in MARKS or ord(letter) >= FIRST_IDEOGRAPH


def _beginning(before: str, word: str, width: int, size: int, bold: bool) -> str:
    """As much of a word as there is room for in a line of ``width`` pixels after what it holds, to its last mark. Without
    a mark nothing; where nothing is before it, a letter at least."""
    kept = sum(text_width(before + word[:end], size, bold) <= width for end in range(1, len(word) + 1))
    after_mark = max((end for end in range(1, kept + 1) if _may_break(word[end - 1])), default=0)
    if after_mark > kept // 3 or before:
        return word[:after_mark]
    return word[: max(1, kept)]


def _shortened(text: str, kept: int) -> str:
    tail = kept // 2
    return text[: kept - tail] + ELLIPSIS + (text[-tail:] if tail else "")


def draw_text(
    canvas: Image, text: str, xy: tuple[int, int], size: int, color: Color, *, anchor: str = "la", bold: bool = False
) -> None:
    """`put_text` into ``canvas`` itself; what lies outside of it is cut off."""
    from PIL import Image as PillowImage
    from PIL import ImageDraw

    if not (text := one_line(text)):  # Pillow measures no line ends
        return
    face = font(text, size, bold)
    left, top, right, bottom = (int(v) for v in face.getbbox(text, anchor=anchor))
    mask = PillowImage.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(mask).text((-left, -top), text, 255, face, anchor)
    x, y = int(xy[0]) + left, int(xy[1]) + top
    y0, y1 = max(y, 0), min(y + mask.height, canvas.shape[0])
    x0, x1 = max(x, 0), min(x + mask.width, canvas.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    cover = np.asarray(mask, np.float32)[y0 - y : y1 - y, x0 - x : x1 - x, None] / 255
    area = canvas[y0:y1, x0:x1]
    area[:] = np.round(area * (1 - cover) + np.array(color, np.float32) * cover).astype(np.uint8)


def put_text(
    image: Image, text: str, xy: tuple[int, int], size: int = 16, color: Color = (30, 30, 30), **style: object
) -> Image:
    """A copy of ``image`` (H, W, 3) with a line of text on it.

    xy: where the anchor lies, pixels; size: of the font, pixels; color: RGB.
    style: ``anchor``, as Pillow has them ("la" left and top of a line, "ls" left and baseline, "mm" middle), ``bold``.
    """
    canvas = np.array(image, copy=True)
    draw_text(canvas, text, xy, size, color, **style)  # type: ignore[arg-type]
    return canvas
