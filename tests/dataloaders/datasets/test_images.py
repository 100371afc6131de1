from __future__ import annotations

import pytest

from dao.dataloaders.datasets.images import ImageFiles
from dao.errors import DataError


@pytest.mark.parametrize(
    ("path", "recursive", "count"),
    [
        ("val/dent/1.png", False, 1),
        ("val/dent", False, 3),
        ("val", True, 3),
        ("", True, 16),
        ("train/*/0.png", False, 2),
        ("**/*.png", False, 16),
    ],
)
def test_a_picture_a_folder_a_glob(folder_set, path, recursive, count):
    dataset = ImageFiles(str(folder_set / path), recursive)
    assert len(dataset) == count
    assert dataset.read(0).label is None
    assert [r.path for r in dataset.records] == sorted(r.path for r in dataset.records)


def test_nothing_found_says_what_was_expected(folder_set):
    with pytest.raises(DataError, match=r'expected a picture, a folder or a glob.*"recursive": true'):
        ImageFiles(str(folder_set / "val"))
    with pytest.raises(DataError, match=r"no picture found at .*\*\.jpg"):
        ImageFiles(str(folder_set / "*.jpg"))
