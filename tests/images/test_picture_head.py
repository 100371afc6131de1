"""Heads read by hand against Pillow's reading of the same files."""

from __future__ import annotations

import io
import random
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from dao.dataloaders.datasets.masks import read_raw_mask
from dao.errors import DataError
from dao.images import image_io, picture_head
from dao.images.image_io import decode_image, read_hw, read_image, turn
from dao.images.picture_head import head_of

CORNERS = np.zeros((40, 60, 3), np.uint8)  # no turn of it equals another
CORNERS[:10, :20] = (250, 20, 20)
CORNERS[30:, 40:] = (20, 250, 20)


def encode(array_or_image, kind: str, orientation: int = 0, **options) -> bytes:
    image = array_or_image if isinstance(array_or_image, Image.Image) else Image.fromarray(array_or_image)
    if orientation:
        block = Image.Exif()
        block[0x112] = orientation
        options |= {"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": block}
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def tiff(array: np.ndarray, photometric: int, sample_format: int = 1) -> bytes:
    """An uncompressed little-endian TIFF, written by hand: Pillow writes neither signed nor L*a*b* values."""
    height, width = array.shape[:2]
    samples, bits = (array.shape[2] if array.ndim == 3 else 1), array.dtype.itemsize * 8
    data = array.tobytes()
    many = 8 + len(data)  # where the values of all samples lie, twice
    blob = struct.pack(f"<{samples}H", *[bits] * samples) + struct.pack(f"<{samples}H", *[sample_format] * samples)
    places = (bits, sample_format) if samples == 1 else (many, many + 2 * samples)
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, samples, places[0]), (259, 3, 1, 1), (262, 3, 1, photometric),
        (273, 4, 1, 8), (277, 3, 1, samples), (278, 4, 1, height), (279, 4, 1, len(data)), (339, 3, samples, places[1]),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    start = struct.pack("<2sHI", b"II", 42, many + len(blob))
    return start + data + blob + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_and_pixels_are_turned_alike_in_every_format_that_has_an_orientation(tmp_path, kind, orientation):
    """TIFF with orientation 5 to 8: `read_hw` swapped sides twice, and YOLO boxes went wrong."""
    path = tmp_path / "x.bin"
    path.write_bytes(encode(CORNERS, kind, orientation))
    want = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")).astype(int)
    got = read_image(path)
    assert got.shape == want.shape and np.abs(got - want).mean() < 5
    assert read_hw(path) == got.shape[:2] == head_of(path.read_bytes()).upright_hw


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "palette PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_turned_as_its_picture_square_ones_too(tmp_path, kind, orientation):
    indices = np.zeros((30, 30), np.uint8)
    indices[:7, :12], indices[20:, 25:] = 1, 2
    image = Image.fromarray(indices)
    if kind == "palette PNG":
        image = Image.fromarray(indices, "P") if not hasattr(image, "putpalette") else image.convert("P")
        image.putdata(indices.reshape(-1).tolist())
        image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    options = {"lossless": True} if kind == "WEBP" else {}
    path = tmp_path / "mask.bin"
    path.write_bytes(encode(image, kind.split()[-1], orientation, **options))
    got = read_raw_mask(str(path))
    want = {  # written out, so that neither Pillow nor OpenCV is believed
        1: indices, 2: indices[:, ::-1], 3: indices[::-1, ::-1], 4: indices[::-1], 5: indices.T,
        6: np.rot90(indices, 3), 7: np.rot90(indices, 2).T, 8: np.rot90(indices, 1),
    }[orientation]  # fmt: skip
    assert np.array_equal(got if got.ndim == 2 else got[..., 0], want)
    assert np.array_equal(turn(indices, orientation), want)


