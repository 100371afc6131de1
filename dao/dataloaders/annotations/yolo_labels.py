"""Which label file belongs to which picture of a YOLO set, and which belong to none."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from dao.dataloaders.annotations.finding import same_name
from dao.errors import DataError
from dao.images.files import files_below
from dao.images.image_io import is_image_name

FEWEST = 5  # numbers of a line that marks an object


def labels_path(picture: str) -> Path:
    """Where the boxes of a picture are written: its path with the last ``images`` made ``labels``, ending in .txt."""
    parts = list(Path(picture).parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


class LabelFiles:
    """The label files of pictures. They lie in the ``labels`` folder beside ``images``, or beside the pictures; a name
    in another Unicode form, with %20 for a space, or that ends in .TXT is the same name, where no picture has it as
    written."""

    def __init__(self, pictures: Iterable[str]) -> None:
        self.of: dict[str, Path] = {}
        self._taken: set[Path] = set()
        self._matched: set[tuple[str, str]] = set()
        self._texts: dict[str, dict[str, Path]] = {}  # folder -> name without ending -> file
        folders = sorted({os.path.dirname(path) for path in pictures})  # noqa: PTH120
        for folder in folders:
            stems = self._pictures(folder)
            there = labels_path(os.path.join(folder, "x.png")).parent  # noqa: PTH118
            for place in dict.fromkeys([str(there), folder]):
                self._match(folder, stems, place)
        self._folders = folders

    def find(self, picture: str) -> Path | None:
        """A picture's label file; None without one, as of a picture where nothing is marked."""
        return self.of.get(os.path.splitext(picture)[0])  # noqa: PTH122

    def unclaimed(self) -> list[Path]:
        """Label files with an object in them that belong to no picture, of any split: they were lost on the way."""
        texts = [file for folder in self._folders for file in self._texts_of(folder).values()]
        for place in filter(os.path.isdir, self._roots()):
            texts += [file for file in files_below(place, (".txt",)) if not file.name.startswith(".")]
        lost = [file for file in texts if not self._is_claimed(file) and _marks_something(file)]
        return list(dict.fromkeys(lost))

    def _roots(self) -> list[str]:
        """The ``labels`` folders that the pictures' labels lie below."""
        roots = set()
        for folder in self._folders:
            parts = labels_path(os.path.join(folder, "x.png")).parent.parts  # noqa: PTH118
            if str(Path(*parts)) != folder:
                roots.add(str(Path(*parts[: len(parts) - parts[::-1].index("labels")])))
        return sorted(roots)

    def _is_claimed(self, file: Path) -> bool:
        """Whether a picture has the label file, in this split or in another one that lies beside it."""
        if file in self._taken:
            return True
        folder = str(file.parent)
        parts = list(file.parent.parts)
        places = [folder] if folder in self._folders else []
        if "labels" in parts:
            parts[max(place for place, part in enumerate(parts) if part == "labels")] = "images"
            places.append(str(Path(*parts)))
        for place in places:
            if place not in self._folders:
                self._match(place, self._pictures(place), folder)
        return file in self._taken

    def _pictures(self, folder: str) -> list[str]:
        """Names without their endings of the pictures in a folder."""
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208
        except OSError:
            return []
        return sorted({os.path.splitext(name)[0] for name in names if is_image_name(name)})  # noqa: PTH122

    def _match(self, folder: str, stems: list[str], place: str) -> None:
        """Give pictures of a folder that have none yet the label files of a place."""
        if (folder, place) in self._matched:
            return
        self._matched.add((folder, place))
        texts = self._texts_of(place)
        wanting = [stem for stem in stems if os.path.join(folder, stem) not in self.of]  # noqa: PTH118
        for stem in wanting:
            if stem in texts:
                self._take(folder, stem, texts[stem])
        known = set(stems)
        spare: dict[str, list[Path]] = {}
        for stem, file in texts.items():
            if stem not in known and file not in self._taken:
                spare.setdefault(same_name(stem), []).append(file)
        for stem in wanting if spare else ():
            files = [] if stem in texts else spare.get(same_name(stem), [])
            if len(files) > 1:
                raise DataError(f"{', '.join(map(str, files))}: which of them is of the picture {folder}/{stem}?")
            if files:
                self._take(folder, stem, files[0])

    def _take(self, folder: str, stem: str, file: Path) -> None:
        self.of[os.path.join(folder, stem)] = file  # noqa: PTH118
        self._taken.add(file)

    def _texts_of(self, place: str) -> dict[str, Path]:
        if place not in self._texts:
            try:
                names = sorted((name for name in os.listdir(place or ".") if _is_text(name)), reverse=True)  # noqa: PTH208
            except OSError:
                names = []
            # .txt comes after .TXT in this order, so it wins
            self._texts[place] = {os.path.splitext(name)[0]: Path(place, name) for name in reversed(names)}  # noqa: PTH122
        return self._texts[place]


def _is_text(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(".txt")


def _marks_something(file: Path) -> bool:
    """Whether a text's first line is an object: lists of pictures and of classes lie about as well."""
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            fields = next((line.split() for line in opened if line.strip()), [])
    except OSError:
        return False
    return len(fields) >= FEWEST and all(_is_number(field) for field in fields)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
