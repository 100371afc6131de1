"""Pictures without labels, for demo: one file, a folder, or a glob."""

from __future__ import annotations

from dao.dataloaders.census import Census
from dao.dataloaders.datasets.base import ImageDataset, Record
from dao.errors import DataError
from dao.images.image_io import IMAGE_EXTENSIONS
from dao.images.listing import nothing_at, pictures_at
from dao.register import Registers


@Registers.datasets.register()
class ImageFiles(ImageDataset):
    """Unlabelled pictures.

    path: a picture, a folder of pictures, or a glob such as ``line3/**/*.png``.
    recursive: search a folder's folders as well.
    classes: a trained model's class names, handed over by the core; they label nothing here.
    """

    labelled = False

    def __init__(self, path: str, recursive: bool = False, classes: list[str] | None = None) -> None:
        census = Census()
        found = pictures_at(path, recursive, census)
        if not found:
            how = '"recursive": true in its kwargs (Demo: -o images.kwargs.recursive=true)'
            raise DataError(
                f"{nothing_at(path, recursive, how)}; expected a picture, a folder or a glob of {', '.join(IMAGE_EXTENSIONS)}"
            )
        super().__init__([Record(name) for name in found], classes or [], origin=path)
        self.census.merge(census)