def test_heads_of_files_say_what_pillow_says():
    for kind, mode in [("BMP", "RGB"), ("GIF", "P"), ("JPEG2000", "RGB"), ("PPM", "L"), ("PPM", "1"), ("PNG", "1")]:
        head = head_of(encode(Image.fromarray(CORNERS).convert(mode), kind))
        assert (head.hw, head.pages, head.orientation) == ((40, 60), 1, 1), kind
    deep = (np.arange(2400, dtype=np.uint16) * 27).reshape(40, 60)
    for ending in (".png", ".tif", ".pgm", ".jp2"):
        assert head_of(cv2.imencode(ending, deep)[1].tobytes()).bits == 16, ending
    lossy = encode(CORNERS, "WEBP", quality=80)
    assert head_of(lossy).hw == (40, 60)
    big = cv2.imencode(".tif", CORNERS)[1].tobytes()
    assert head_of(b"MM" + big[2:]) is None or head_of(b"MM" + big[2:]).hw != (40, 60)  # read by its own byte order


@pytest.mark.parametrize(("kind", "count"), [("TIFF", 3), ("GIF", 4), ("WEBP", 2), ("PNG", 2)])
def test_pages_and_frames_are_counted(kind, count):
    frames = [Image.fromarray(np.roll(CORNERS, i * 9, 0)) for i in range(count)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert head_of(data).pages == count == Image.open(io.BytesIO(data)).n_frames


def test_a_thumbnail_inside_a_tiff_is_no_page():
    small = Image.fromarray(CORNERS).resize((6, 4))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    out = io.BytesIO()
    Image.fromarray(CORNERS).save(out, "TIFF", save_all=True, append_images=[small])
    assert head_of(out.getvalue()).pages == 1


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.float32, np.float64, np.uint32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("colours", [1, 3])
def test_signed_wide_and_float_tiffs_are_refused_in_words(dtype, channels, colours):
    """int16 was a cv2.error."""
    values = np.full((4, 6, 3) if colours == 3 else (4, 6), 100, dtype)
    sample_format = {"i": 2, "f": 3, "u": 1}[np.dtype(dtype).kind]
    with pytest.raises(DataError, match=r"x\.tif: "):
        decode_image(tiff(values, 2 if colours == 3 else 1, sample_format), "x.tif", channels)


@pytest.mark.parametrize("photometric", [8, 9, 10])
def test_lab_tiffs_are_refused_and_not_shown_in_wrong_colours(photometric):
    with pytest.raises(DataError, match=r"x\.tif: its colours are CIE L\*a\*b\*.*save it as RGB"):
        decode_image(tiff(np.full((4, 6, 3), (136, 208, 67), np.uint8), photometric), "x.tif")


def test_white_is_zero_is_turned_round_in_8_bits_and_refused_in_16():
    grey = (np.arange(24, dtype=np.uint8) * 10).reshape(4, 6)
    assert np.array_equal(decode_image(tiff(grey, 0), "x.tif", 1)[..., 0], 255 - grey)
    with pytest.raises(DataError, match="16-bit values count from white to black"):
        decode_image(tiff(grey.astype(np.uint16), 0), "x.tif", 1)


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP"])
@pytest.mark.parametrize("alpha", [0, 128])
def test_alpha_is_dropped_in_every_format_and_not_blended(kind, alpha):
    """A TIFF's alpha was multiplied in: what was transparent came black."""
    picture = np.dstack([CORNERS, np.full((40, 60), alpha, np.uint8)])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert np.array_equal(decode_image(encode(picture, kind, **options), "x"), CORNERS)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that claims to be large."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def claiming(kind: str) -> bytes:
    """A small file of a kind whose head claims 30,000 x 30,000."""
    data = bytearray(encode(CORNERS, kind))
    if kind == "PNG":
        return bomb(30_000, 30_000)
    if kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", 30_000, 30_000)
    elif kind == "BMP":
        data[18:26] = struct.pack("<ii", 30_000, -30_000)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", 30_000, 30_000)
    elif kind == "TIFF":
        for tag in (256, 257):
            at = next(
                i for i in range(8, len(data) - 12) if data[i : i + 4] in (struct.pack("<HH", tag, t) for t in (3, 4))
            )
            data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 30_000)
    elif kind == "PPM":
        data = bytearray(data.replace(b"60 40", b"30000 30000", 1))
    elif kind == "JPEG2000":
        at = data.index(b"\xff\x4f\xff\x51") + 8
        data[at : at + 8] = struct.pack(">II", 30_000, 30_000)
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "PPM", "JPEG2000"])
def test_a_decompression_bomb_is_refused_by_its_head_as_picture_and_as_mask(tmp_path, kind, monkeypatch):
    path = tmp_path / "bomb.bin"
    path.write_bytes(claiming(kind))

    def decode(*_):
        raise AssertionError("it was decoded")

    monkeypatch.setattr(cv2, "imdecode", decode)
    for read in (read_image, read_raw_mask):
        with pytest.raises(DataError, match=r"bomb\.bin.*30000 x 30000 = 900,000,000 pixels.*max_pixels"):
            read(str(path))


