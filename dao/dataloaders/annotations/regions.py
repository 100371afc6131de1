"""Outlines and run lengths to pixels, by COCO's own rules, whatever a file says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

from dao.errors import DataError

Box = tuple[float, float, float, float]
Ring = NDArray[np.float64]
LARGEST_PICTURE = 2**30  # pixels; more than any decoder here reads, so a stated size beyond it is damage
FARTHEST = 1e7  # pixels; an outline beyond it is of no picture
LONGEST = 5_000_000  # pixels of all outlines of an object; COCO's rule keeps some 80 bytes for each
CHARS_OF_A_RUN = 7  # five bits each


def fill(polygons: Sequence[Ring], hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool: the pixels inside any of the outlines (P, 2), by COCO's own rule. Where that has none, because they
    are thinner than a pixel, the pixels that they pass through."""
    packed = _packed(polygons, hw)
    if packed is not None and coco_mask.area(packed):
        return coco_mask.decode(packed).astype(bool)
    return trace(polygons, hw)


def outline_area(polygons: Sequence[Ring], hw: tuple[int, int]) -> int:
    """Pixels of `fill`, without drawing them where it can be helped."""
    packed = _packed(polygons, hw)
    return int(coco_mask.area(packed) if packed is not None else 0) or int(trace(polygons, hw).sum())


def is_thin(polygons: Sequence[Ring], hw: tuple[int, int]) -> bool:
    """Whether outlines enclose no pixel, so that `fill` draws the lines themselves."""
    if all(_surely_filled(ring, hw) for ring in polygons):
        return False
    packed = _packed(polygons, hw)
    return packed is None or not coco_mask.area(packed)


def _surely_filled(ring: Ring, hw: tuple[int, int]) -> bool:
    """A quick yes: inside the picture, and two pixels thick on average."""
    if len(ring) < 3 or ring.min() < 0:
        return False
    xs, ys = np.append(ring[:, 0], ring[0, 0]), np.append(ring[:, 1], ring[0, 1])
    if xs.max() > hw[1] or ys.max() > hw[0]:
        return False
    area = abs(xs[:-1] @ ys[1:] - xs[1:] @ ys[:-1]) / 2
    return bool(area > 2 * (np.abs(xs[1:] - xs[:-1]).sum() + np.abs(ys[1:] - ys[:-1]).sum()))


def _packed(polygons: Sequence[Ring], hw: tuple[int, int]) -> dict[str, Any] | None:
    """The run lengths of outlines; None where none has three points near the picture."""
    rings = [ring for ring in (_near(ring, hw) for ring in polygons if len(ring) >= 3) if len(ring) >= 3]
    if not rings:
        return None
    length = sum(np.abs(np.roll(ring, -1, axis=0) - ring).max(1).sum() for ring in rings)
    if length > LONGEST:
        raise ValueError(f"it is {length:.3g} pixels long, which no picture's is")
    return coco_mask.merge(coco_mask.frPyObjects([ring.reshape(-1).tolist() for ring in rings], *hw))


def _near(ring: Ring, hw: tuple[int, int]) -> Ring:
    """An outline, cut where it goes far beyond the picture: its pixels there would cost memory, and are not seen."""
    reach = 4.0 * max(hw) + 1000
    if np.abs(ring).max() <= reach:
        return ring
    for axis in (0, 1):
        for side in (1.0, -1.0):
            ring = _cut(ring, axis, side, reach)
            if not len(ring):
                return ring
    return ring


def _cut(ring: Ring, axis: int, side: float, reach: float) -> Ring:
    """The part of an outline where ``side * coordinate <= reach`` (Sutherland and Hodgman 1974, one edge)."""
    over = side * ring[:, axis] - reach
    kept: list[Ring] = []
    for here, there, a, b in zip(ring, np.roll(ring, -1, axis=0), over, np.roll(over, -1)):
        if a <= 0:
            kept.append(here)
        if (a <= 0) != (b <= 0):
            kept.append(here + (there - here) * (a / (a - b)))
    return np.array(kept).reshape(-1, 2)


