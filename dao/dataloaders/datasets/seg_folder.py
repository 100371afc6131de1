"""A folder of pictures and a folder of masks, with a list of names for each split: the layout of Pascal VOC."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dao.dataloaders.census import Census
from dao.dataloaders.datasets.base import ImageDataset, once, read_text, refuse_bad_config, some, take_split
from dao.dataloaders.datasets.empty_masks import refuse_unmarked
from dao.dataloaders.datasets.mask_files import MaskFiles
from dao.dataloaders.datasets.masks import MaskFormat
from dao.dataloaders.datasets.segmentation import SegDataset, SegRecord, codec_of, format_problems, with_background
from dao.errors import DataError, Problem, nearest
from dao.images.files import files_below, folders_in
from dao.images.listing import find_images
from dao.register import Registers


@Registers.datasets.register()
class SegFolderDataset(SegDataset):
    """Pictures and masks of the same names in two folders.

    data_dir: holds both; image_dir, mask_dir: their names in it. image_suffix, mask_suffix: what follows a name
        ("_mask.png"); without image_suffix every kind of picture.
    image_set: a split's list of names, ``data_dir/<sets_dir>/<image_set>.txt``; without it all pictures.
    sets_dir: folder of the lists. split_ratio, split, split_seed: divide by ratio instead of by lists.
    mask_format, mask_values: how mask values become classes, see notes.
    mask_per_class: every class has 0/255 masks in a folder of its own, ``mask_dir/<class>/<name><mask_suffix>``; a
        class without a mask for a picture does not occur in it; where masks overlap, the later class is seen. A picture
        with masks in some of the folders that all mark nothing is left out and named (``census``).
    missing_mask: "error", or "background": a picture without a mask file shows a good part.
    classes: names in the order of mask values, the background first.
    """

    def __init__(
        self,
        data_dir: str,
        image_dir: str = "JPEGImages",
        mask_dir: str = "SegmentationClass",
        image_suffix: str | None = None,
        mask_suffix: str = ".png",
        image_set: str | None = None,
        sets_dir: str = "ImageSets/Segmentation",
        split: str | None = None,
        split_ratio: dict[str, float] | None = None,
        split_seed: int = 0,
        mask_format: MaskFormat = "index",
        mask_values: dict[str, str] | None = None,
        mask_per_class: bool = False,
        missing_mask: str = "error",
        classes: list[str] | None = None,
    ) -> None:
        refuse_bad_config(
            type(self), split=split, split_ratio=split_ratio, image_set=image_set, mask_format=mask_format,
            mask_values=mask_values, missing_mask=missing_mask,
        )  # fmt: skip
        root = Path(data_dir)
        images, masks = _folder(root, image_dir, "image_dir"), _folder(root, mask_dir, "mask_dir")
        names = list(classes) if classes else _default_classes(masks, mask_format, mask_values, mask_per_class)
        if mask_per_class:
            _refuse_other_folders(masks, names)
        census = Census()
        pictures = _pictures(images, image_suffix, census)
        stems = _listed(root / sets_dir, image_set, images, pictures) if image_set else list(pictures)
        files = MaskFiles(masks, names[1:] if mask_per_class else [""], mask_suffix, pictures)
        records = []
        for stem in stems:
            record = SegRecord(pictures[stem])
            if mask_per_class:
                found = ((index, files.find(name, stem)) for index, name in enumerate(names) if index)
                record.masks = tuple((index, path) for index, path in found if path)
            else:
                expected = str(masks / f"{stem}{mask_suffix}") if missing_mask == "error" else None
                record.mask = files.find("", stem) or expected
            records.append(record)
        if split_ratio and split:
            records = take_split(records, stems, split_ratio, split, split_seed)
        which = image_set or split
        origin = f"split '{which}' of {root}" if which else str(root)
        codec = codec_of("binary" if mask_per_class else mask_format, mask_values, names)
        records = refuse_unmarked(records, _named(records, names), codec, census, origin)
        super().__init__(records, names, codec, origin)
        self.census.merge(census)
        files.count_unclaimed(self.census)

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Settings that contradict each other."""
        problems = ImageDataset.check_config({"split": None, **kwargs}, where) + format_problems(kwargs, where)
        if kwargs.get("image_set") and kwargs.get("split_ratio"):
            problems.append(Problem(f"{where}.split_ratio", "cannot be given together with image_set"))
        if kwargs.get("split") and not kwargs.get("split_ratio"):
            message = f"'{kwargs['split']}' means nothing without split_ratio; a list of names is called image_set"
            problems.append(Problem(f"{where}.split", message))
        if kwargs.get("missing_mask", "error") not in ("error", "background"):
            problems.append(
                Problem(f"{where}.missing_mask", f"expected error or background, got '{kwargs['missing_mask']}'")
            )
        return problems


