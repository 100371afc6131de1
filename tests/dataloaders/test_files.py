"""Readers among what a disk may hold beside pictures. Every test would hang, not fail, where the guard is missing."""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from dao.dataloaders.annotations.labelme import read_labelme
from dao.dataloaders.annotations.voc_xml import read_voc
from dao.dataloaders.census import Census
from dao.dataloaders.datasets.base import read_text
from dao.dataloaders.datasets.folder import FolderDataset
from dao.dataloaders.datasets.images import ImageFiles
from dao.dataloaders.datasets.masks import read_raw_mask
from dao.dataloaders.datasets.segmentation import pixels_of
from dao.errors import DataError
from dao.images import files
from dao.images.image_io import read_hw, read_image
from dao.images.listing import find_images


@pytest.fixture(autouse=True)
def within_20_seconds():
    """A test that waits for a pipe is ended, and says so."""

    def late(*_):
        raise TimeoutError("a reader hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def names(listing, root) -> list[str]:
    return [str(Path(where, name).relative_to(root)) for where, _, found in listing for name in found]


def test_two_links_in_a_circle_show_every_file_once_and_are_said_once(tmp_path):
    touch(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    census = Census()
    found = names(files.walk(tmp_path, census=census), tmp_path)
    assert len(found) == 2 and {Path(name).name for name in found} == {"1.png", "2.png"}
    assert len(census.adjusted) == 1 and "links lead to once more" in census.adjustments()[0]


def test_a_real_folder_is_taken_before_a_link_to_it(tmp_path):
    touch(tmp_path, "z/1.png")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    assert names(files.walk(tmp_path), tmp_path) == ["z/1.png"]


def test_links_to_folders_elsewhere_are_followed(tmp_path):
    touch(tmp_path / "elsewhere", "1.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "more").symlink_to(tmp_path / "elsewhere")
    assert names(files.walk(tmp_path / "set"), tmp_path / "set") == ["more/1.png"]


def test_a_glob_with_a_link_in_a_circle_shows_each_picture_once(tmp_path, make_picture):
    make_picture(tmp_path / "line" / "1.png")
    for name in ("loop", "again"):
        (tmp_path / "line" / name).symlink_to(tmp_path / "line")
    assert [record.path for record in ImageFiles(f"{tmp_path}/**/*.png").records] == [str(tmp_path / "line" / "1.png")]


@pytest.mark.parametrize("reader", [read_labelme, read_voc])
def test_label_readers_do_not_go_in_circles(tmp_path, make_picture, reader):
    """LabelMe takes the picture for one without marks; VOC needs a file."""
    make_picture(tmp_path / "1.png")
    text = "<annotation><filename>1.png</filename></annotation>"
    if reader is read_voc:
        (tmp_path / "1.xml").write_text(text)
    for name in ("loop", "again"):
        (tmp_path / name).symlink_to(tmp_path)
    assert [image.path for image in reader(tmp_path).images] == [str(tmp_path / "1.png")]


def test_pipes_sockets_and_devices_among_pictures_are_named_and_left_out(tmp_path, make_picture, monkeypatch):
    make_picture(tmp_path / "set" / "ok" / "1.png")
    os.mkfifo(tmp_path / "set" / "ok" / "pipe.png")
    (tmp_path / "set" / "ok" / "device.png").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path / "set" / "ok")  # a socket's path may have 108 letters
    server = socket.socket(socket.AF_UNIX)
    server.bind("socket.png")
    data = FolderDataset(str(tmp_path), "set")
    server.close()
    assert len(data) == 1
    (said,) = data.census.omissions()
    assert said.startswith("3 files of other kinds") and "pipe.png" in said and "device.png" in said


@pytest.mark.parametrize("what", ["pipe", "device", "system", "folder"])
@pytest.mark.parametrize("read", [read_image, read_raw_mask, read_text, read_hw, pixels_of])
def test_what_is_no_file_is_refused_by_every_reader_that_is_given_its_name(tmp_path, what, read):
    path = tmp_path / "x.png"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to({"device": "/dev/zero", "system": "/proc/kmsg"}[what])
    if read in (read_hw, pixels_of):
        assert not read(path)
        return
    with pytest.raises(DataError, match=r"x\.png.*(and no file|and no data|not permitted|denied)"):
        read(path, "list") if read is read_text else read(str(path))


def test_a_file_above_the_limit_of_bytes_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "x.bin"
    with path.open("wb") as file:
        file.truncate(2**31)  # takes no room on the disk
    with pytest.raises(DataError, match=r"x\.bin: has 2,147,483,648 bytes, more than the 1,073,741,824 .*max_bytes"):
        files.read_file(path)
    monkeypatch.setenv(files.MAX_BYTES_VARIABLE, "10")
    path.write_bytes(b"0123456789")
    assert files.read_file(path) == b"0123456789"
    path.write_bytes(b"0123456789a")
    with pytest.raises(DataError, match="11 bytes"):
        files.read_file(path)


def test_a_class_folder_that_cannot_be_listed_is_no_empty_class(tmp_path, make_picture, monkeypatch):
    make_picture(tmp_path / "train" / "ok" / "1.png")
    make_picture(tmp_path / "train" / "scratch" / "1.png")
    really = os.scandir

    def refuse(path):  # a superuser, which tests may run as, is refused nothing by the system
        if Path(path).name == "scratch":
            raise PermissionError(13, "Permission denied", str(path))
        return really(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"train/scratch: the folder cannot be listed: Permission denied"):
        FolderDataset(str(tmp_path))


def test_pictures_of_kinds_that_are_not_read_are_named(tmp_path, make_picture):
    make_picture(tmp_path / "train" / "ok" / "1.png")
    touch(tmp_path, "train/ok/2.HEIC", "train/ok/notes.txt")
    (said,) = FolderDataset(str(tmp_path)).census.omissions()
    assert said.startswith("1 file of kinds not read as pictures") and "2.HEIC" in said


def test_a_link_that_leads_nowhere_counts_as_a_picture_and_is_missed_by_name(tmp_path):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert list(find_images(tmp_path)) == [str(tmp_path / "gone.png")]
    with pytest.raises(DataError, match=r"gone\.png: the file does not exist"):
        read_image(tmp_path / "gone.png")


def test_problem_with_names_kinds_without_opening(tmp_path):
    os.mkfifo(tmp_path / "p")
    assert files.problem_with(tmp_path / "p") == "is a pipe (FIFO), and no file"
    assert files.problem_with(tmp_path / "nothing") == ""
    touch(tmp_path, "f")
    assert files.problem_with(tmp_path / "f") == "" and stat.S_ISREG((tmp_path / "f").stat().st_mode)


def test_links_between_class_folders_and_up_give_no_picture_another_class(tmp_path, make_picture):
    for name in ("a", "b", "c"):
        make_picture(tmp_path / "train" / name / f"{name}.png")
    (tmp_path / "train" / "a" / "up").symlink_to(tmp_path / "train")
    (tmp_path / "train" / "a" / "b").symlink_to(tmp_path / "train" / "b")
    (tmp_path / "train" / "c" / "a").symlink_to(tmp_path / "train" / "a")
    data = FolderDataset(str(tmp_path))
    assert [(Path(r.path).name, r.label) for r in data.records] == [("a.png", 0), ("b.png", 1), ("c.png", 2)]
    assert data.census.adjustments()[0].startswith("3 folders that links lead to once more")
