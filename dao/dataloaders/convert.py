"""Annotations from one format into another, with their pictures.

    python -m dao.dataloaders.convert --from coco boards/instances_train.json --images boards/images \\
        --to yolo --out boards_yolo --split train

Call it once for each split with the same --out. Boxes are clipped to their pictures, those without an area are named
and left out; everything else that the new format has no place for is said at the end.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dao.dataloaders.annotations.boxes import usable_boxes
from dao.dataloaders.annotations.placing import Place
from dao.dataloaders.annotations.structures import AnnotatedImage, Annotations
from dao.dataloaders.annotations.writers import WRITERS, refuse_other_classes
from dao.dataloaders.census import Census
from dao.dataloaders.datasets.annotated import lost_all, refuse_unknown_classes, without_special
from dao.dataloaders.datasets.base import raise_listed
from dao.errors import AICoreError, ConfigError, DataError, Problem
from dao.files.pipes import until_closed
from dao.images.embedded import is_embedded, unwrapped
from dao.images.image_io import read_hw
from dao.words.counted import counted

FORMATS = tuple(WRITERS)


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dao.dataloaders.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", help="coco: the JSON file; yolo: data.yaml; voc, labelme: the folder of their files")
    add("--from", dest="source_format", required=True, choices=FORMATS)
    add("--images", help="folder of the pictures, where the annotations do not say it")
    add("--to", dest="target_format", required=True, choices=FORMATS)
    add("--out", type=Path, required=True, help="folder of the new set; another split may be in it already")
    add("--split", default="train", help="name of the split (default %(default)s); of yolo also the one that is read")
    add("--pictures", choices=("copy", "link", "none"), default="copy",
        help="copy them into the set (default), link them there, or leave them where they are")  # fmt: skip
    add("--classes", help="names in index order, separated by commas, instead of the source's own order")
    add("--outlines", action="store_true", help="yolo: write outlines, as for segmentation, instead of boxes")
    add("--line-width", type=float, help="labelme: pixels that lines and points are drawn wide; else they are left out")
    add("--one-based", action="store_true", help="voc: boxes count pixels from 1 and include the last one")
    add(
        "--unmarked",
        action="store_true",
        help="voc: take pictures without an XML file too, as ones with nothing in them",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (2 for a user's mistake)."""
    options = parse_args(arguments)
    try:
        sys.stdout.write(convert(options) + "\n")
    except AICoreError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def convert(options: argparse.Namespace) -> str:
    """Read, clean, place the pictures, write; what was done and what was lost, as text."""
    _, pictures_place, filled = WRITERS[options.target_format]
    refuse_bad_options(options, filled)
    found = read(options)
    names = [name.strip() for name in options.classes.split(",")] if options.classes else found.classes
    refuse_unknown_classes(found, names)
    refuse_other_classes(options.target_format, options.out, names)
    cleaned = clean(replace(found, classes=names))
    places = plan(cleaned, options.out / pictures_place.format(split=options.split), options.pictures)
    for image, place in zip(cleaned.images, places, strict=True):
        bring(Path(image.path), place.path, options.pictures)
    lost = write(options, cleaned, places)
    count = sum(len(image.objects) for image in cleaned.images)
    objects = f"{counted(count, 'object')} of {counted(len(names), 'class')}"
    lines = [f"{counted(len(places), 'picture')} with {objects} written to {options.out}"]
    lines += [f"lost: {sentence}" for sentence in lost] or ["nothing was lost"]
    return "\n".join(lines)


def write(options: argparse.Namespace, annotations: Annotations, places: Sequence[Place]) -> list[str]:
    """Write the split; returns what was lost."""
    writer = WRITERS[options.target_format][0]
    more = {"outlines": True} if options.outlines else {}
    return writer(annotations, options.out, options.split, places, **more)


def refuse_bad_options(options: argparse.Namespace, filled: str) -> None:
    """Raise ConfigError for options that cannot be met, before anything is read or written."""
    problems = []
    target = options.out / filled.format(split=options.split)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        problems.append(Problem("--out", f"{target} exists; nothing is written over. Choose another --out or --split"))
    if options.target_format == "yolo" and options.pictures == "none":
        problems.append(
            Problem("--pictures", "a YOLO set finds its labels by its pictures' paths, so it needs them: copy or link")
        )
    if options.line_width is not None and (options.source_format != "labelme" or options.line_width <= 0):
        problems.append(Problem("--line-width", "is for labelme, a number of pixels above 0"))
    if options.outlines and options.target_format != "yolo":
        problems.append(Problem("--outlines", "is for yolo; coco and labelme keep outlines anyhow, voc cannot"))
    if not options.split or set(options.split) & set("/\\ "):
        problems.append(Problem("--split", f"expected a name such as train, got '{options.split}'"))
    if problems:
        raise ConfigError(problems, "the command line")


