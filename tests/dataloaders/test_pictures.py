"""Pictures beside the batches: each good one once, those of a folder by torch's generator, pixels there and back."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from dao.dataloaders.pictures import TrainingPictures
from dao.errors import DataError
from dao.preprocess import Preprocess
from dao.processes import dist


@pytest.fixture
def folder(tmp_path):
    for i in range(10):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((20, 30, 3), 20 * i, np.uint8))
    return tmp_path


def make(folder, blank=lambda images: images, **preprocess):
    records = [SimpleNamespace(path=str(folder / f"{i}.png"), held_out=i >= 8) for i in (*range(10), 3, 3)]
    settings = {"size": (16, 16), "mean": [0.0] * 3, "std": [1.0] * 3, **preprocess}
    return TrainingPictures(SimpleNamespace(records=records), Preprocess(**settings), blank)


def levels(batches):
    return sorted(round(float(value) * 255) for images in batches for value in images.amax(dim=(1, 2, 3)))


def test_every_picture_that_is_learnt_from_comes_once_on_one_process_or_three(folder, monkeypatch):
    wanted = [20 * i for i in range(8)]
    assert levels(make(folder, resize="stretch").good()) == wanted
    found = []
    monkeypatch.setattr(dist, "world_size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
        found += levels(make(folder, resize="stretch").good())
    assert sorted(found) == wanted


def test_what_cannot_be_read_is_left_out(folder):
    (folder / "3.png").write_bytes(b"no picture")
    assert levels(make(folder, resize="stretch").good()) == [20 * i for i in range(8) if i != 3]
    assert make(folder, resize="stretch").draw(str(folder), 50).shape == (50, 3, 16, 16)


def test_a_folders_pictures_are_drawn_by_torchs_generator(folder):
    first, second = make(folder), make(folder)
    drawn = []
    for pictures in (first, second, first):
        torch.manual_seed(4)
        drawn.append(pictures.draw(str(folder), 20))
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])
    assert len(drawn[0].amax(dim=(1, 2, 3)).unique()) > 4


def test_a_folder_without_pictures_is_said(folder, tmp_path_factory):
    with pytest.raises(DataError, match="penalty_folder"):
        make(folder).draw(str(tmp_path_factory.mktemp("empty")), 1)
    other = tmp_path_factory.mktemp("torn")
    (other / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be read"):
        make(folder).draw(str(other), 1)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_pixels_there_and_back(folder, order):
    pictures = make(folder, mean=[0.4, 0.5, 0.6], std=[0.1, 0.2, 0.3], channel_order=order)
    pixels = torch.rand(2, 3, 16, 16) * 255
    given = pictures.to_input(pixels)
    torch.testing.assert_close(given, pictures.preprocess.normalise(pixels))
    torch.testing.assert_close(pictures.to_pixels(given), pixels, atol=1e-3, rtol=1e-4)


def test_inputs_are_blanked_and_tiles_cover_a_picture(folder):
    assert not make(folder, blank=lambda images: images * 0).draw(str(folder), 3).any()
    assert sum(len(images) for images in make(folder, resize="tile").good()) == 8 * 2 * 2  # 20 x 30 in windows of 16
