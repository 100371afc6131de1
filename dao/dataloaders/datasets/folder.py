"""Pictures in one folder per class."""

from __future__ import annotations

from pathlib import Path

from dao.dataloaders.census import Census
from dao.dataloaders.datasets.base import ALL, ImageDataset, Record, refuse_bad_config, some, take_split
from dao.errors import DataError, nearest
from dao.images.files import folders_in, place_of
from dao.images.image_io import IMAGE_EXTENSIONS
from dao.images.listing import find_images
from dao.register import Registers


@Registers.datasets.register()
class FolderDataset(ImageDataset):
    """``data_dir/<split>/<class>/*``; or ``data_dir/<class>/*``, divided by ``split_ratio``.

    data_dir: folder of the splits, or of the classes when split_ratio is given.
    split: which split to take; "all" for every picture.
    split_ratio: e.g. {"train": 0.8, "val": 0.2}; stratified by class, a function of file names and seed.
    split_seed: another seed divides differently.
    classes: names in index order; without it the folder names, sorted (those of ``train`` where there is one,
        so that a val split which lacks a class keeps the numbering).
    extensions: of the files that are pictures; without it jpg, jpeg, jpe, jfif, png, bmp, dib, tif, tiff, webp,
        gif, jp2, pgm, ppm, pbm, pnm.
    Class folders are searched recursively; hidden files are ignored.
    """

    def __init__(
        self,
        data_dir: str,
        split: str = "train",
        split_ratio: dict[str, float] | None = None,
        split_seed: int = 0,
        classes: list[str] | None = None,
        extensions: list[str] | None = None,
    ) -> None:
        refuse_bad_config(type(self), split=split, split_ratio=split_ratio)
        suffixes = tuple("." + e.lower().lstrip(".") for e in extensions) if extensions else IMAGE_EXTENSIONS
        root = Path(data_dir)
        folder = _class_root(root, split, split_ratio, suffixes)
        found = folders_in(folder)
        names = list(classes) if classes else _default_classes(root, found, split_ratio)
        _refuse_unknown(folder, found, names)
        _refuse_strays(folder, suffixes)
        census = Census()
        # a link from one class into another would give its pictures two labels
        entered = {place for name in found if (place := place_of(folder / name))}
        records = [
            Record(path, label=label)
            for label, name in enumerate(names)
            if name in found
            for path in find_images(folder / name, suffixes, census=census, entered=entered)
        ]
        origin = str(folder)
        if not records:
            raise DataError(f"no picture found in {folder} (expected {folder}/<class>/*{{{','.join(suffixes)}}})")
        if split_ratio:
            keys = [Path(record.path).relative_to(folder).as_posix() for record in records]
            records = take_split(records, keys, split_ratio, split, split_seed)
            origin = f"split '{split}' of {folder}"
        super().__init__(records, names, origin=origin)
        self.census.merge(census)


def _class_root(root: Path, split: str, split_ratio: dict[str, float] | None, suffixes: tuple[str, ...]) -> Path:
    if not root.is_dir():
        raise DataError(f"data_dir {root} is not a folder (working directory: {Path.cwd()})")
    inside = folders_in(root)
    if split_ratio is None:
        if split in inside:
            return root / split
        if split == ALL:
            return root
        holds_pictures = any(True for name in inside for _ in find_images(root / name, suffixes, recursive=False))
        hint = (
            "its folders hold pictures, so they look like classes: divide them by split_ratio.train=0.8 split_ratio.val=0.2"
            if holds_pictures
            else f"expected {root / split}/<class>/<pictures>{_divided(root, inside)}"
        )
        raise DataError(f"{root} has no folder '{split}'; it has: {some(inside) or 'no folders'}; {hint}")
    looks_split = [name for name in inside if name in split_ratio]
    if looks_split:
        raise DataError(
            f"{root} is divided already: it has folders named {some(looks_split)}, as split_ratio does. "
            "Leave split_ratio out, or let data_dir be the folder of the classes"
        )
    return root


def _divided(root: Path, inside: list[str]) -> str:
    """How a set without a folder for each split can be divided; "" where there is no folder to divide."""
    if not inside:
        return ""
    whole = root / ("train" if "train" in inside else inside[0])
    return (
        f'. To divide one folder of classes instead: data_dir "{whole}" with split_ratio.train=0.8 split_ratio.val=0.2'
    )


def _default_classes(root: Path, found: list[str], split_ratio: dict[str, float] | None) -> list[str]:
    train = root / "train"
    return folders_in(train) if split_ratio is None and train.is_dir() else found


def _refuse_unknown(folder: Path, found: list[str], classes: list[str]) -> None:
    if not found:
        raise DataError(f"{folder} has no class folders; expected {folder}/<class>/<pictures>")
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise DataError(
            f"{folder} has folders that are not among the classes: {some(unknown)}. {nearest(unknown[0], classes)}. "
            "Rename or remove them, or name all classes in 'classes'"
        )


def _refuse_strays(folder: Path, suffixes: tuple[str, ...]) -> None:
    strays = [Path(path).name for path in find_images(folder, suffixes, recursive=False)]
    if strays:
        raise DataError(f"{folder}: pictures outside a class folder have no label: {some(strays)}. Move them into one")
