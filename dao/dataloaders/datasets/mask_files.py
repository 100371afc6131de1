"""Which mask file belongs to which picture, by their names, and which belong to none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from dao.dataloaders.annotations.finding import same_name
from dao.dataloaders.census import Census
from dao.errors import DataError
from dao.images.files import folders_in
from dao.images.listing import find_images

UNCLAIMED = "mask files that belong to no picture"


class MaskFiles:
    """The masks in a folder, or in a folder of it for each class. A name in another Unicode form, or with %20 for a
    space, is the same name, where no picture has it as written.

    folders: names of the classes' folders, "" for the folder itself. suffix: what follows a picture's name.
    stems: names of all pictures, of every split.
    """

    def __init__(self, root: Path, folders: Sequence[str], suffix: str, stems: Iterable[str]) -> None:
        self._found = {name: _masks(root / name, suffix) for name in folders}
        known = list(stems)
        written = set(known)
        self._alias: dict[str, dict[str, str]] = {}
        self._unclaimed: list[str] = []
        for name, masks in self._found.items():
            spare = {stem: same_name(stem) for stem in masks if stem not in written}
            wanted = {same_name(stem): stem for stem in known if stem not in masks} if spare else {}
            self._alias[name] = {wanted[form]: stem for stem, form in spare.items() if form in wanted}
            self._unclaimed += [masks[stem] for stem, form in spare.items() if form not in wanted]

    def find(self, folder: str, stem: str) -> str | None:
        """The mask of a picture, by the picture's name; None without one."""
        masks = self._found.get(folder, {})
        return masks.get(stem) or masks.get(self._alias.get(folder, {}).get(stem, ""))

    def count_unclaimed(self, census: Census) -> None:
        """Name the masks that no picture has: what they mark was lost on the way."""
        for path in self._unclaimed:
            census.omit(UNCLAIMED, path)


def _masks(folder: Path, suffix: str) -> dict[str, str]:
    """Name without the suffix -> path."""
    if not folder.is_dir():
        return {}
    paths = ((Path(path).relative_to(folder).as_posix(), path) for path in find_images(folder))
    return {name.removesuffix(suffix): path for name, path in paths if name.endswith(suffix)}


def match_masks(folder: Path, root: Path, pictures: Sequence[str], census: Census) -> dict[str, str]:
    """Picture -> its mask, of pictures below ``root`` and masks in the same places below ``folder``.

    "_mask" and "_gt" at the end of a name belong to the mask. A mask whose folders differ is taken where no other mask and
    no other picture has its name. Masks that belong to no picture are named. Raises DataError for two of one picture.
    """
    masks: dict[str, str] = {}
    for path in find_images(folder) if folder.is_dir() else ():
        name = same_name(_below(path, folder).removesuffix("_mask").removesuffix("_gt"))
        if name in masks:
            raise DataError(f"{masks[name]} and {path} are masks of one picture; which of them is meant?")
        masks[name] = path
    names = {path: same_name(_below(path, root)) for path in pictures}
    found = {path: masks[name] for path, name in names.items() if name in masks}
    taken = set(names.values())
    masks = {name: path for name, path in masks.items() if name not in taken}
    by_stem: dict[str, list[str]] = {}
    for name in masks:
        by_stem.setdefault(name.rsplit("/", 1)[-1], []).append(name)
    stems = Counter(name.rsplit("/", 1)[-1] for name in names.values())
    for path, name in names.items():
        stem = name.rsplit("/", 1)[-1]
        if path not in found and stems[stem] == 1 and len(by_stem.get(stem, ())) == 1:
            found[path] = masks.pop(by_stem[stem][0])
    for path in masks.values():
        census.omit(UNCLAIMED, path)
    return found


def count_other_folders(folder: Path, known: Sequence[str], census: Census) -> None:
    """Name the masks that lie in folders of no kind that there are pictures of."""
    for name in folders_in(folder) if folder.is_dir() else ():
        if name not in known:
            match_masks(folder / name, folder / name, [], census)


def _below(path: str, folder: Path) -> str:
    return Path(path).relative_to(folder).with_suffix("").as_posix()
