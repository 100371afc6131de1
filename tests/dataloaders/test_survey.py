"""What is said of a set before it is decoded."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from dao.dataloaders import survey
from dao.dataloaders.check import check_dataset
from dao.dataloaders.datasets.folder import FolderDataset


def deep_set(root, values: np.ndarray, ending: str = ".png") -> FolderDataset:
    (root / "train" / "ok").mkdir(parents=True)
    for i in range(2):
        (root / "train" / "ok" / f"{i}{ending}").write_bytes(cv2.imencode(ending, np.roll(values, i))[1].tobytes())
    data = FolderDataset(str(root))
    survey.look_at(data)
    return data


@pytest.mark.parametrize("ending", [".png", ".tif", ".pgm"])
@pytest.mark.parametrize(
    ("brightest", "bit_depth", "said"),
    [
        (200, 16, '256 times too dark (black); "preprocess": {"bit_depth": 8}'),
        (4095, 16, '16 times too dark; "preprocess": {"bit_depth": 12}'),
        (4095, 12, ""),
        (4095, 10, 'brighter than 1023 is clipped to white; "preprocess": {"bit_depth": 12}'),
        (40000, 16, ""),
        (16383, 16, '4 times too dark; "preprocess": {"bit_depth": 14}'),
        (32767, 16, ""),  # a picture may be half as bright as it could be
    ],
)
def test_16_bit_pictures_of_8_significant_bits_are_warned_of_with_the_setting_that_fits(
    tmp_path, ending, brightest, bit_depth, said
):
    values = np.linspace(0, brightest, 600).astype(np.uint16).reshape(20, 30)
    data = deep_set(tmp_path, values, ending)
    found = survey.depth_problem(data.deep_pictures, bit_depth)
    assert (said in found and f"up to {brightest}" in found) if said else found == ""
    problems = check_dataset(data, "train", bit_depth=bit_depth).problems
    assert [text for text in problems if "significant bits" in text] == ([found] if said else [])


def test_8_bit_pictures_are_not_decoded_for_it(tmp_path, make_picture, monkeypatch):
    make_picture(tmp_path / "train" / "ok" / "1.png")
    data = FolderDataset(str(tmp_path))
    survey.look_at(data)
    assert data.deep_pictures == [] and survey.depth_problem(data.deep_pictures, 16) == ""


def test_files_of_several_pages_are_said(tmp_path, make_picture):
    make_picture(tmp_path / "train" / "ok" / "1.png")
    pages = [Image.fromarray(np.full((4, 5), v, np.uint8)) for v in (10, 90)]
    pages[0].save(tmp_path / "train" / "ok" / "2.tif", save_all=True, append_images=pages[1:])
    data = FolderDataset(str(tmp_path))
    survey.look_at(data)
    (said,) = data.census.adjustments()
    assert said.startswith("1 file of several pages or frames, of which the first alone is read") and "2.tif" in said
    assert data.read(1).image.max() == 10


def test_what_may_be_decoded_at_once_is_weighed_against_the_free_memory(monkeypatch):
    monkeypatch.setenv("AICORE_MAX_PIXELS", str(10**8))
    monkeypatch.setattr(survey.decoding_budget, "places", lambda: 100)  # more than is asked for
    assert survey.memory_note(4, free_bytes=1.3e9) == ""
    said = survey.memory_note(4, free_bytes=1.1e9)  # 4 x 10^8 x 3 bytes
    assert "4 processes" in said and "1.1 GiB at once" in said and "max_pixels" in said
