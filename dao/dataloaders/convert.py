"""Annotations from one format into another.

    python -m dao.dataloaders.convert --from coco boards/instances_train.json --images boards/images/train \
        --to yolo --out boards_yolo
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from dao.dataloaders.annotations.structures import Annotations
from dao.dataloaders.annotations.writers import WRITERS
from dao.errors import AICoreError, DataError

READERS = ("coco", "voc", "yolo", "labelme")


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one message."""
    parser = argparse.ArgumentParser(
        prog="python -m dao.dataloaders.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", help="the COCO file, the data.yaml, or the folder of XML or JSON files")
    parser.add_argument("--from", dest="reader", choices=READERS, required=True)
    parser.add_argument("--to", dest="writer", choices=tuple(WRITERS), required=True)
    parser.add_argument("--out", type=Path, required=True, help="a new or empty folder")
    parser.add_argument("--images", help="where the pictures lie, if not where the format expects them")
    parser.add_argument("--split", default="train", help="of a data.yaml")
    parser.add_argument("--leave-pictures", action="store_true", help="do not copy pictures; not for yolo")
    args = parser.parse_args(argv)
    try:
        convert(args.reader, args.source, args.images, args.split, args.writer, args.out, not args.leave_pictures)
    except AICoreError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def convert(
    reader: str, source: str, images: str | None, split: str, writer: str, out: Path, copy_pictures: bool = True
) -> None:
    """Read, copy the pictures, write, and say what the new format could not hold. Raises DataError."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not an empty folder; nothing was touched")
    if writer == "yolo" and not copy_pictures:
        raise DataError(
            "yolo finds labels by the place of their pictures (images/ and labels/), so these must be copied"
        )
    found = read(reader, source, images, split)
    missing = [image.path for image in found.images if not Path(image.path).is_file()]
    if missing and copy_pictures:
        raise DataError(
            f"{len(missing)} of {len(found.images)} pictures do not exist, the first is {missing[0]} (--images)"
        )
    names = picture_names(found, out, copy_pictures)
    if copy_pictures:
        for image in found.images:
            target = out / names[image.path]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(image.path, target)
    lost = WRITERS[writer](found, out, names)
    objects = sum(len(image.objects) for image in found.images)
    say(f"{len(found.images)} pictures with {objects} objects in {len(found.classes)} classes -> {out}")
    for what, count in sorted(lost.items()):
        if count:
            say(f"{writer} cannot hold {what}: {count} left out")


def read(reader: str, source: str, images: str | None, split: str) -> Annotations:
    """Annotations in any of the four formats. Raises DataError for files that are not of it."""
    if reader == "coco":
        from dao.dataloaders.annotations.coco import read_coco

        return read_coco(source, images)
    if reader == "voc":
        from dao.dataloaders.annotations.voc_xml import read_voc

        return read_voc(source, images)
    if reader == "yolo":
        from dao.dataloaders.annotations.yolo_txt import read_yolo

        return read_yolo(source, split, images)
    from dao.dataloaders.annotations.labelme import read_labelme

    return read_labelme(source, images)


def picture_names(found: Annotations, out: Path, copied: bool) -> dict[str, str]:
    """Path -> what each picture is called from the new folder: below ``images/`` in the folders it lay in, or where it is."""
    if not copied:
        return {image.path: os.path.relpath(image.path, out).replace(os.sep, "/") for image in found.images}
    root = Path(os.path.commonpath([Path(image.path).resolve().parent for image in found.images]))
    return {
        image.path: (Path("images") / Path(image.path).resolve().relative_to(root)).as_posix() for image in found.images
    }


def say(text: str) -> None:
    """To stdout: it is what was asked for."""
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
