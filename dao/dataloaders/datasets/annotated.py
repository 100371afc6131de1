"""What datasets of boxes and of masks share when they are made of annotation files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dao.dataloaders.annotations.labelme import NOTHING, UNLABELLED
from dao.dataloaders.annotations.structures import AnnotatedImage, Annotations
from dao.dataloaders.census import Census
from dao.dataloaders.datasets.base import raise_listed, some
from dao.errors import DataError, Problem, nearest

LOST_ALL = "pictures left out, as everything marked in them was lost"


def lost_all(kept: int, image: AnnotatedImage, census: Census) -> bool:
    """Whether a picture had objects and none was kept, so that it would pass for a good part; said in the census.

    Call it before the objects that are not kept are taken from the picture.
    """
    if kept or not (image.lost or image.objects):
        return False
    census.omit(LOST_ALL, image.path)
    return True


def refuse_all_lost(source: str, kept: Sequence[int], census: Census) -> None:
    """Raise DataError where a set had objects and none is left. kept: objects of each picture."""
    if LOST_ALL in census.omitted and not any(kept):
        raise_listed(
            source, census.omissions(), "Not one of the marked objects can be taken, so nothing can be learnt."
        )


def without_special(images: Sequence[AnnotatedImage], names: Sequence[str], census: Census) -> None:
    """Take the areas that LabelMe's own labels mark, which are no objects, out of the pictures; said in the census.

    What is unlabelled may be anything: a picture of which nothing else is known shows no good part.
    """
    special = {UNLABELLED, NOTHING} - set(names)
    for image in images:
        for marked in image.objects:
            if marked.label in special:
                census.adjust(f"areas labelled {marked.label}, which boxes have no place for", image.path)
                image.lost += marked.label == UNLABELLED
        image.objects = [marked for marked in image.objects if marked.label not in special]


def refuse_unknown_classes(annotations: Annotations, names: Sequence[str]) -> None:
    """Raise DataError when an object's class is not among ``names``, listing all of them."""
    known = {*names, UNLABELLED, NOTHING}
    unknown: dict[str, int] = {}
    for image in annotations.images:
        for marked in image.objects:
            if marked.label not in known:
                unknown[marked.label] = unknown.get(marked.label, 0) + 1
    if unknown:
        found = some([f"{name} ({count})" for name, count in sorted(unknown.items())])
        raise DataError(
            f"{annotations.source} has objects of classes that are not among the known ones: {found}. "
            f"{nearest(min(unknown), list(names))}. Classes: {', '.join(names)}"
        )


def width_problems(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
    """A width of lines that draws nothing."""
    width = kwargs.get("line_width")
    if width is None or width > 0:
        return []
    return [Problem(f"{where}.line_width", f"expected pixels above 0, got {width}; leave it out to leave lines out")]