def trace(polygons: Sequence[Ring], hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool: the pixels that outlines pass through, one pixel wide; a line on the far border is the last row's."""
    canvas = np.zeros(hw, np.uint8)
    for ring in polygons:
        points = _near(ring, hw) if len(ring) >= 3 else np.clip(ring, -FARTHEST, FARTHEST)
        if not len(points):
            continue
        corner = np.array([hw[1], hw[0]], np.float64)
        at_border = (points == corner) & (points.max(0) <= corner)
        pixels = np.where(at_border, corner - 1, np.floor(points)).astype(np.int32)
        cv2.polylines(canvas, [pixels.reshape(-1, 1, 2)], True, 1)
    return canvas.astype(bool)


def fill_box(box: Box | None, hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool: the pixels of a box, borders rounded to whole pixels; a box has one pixel at least."""
    canvas = np.zeros(hw, bool)
    if box is not None:
        left, top, right, bottom = (max(0, round(value)) for value in box)
        left, top = min(left, int(box[0])) if right <= left else left, min(top, int(box[1])) if bottom <= top else top
        canvas[max(top, 0) : max(bottom, top + 1), max(left, 0) : max(right, left + 1)] = True
    return canvas


# -- run lengths -----------------------------------------------------------------------------------------------------


def runs_of(rle: dict[str, Any]) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """The lengths of a COCO run-length mask's runs, the first of them background, and its size (height, width).

    Done here, as the library believes what a file says. Raises DataError where they do not fill the picture.
    """
    try:
        height, width = (int(side) for side in rle["size"])
        given = rle["counts"]
        counts = _decompress(given) if isinstance(given, (str, bytes)) else np.array(given, np.int64).reshape(-1)
    except (KeyError, TypeError, ValueError, OverflowError, UnicodeError) as error:
        raise DataError(f"a run-length mask cannot be read: {str(error)[:100]}") from None
    if min(height, width) < 1 or height * width > LARGEST_PICTURE:
        raise DataError(f"a run-length mask cannot be read: its size is {height}x{width} pixels")
    if (counts < 0).any() or (counts > LARGEST_PICTURE).any() or int(counts.sum()) != height * width:
        raise DataError(f"a run-length mask cannot be read: its runs do not fill {height}x{width} pixels")
    return counts, (height, width)


def _decompress(text: str | bytes) -> NDArray[np.int64]:
    """COCO's compressed counts: five bits a character, and from the fourth on the difference to the last but one."""
    data = np.frombuffer(text.encode("ascii") if isinstance(text, str) else text, np.uint8).astype(np.int64) - 48
    if not len(data) or data.min() < 0 or data.max() > 63 or data[-1] & 32:
        raise ValueError("its text is not one of counts")
    ends = np.flatnonzero(data & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() >= CHARS_OF_A_RUN:
        raise ValueError("its text is not one of counts")
    place = np.arange(len(data)) - np.repeat(starts, ends - starts + 1)
    values = np.add.reduceat((data & 31) << (5 * place), starts)
    values = np.where(data[ends] & 16 != 0, values - (1 << 5 * (ends - starts + 1)), values)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def decode_rle(rle: dict[str, Any], hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool of a COCO run-length mask: runs down the columns, the first of them background.

    counts: a list of lengths, or COCO's compressed text. Raises DataError where it does not fill the picture.
    """
    counts, size = runs_of(rle)
    refuse_other_size(size, hw)
    marked = np.arange(len(counts)) % 2 == 1
    return np.repeat(marked, counts).reshape(size[1], size[0]).T


def refuse_other_size(size: tuple[int, int], hw: tuple[int, int]) -> None:
    """Raise DataError for a mask that is not as large as its picture: its pixels, and the box round them, lie elsewhere."""
    if size != tuple(hw):
        raise DataError(
            f"a run-length mask is {size[0]}x{size[1]} pixels (height x width), its picture {hw[0]}x{hw[1]}"
        )


def rle_box(rle: dict[str, Any]) -> Box | None:
    """The box round the pixels of a run-length mask; None where it has none. Raises DataError where it is damaged."""
    counts, (height, _) = runs_of(rle)
    ends = np.cumsum(counts)
    first, last = (ends - counts)[1::2], ends[1::2] - 1
    first, last = first[last >= first], last[last >= first]
    if not len(first):
        return None
    columns, spans = (first // height, last // height), first // height != last // height
    top = 0 if spans.any() else int((first % height).min())
    bottom = height if spans.any() else int((last % height).max()) + 1
    return float(columns[0].min()), float(top), float(columns[1].max()) + 1, float(bottom)


def rle_area(rle: dict[str, Any]) -> int:
    """Pixels of a run-length mask."""
    return int(runs_of(rle)[0][1::2].sum())


def encode_rle(region: NDArray[np.bool_]) -> dict[str, Any]:
    """An (H, W) bool region as a COCO run-length mask, its counts as compressed text."""
    packed = coco_mask.encode(np.asfortranarray(region.astype(np.uint8)))
    return {"size": [int(side) for side in packed["size"]], "counts": packed["counts"].decode("ascii")}


def rle_of_patch(patch: NDArray[np.bool_], corner_xy: tuple[int, int], hw: tuple[int, int]) -> dict[str, Any]:
    """A region that is drawn in a part of the picture, its corner (x, y) there, as a run-length mask of the whole; what
    reaches over the border is cut. The picture itself is never allocated."""
    xs, ys = np.nonzero(patch.T)
    xs, ys = xs + corner_xy[0], ys + corner_xy[1]
    inside = (xs >= 0) & (ys >= 0) & (xs < hw[1]) & (ys < hw[0])
    places = xs[inside].astype(np.int64) * hw[0] + ys[inside]
    starts = places[np.diff(places, prepend=-2) != 1]
    ends = places[np.diff(places, append=np.iinfo(np.int64).max) != 1] + 1
    edges = np.stack([starts, ends], axis=1).reshape(-1)
    counts = np.diff(np.concatenate([[0], edges, [hw[0] * hw[1]]]))
    return {"size": list(hw), "counts": counts.tolist()}
