"""Which mask file belongs to which picture, by their names, and which belong to none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from dao.dataloaders.annotations.finding import same_name
from dao.dataloaders.census import Census
from dao.dataloaders.datasets.folder import find_images

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