def read(options: argparse.Namespace) -> Annotations:
    """The annotations of the source."""
    from dao.dataloaders.annotations.coco import read_coco
    from dao.dataloaders.annotations.labelme import read_labelme
    from dao.dataloaders.annotations.voc_xml import read_voc
    from dao.dataloaders.annotations.yolo_txt import read_yolo

    if options.source_format == "coco":
        return read_coco(options.source, options.images)
    if options.source_format == "yolo":
        return read_yolo(options.source, options.split, options.images)
    if options.source_format == "labelme":
        return read_labelme(options.source, options.images, line_width=options.line_width)
    return read_voc(options.source, options.images, one_based=options.one_based, unmarked=options.unmarked)


def clean(annotations: Annotations) -> Annotations:
    """The same with every picture's size known and every box inside its picture. Raises DataError listing pictures
    that cannot be read."""
    census, unreadable, images = Census(), [], []
    census.merge(annotations.census)
    without_special(annotations.images, annotations.classes, census)
    for image in annotations.images:
        hw = image.hw or read_hw(image.path)
        if hw is None or not Path(image.path).is_file():
            unreadable.append(f"{image.path} does not exist or is no picture")
            continue
        sized = AnnotatedImage(image.path, hw, image.objects, image.lost)
        usable = usable_boxes(sized, census)
        if lost_all(len(usable), sized, census):
            continue
        sized.objects = [m if m.box_xyxy is None else replace(m, box_xyxy=box) for m, box in usable]
        images.append(sized)
    raise_listed(annotations.source, unreadable, "Name the folder of the pictures with --images.")
    census.log(annotations.source)
    return replace(annotations, images=images)


def plan(annotations: Annotations, folder: Path, pictures: str) -> list[Place]:
    """Where each picture comes to lie: below ``folder``, in the folders that it had below the pictures' common one."""
    paths = [Path(os.path.abspath(image.path)) for image in annotations.images]  # noqa: PTH100 (links stay links)
    root = Path(os.path.commonpath([path.parent for path in paths]))
    names = [_file_name(path, path.relative_to(root).as_posix()) for path in paths]
    stems = [os.path.splitext(name)[0] for name in names]  # noqa: PTH122 (names, not paths)
    twice = (
        sorted({name for name, stem in zip(names, stems) if stems.count(stem) > 1})
        if len(set(stems)) < len(stems)
        else []
    )
    if twice:
        raise DataError(
            f"{annotations.source}: pictures differ in their ending alone: {', '.join(twice[:10])}; rename them"
        )
    inside = pictures != "none"
    return [Place(folder / name if inside else path, name, inside) for path, name in zip(paths, names)]


def _file_name(path: Path, name: str) -> str:
    """A picture's name in the set; one that is inside a label file gets the ending of what it is."""
    if not is_embedded(path):
        return name
    data = unwrapped(path.read_bytes(), path)
    endings = ((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"), (b"BM", ".bmp"), (b"RIFF", ".webp"))
    ending = next((ending for start, ending in endings if data.startswith(start)), ".tif")
    return os.path.splitext(name)[0] + ending  # noqa: PTH122 (a name, not a path)


def bring(source: Path, target: Path, how: str) -> None:
    """A picture into the set. Raises DataError when the disk refuses, and for a file of that name which is another."""
    if how == "none":
        return
    if target.exists():
        if target.samefile(source) or _same_content(source, target):
            return
        raise DataError(f"{target} exists and is another picture; nothing is written over. Choose another --out")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_embedded(source):
            target.write_bytes(unwrapped(source.read_bytes(), source))
            return
        if how == "link" and _linked(source, target):
            return
        shutil.copyfile(source, target)
    except OSError as error:
        raise DataError(f"{target}: could not be written: {error.strerror or error}") from None


def _same_content(source: Path, target: Path) -> bool:
    if is_embedded(source):
        return unwrapped(source.read_bytes(), source) == target.read_bytes()
    return filecmp.cmp(source, target, shallow=False)


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that knows no links
        return False
    return True


if __name__ == "__main__":
    raise SystemExit(until_closed(main))
