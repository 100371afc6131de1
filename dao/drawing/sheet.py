"""Contact sheets: many pictures in a grid, each with what is said of it. Pure functions on uint8 RGB arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median

import cv2
import numpy as np

from dao.drawing.pictures import FAINT, INK, PAPER, TRACK, to_rgb
from dao.drawing.plates import Plate
from dao.drawing.text import Color, Image, draw_text, fit_text, text_width, wrap_text

MOST_UNLIKE_SQUARE = 4.0  # width to height of a view, or the other way round; what is longer is shown smaller
NARROWEST = 0.7  # of a tile's side: a cell's width, however narrow its picture is, so that words find room
WIDEST_SHEET, NARROWEST_SHEET = 2000, 480  # pixels; one cell may be wider, and few pictures leave the right side empty
WANTED = 1.4  # width to height of a sheet
STACKED = 2.0  # width to height of a view, from which on views of one part lie below each other
MAX_LEGEND = 40  # colours that are explained


@dataclass(frozen=True, slots=True)
class Cell:
    """One part on a sheet.

    views: beside each other, each a picture (H, W, 3) or grey, uint8, or a few words where there is none to show.
    said: what is said of it, in lines that are wrapped where they are too long and never cut.
    name: the file's, shortened in its middle where it is too long. plate: a word before what is said; None: there is none.
    """

    views: tuple[Image | str, ...]
    said: tuple[str, ...]
    name: str = ""
    plate: Plate | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """Measures of a sheet's cells in pixels: a view's width and height, the cell's width, letters, the space between."""

    view_wh: tuple[int, int]
    width: int
    size: int
    gap: int
    stacked: bool

    @property
    def line(self) -> int:
        """From one line of text to the next."""
        return round(1.35 * self.size)


def contact_sheet(
    cells: Sequence[Cell],
    *,
    columns: int | None = None,
    tile: int = 256,
    title: str = "",
    heads: Sequence[str] = (),
    legend: Mapping[str, Color] | None = None,
) -> Image:
    """The cells in a grid, under a title and a legend of colours.

    Views are shaped as the pictures are, by their median, and cover as much as a square of ``tile`` pixels.
    columns: None makes the sheet somewhat wider than high. heads: what each view of a cell is, written above it.
    Raises ValueError without cells, or where they have not all as many views.
    """
    if not cells or len({len(cell.views) for cell in cells}) != 1:
        raise ValueError(f"expected cells of as many views, and at least one; got {[len(c.views) for c in cells]}")
    frame = frame_of(cells, tile)
    blocks = [_block(cell, frame, heads) for cell in cells]
    columns = min(columns or _columns(blocks, frame), len(cells))
    rows = [blocks[i : i + columns] for i in range(0, len(blocks), columns)]
    width = max(frame.gap + columns * (frame.width + frame.gap), NARROWEST_SHEET if title or legend else 0)
    heading = _heading(title, legend or {}, width, frame)
    highest = [max(block.shape[0] for block in row) for row in rows]
    canvas = np.full((heading.shape[0] + sum(highest), width, 3), PAPER, np.uint8)
    canvas[: heading.shape[0]] = heading
    y = heading.shape[0]
    for row, high in zip(rows, highest, strict=True):
        for number, block in enumerate(row):
            x = frame.gap + number * (frame.width + frame.gap)
            canvas[y : y + block.shape[0], x : x + frame.width] = block
        y += high
    return canvas


# -- measures ----------------------------------------------------------------------------------------------------------


