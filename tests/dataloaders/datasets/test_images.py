from __future__ import annotations

import glob

import pytest

from dao.dataloaders.datasets.images import ImageFiles
from dao.errors import DataError
from dao.images.listing import pictures_at


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
    with pytest.raises(
        DataError, match=r'its folders hold \d+ pictures: "recursive": true.*; expected a picture, a folder or'
    ):
        ImageFiles(str(folder_set / "val"))
    with pytest.raises(DataError, match=r"no picture found at .*\*\.jpg"):
        ImageFiles(str(folder_set / "*.jpg"))


@pytest.mark.parametrize(
    "pattern", ["**/a?b.png", "**/a[!1]b.png", "**/[a.]?b.png", "x/**/[!x]?b*.png", "**/?/*.png", "**/*[?]*"]
)
def test_a_pattern_of_a_name_reaches_into_no_folder_as_pythons_own_glob(tmp_path, make_picture, pattern):
    for name in ("x/a/b.png", "y/a1b.png", "x/y/a2b.png", "x/a2b.c.png", "a.b.png", "a?b.png"):
        make_picture(tmp_path / name, (8, 8))
    found = pictures_at(str(tmp_path / pattern))
    assert found == sorted(glob.glob(str(tmp_path / pattern), recursive=True))  # noqa: PTH207