def test_max_pixels_is_the_largest_that_is_read(monkeypatch):
    data = encode(CORNERS, "PNG")
    monkeypatch.setenv(image_io.MAX_PIXELS_VARIABLE, "2400")
    assert decode_image(data, "x.png").shape == (40, 60, 3)
    monkeypatch.setenv(image_io.MAX_PIXELS_VARIABLE, "2399")
    with pytest.raises(DataError, match=r"60 x 40 = 2,400 pixels, more than the 2,399"):
        decode_image(data, "x.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000", "PPM"])
def test_damaged_heads_give_a_picture_or_one_of_our_errors(kind):
    """Bytes changed at random, cut and doubled: nothing but DataError, and no hang in chains of pages and blocks."""
    whole, rng = encode(CORNERS, kind), random.Random(kind)
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(min(len(data), 200))] = rng.randrange(256)
        cut = bytes(data[: rng.randrange(1, len(data) + 1)]) if rng.random() < 0.4 else bytes(data)
        head_of(cut)
        try:
            decode_image(cut, "x.bin")
        except DataError:
            continue


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000", "PPM"])
def test_a_head_read_from_a_file_block_by_block_is_that_of_all_its_bytes(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(picture_head, "BLOCK", 256)
    path = tmp_path / "x.bin"
    noise = np.random.default_rng(0).integers(0, 256, (70, 50, 3), np.uint8)
    path.write_bytes(encode(noise, kind, 6 if kind in ("JPEG", "PNG", "TIFF", "WEBP") else 0))
    head = head_of(path.read_bytes())
    assert image_io.read_head(path) == head and head.hw == (70, 50)


@pytest.mark.parametrize("read", [read_image, read_raw_mask])
@pytest.mark.parametrize("chunk", ["IDAT", "tEXt"])
@pytest.mark.parametrize("claimed", [2**32 - 1, 2**31 - 1, 10**9, 5000])
def test_a_png_whose_chunk_claims_more_than_the_file_has_is_refused_before_room_is_made_for_it(
    tmp_path, read, chunk, claimed, monkeypatch
):
    """A file of 73 bytes had taken 2 GB."""
    monkeypatch.setattr(cv2, "imdecode", None)
    monkeypatch.setattr(Image, "open", None)
    text = struct.pack(">I4s", 4, b"tEXt") + b"a\0bc" + struct.pack(">I", zlib.crc32(b"tEXta\0bc"))
    data = encode(np.zeros((40, 48), np.uint8), "PNG")
    data = bytearray(data[:33] + text + data[33:])
    at = data.index(chunk.encode()) - 4
    data[at : at + 4] = struct.pack(">I", claimed)
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"x\.png: damaged PNG: one of its chunks claims {claimed:,} bytes"):
        read(str(path))


def test_bytes_behind_a_whole_png_are_no_chunk(tmp_path):
    (tmp_path / "x.png").write_bytes(encode(CORNERS, "PNG") + b"\xff" * 40)
    assert np.array_equal(read_image(tmp_path / "x.png"), CORNERS)