def frame_of(cells: Sequence[Cell], tile: int) -> Frame:
    """The measures that suit these pictures."""
    shapes = [view.shape for cell in cells for view in cell.views if not isinstance(view, str)]
    ratio = median(shape[1] / shape[0] for shape in shapes) if shapes else 1.0
    bounded = min(max(ratio, 1 / MOST_UNLIKE_SQUARE), MOST_UNLIKE_SQUARE)
    width = max(1, round(tile * math.sqrt(bounded)))
    highest = max((math.ceil(width * shape[0] / shape[1]) for shape in shapes), default=width)
    view = width, max(1, min(round(tile / math.sqrt(bounded)), highest))
    gap, many = max(6, tile // 20), len(cells[0].views)
    stacked = ratio > STACKED and many > 1
    wide = view[0] if stacked else many * view[0] + (many - 1) * between(gap)
    return Frame(view, max(wide, round(NARROWEST * tile)), max(12, round(tile / 17)), gap, stacked)


def between(gap: int) -> int:
    """Pixels from one view of a part to the next, so much less than to another part that they are seen as one."""
    return max(3, gap // 3)


def _columns(blocks: Sequence[Image], frame: Frame) -> int:
    """As many as make the sheet somewhat wider than high, the last row as full as can be."""
    high = max(block.shape[0] for block in blocks)
    most = max(1, (WIDEST_SHEET - frame.gap) // (frame.width + frame.gap))
    wished = min(most, math.ceil(math.sqrt(WANTED * len(blocks) * high / (frame.width + frame.gap))))
    rows = math.ceil(len(blocks) / wished)
    return math.ceil(len(blocks) / rows)


# -- one cell ----------------------------------------------------------------------------------------------------------


def _block(cell: Cell, frame: Frame, heads: Sequence[str]) -> Image:
    """The cell's views with their heads, and what is said below them, as wide as the frame says."""
    pictures = [None if isinstance(view, str) else _fitted(view, frame) for view in cell.views]
    high = max((picture.shape[0] for picture in pictures if picture is not None), default=frame.view_wh[1])
    views = [
        _note(str(view), high, frame) if picture is None else picture
        for view, picture in zip(cell.views, pictures, strict=True)
    ]
    named = zip(views, heads or [""] * len(views), strict=True)
    return np.concatenate([_together([_headed(view, head, frame) for view, head in named], frame), _words(cell, frame)])


def _headed(view: Image, head: str, frame: Frame) -> Image:
    if not head:
        return view
    band = np.full((frame.line, view.shape[1], 3), PAPER, np.uint8)
    draw_text(band, fit_text(head, view.shape[1], frame.size - 1), (0, frame.size), frame.size - 1, FAINT, anchor="ls")
    return np.concatenate([band, view])


def _fitted(view: Image, frame: Frame) -> Image:
    """A picture as wide as the frame says and as high as it is then, but no higher, else between two grey bands."""
    width, height = frame.view_wh
    rgb = to_rgb(view)
    scale = min(width / rgb.shape[1], height / rgb.shape[0])
    size = min(width, max(1, round(rgb.shape[1] * scale))), min(height, max(1, round(rgb.shape[0] * scale)))
    if max(abs(size[0] - rgb.shape[1]), abs(size[1] - rgb.shape[0])) > 1:
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    rgb = rgb[:height, :width]
    canvas = np.full((rgb.shape[0], width, 3), TRACK, np.uint8)
    left = (width - rgb.shape[1]) // 2
    canvas[:, left : left + rgb.shape[1]] = rgb
    return canvas


def _note(text: str, height: int, frame: Frame) -> Image:
    """A few words in the middle of a grey field."""
    width = frame.view_wh[0]
    canvas = np.full((height, width, 3), TRACK, np.uint8)
    lines = wrap_text(text, width - frame.size, frame.size)
    top = (height - len(lines) * frame.line) // 2
    for number, line in enumerate(lines):
        middle = (width // 2, top + number * frame.line + frame.line // 2)
        draw_text(canvas, line, middle, frame.size, FAINT, anchor="mm")
    return canvas


def _together(views: Sequence[Image], frame: Frame) -> Image:
    """Views beside each other, or below; grey where one is lower than its neighbours."""
    gap, left = between(frame.gap), 0
    if frame.stacked:
        canvas = np.full((sum(view.shape[0] + gap for view in views) - gap, frame.width, 3), PAPER, np.uint8)
        for view in views:
            canvas[left : left + view.shape[0], : view.shape[1]] = view
            left += view.shape[0] + gap
        return canvas
    canvas = np.full((max(view.shape[0] for view in views), frame.width, 3), PAPER, np.uint8)
    for view in views:
        canvas[: view.shape[0], left : left + view.shape[1]] = view[: canvas.shape[0]]
        left += view.shape[1] + gap
    return canvas


def caption_lines(cell: Cell, frame: Frame) -> list[str]:
    """The lines below a cell: all that is said, and the file's name in one."""
    lines: list[str] = []
    for number, text in enumerate(cell.said):
        lines += wrap_text(text, frame.width, frame.size, indent=_plate_width(cell, frame) if number == 0 else 0)
    return lines + ([fit_text(cell.name, frame.width, frame.size)] if cell.name else [])


def _words(cell: Cell, frame: Frame) -> Image:
    lines = caption_lines(cell, frame)
    canvas = np.full((frame.gap // 2 + len(lines) * frame.line + 2 * frame.gap, frame.width, 3), PAPER, np.uint8)
    first = frame.gap // 2 + frame.size
    if cell.plate is not None:
        _draw_plate(canvas, cell.plate, first, frame.size)
    for number, text in enumerate(lines):
        ink = FAINT if cell.name and number == len(lines) - 1 else INK
        left = _plate_width(cell, frame) if number == 0 else 0
        draw_text(canvas, text, (left, first + number * frame.line), frame.size, ink, anchor="ls")
    return canvas


def _plate_width(cell: Cell, frame: Frame) -> int:
    """Pixels that the plate takes before the first line."""
    return 0 if cell.plate is None else text_width(cell.plate.word, frame.size, bold=True) + frame.size


def _draw_plate(canvas: Image, plate: Plate, baseline: int, size: int) -> None:
    right = text_width(plate.word, size, bold=True) + size // 2
    cv2.rectangle(canvas, (0, baseline - size), (right, baseline + size // 5), plate.color, -1 if plate.full else 1)
    ink = PAPER if plate.full else plate.color
    draw_text(canvas, plate.word, (size // 4, baseline), size, ink, anchor="ls", bold=True)


# -- what stands above all ---------------------------------------------------------------------------------------------


def _heading(title: str, legend: Mapping[str, Color], width: int, frame: Frame) -> Image:
    """Title and legend in as many lines as they need; nothing but a margin without both."""
    room, size = width - 2 * frame.gap, frame.size + 2
    step = round(1.4 * size)
    lines = wrap_text(title, room, size, bold=True) if title else []
    rows = _legend_rows(legend, room, frame.size)
    height = frame.gap + len(lines) * step + len(rows) * step + (frame.gap if lines or rows else 0)
    canvas = np.full((height, width, 3), PAPER, np.uint8)
    for number, text in enumerate(lines):
        draw_text(canvas, text, (frame.gap, frame.gap + number * step + size), size, INK, anchor="ls", bold=True)
    for number, row in enumerate(rows):
        baseline = frame.gap + (len(lines) + number) * step + size
        for x, name, color in row:
            if color is not None:
                canvas[baseline - frame.size : baseline, frame.gap + x : frame.gap + x + frame.size] = color
            left = frame.gap + x + (round(1.4 * frame.size) if color is not None else 0)
            draw_text(canvas, fit_text(name, room, frame.size), (left, baseline), frame.size, INK, anchor="ls")
    return canvas


def _legend_rows(legend: Mapping[str, Color], room: int, size: int) -> list[list[tuple[int, str, Color | None]]]:
    """(left, name, colour) of each row; the last entry counts those that are left out."""
    entries: list[tuple[str, Color | None]] = list(islice(legend.items(), MAX_LEGEND))
    if len(legend) > MAX_LEGEND:
        entries.append((f"and {len(legend) - MAX_LEGEND} more", None))
    rows: list[list[tuple[int, str, Color | None]]] = []
    x = room
    for name, color in entries:
        wide = text_width(name, size) + round(2.6 * size)
        if not rows or x + wide > room:
            rows.append([])
            x = 0
        rows[-1].append((x, name, color))
        x += wide
    return rows