def _folder(root: Path, name: str, setting: str) -> Path:
    if not root.is_dir():
        raise DataError(f"data_dir {root} is not a folder (working directory: {Path.cwd()})")
    folder = root / name
    if not folder.is_dir():
        inside = some(folders_in(root)) or "no folders"
        raise DataError(f"{setting}: {root} has no folder '{name}'; it has: {inside}")
    return folder


def _named(records: list[SegRecord], names: list[str]) -> dict[int, tuple[str, list[str]]]:
    """The pictures that lie among the masks of some classes, which names their defects. Who has a file for every class
    writes empty ones too."""
    some_classes = range(1, len(names) - 1)
    return {
        place: (f"{record.path} ({', '.join(names[k] for k, _ in record.masks)})", record.files())
        for place, record in enumerate(records)
        if len(record.masks) in some_classes
    }


def _default_classes(
    masks: Path, mask_format: MaskFormat, mask_values: Mapping[str, str] | None, mask_per_class: bool
) -> list[str]:
    if mask_per_class:
        return with_background(folders_in(masks))
    if mask_format == "binary":
        return with_background(["defect"])
    if mask_values:
        return with_background([name for name in dict.fromkeys(mask_values.values()) if name != "ignore"])
    raise DataError(
        f'{masks}: masks of class indices need the names: "classes": ["background", ...], in the order of the values'
    )


def _refuse_other_folders(masks: Path, names: list[str]) -> None:
    """Raise DataError for folders of masks that are no class's: what they mark would pass for background."""
    unknown = [name for name in folders_in(masks) if name not in names]
    if unknown:
        raise DataError(
            f"{masks} has folders that are not among the classes: {some(unknown)}. {nearest(unknown[0], names)}. "
            "Rename or remove them, or name all classes in 'classes'"
        )


def _pictures(folder: Path, suffix: str | None, census: Census) -> dict[str, str]:
    """Name -> path of every picture. Raises DataError where two have the same name."""
    found: dict[str, str] = {}
    for path in find_images(folder, census=census):
        relative = Path(path).relative_to(folder).as_posix()
        if suffix is not None and not relative.endswith(suffix):
            continue
        stem = relative.removesuffix(suffix) if suffix else relative.rsplit(".", 1)[0]
        if stem in found:
            raise DataError(
                f"{found[stem]} and {path} have the same name, so they would share a mask; set image_suffix"
            )
        found[stem] = path
    if not found:
        what = f"*{suffix}" if suffix else "pictures"
        raise DataError(f"no picture found in {folder} (looked for {what})")
    return found


def _listed(folder: Path, image_set: str, images: Path, pictures: Mapping[str, str]) -> list[str]:
    file = folder / f"{image_set}.txt"
    if folder.is_dir() and not file.is_file():
        known = some([path.stem for path in files_below(folder, (".txt",), recursive=False)]) or "no lists"
        raise DataError(f"{folder} has no list '{image_set}.txt'; it has: {known}")
    stems = [line.split()[0] for line in read_text(file, "list of names", names=True).splitlines() if line.split()]
    missing = [stem for stem in stems if stem not in pictures]
    if missing:
        raise DataError(f"{file} lists pictures that {images} does not have: {some(missing)}")
    return once(stems, file)
