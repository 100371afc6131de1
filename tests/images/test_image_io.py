from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dao.errors import DataError
from dao.images.image_io import find_damage, is_image_name, read_image
from dao.images.listing import find_images

GRADIENT = np.stack(
    [np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1)), *[np.full((40, 60), v, np.uint8) for v in (40, 200)]], -1
)
EXIF_CLOCKWISE = 6  # the camera was turned: show it turned a quarter clockwise


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def write(tmp_path: Path, data: bytes, name: str = "picture") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x112] = orientation
    return block


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 98, "subsampling": 0}, 3),
    ],
)
def test_colour_formats_come_as_rgb(tmp_path, kind, options, tolerance):
    got = read_image(write(tmp_path, encode(Image.fromarray(GRADIENT), kind, **options)))
    assert got.dtype == np.uint8 and got.shape == (40, 60, 3)
    assert np.abs(got.astype(int) - GRADIENT).max() <= tolerance


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_colour_model_gives_the_channels_asked_for(tmp_path, mode, kind, channels):
    image = Image.fromarray(GRADIENT).convert(mode)
    try:
        data = encode(image, kind)
    except OSError:
        pytest.skip(f"{kind} cannot hold {mode}")
    got = read_image(write(tmp_path, data), in_channels=channels)
    image = Image.open(io.BytesIO(data))
    if image.mode in ("LA", "RGBA"):
        image = image.convert(image.mode.removesuffix("A"))  # dropped, not blended
    want = np.asarray(image.convert("RGB" if channels == 3 else "L")).reshape(40, 60, channels)
    assert got.shape == want.shape
    assert np.abs(got.astype(int) - want).max() <= (6 if kind == "JPEG" else 1)


def test_alpha_is_dropped_not_blended(tmp_path):
    see_through = np.dstack([GRADIENT, np.zeros((40, 60), np.uint8)])
    got = read_image(write(tmp_path, encode(Image.fromarray(see_through), "PNG")))
    assert np.array_equal(got, GRADIENT)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("bit_depth", "divisor"), [(16, 256), (12, 16), (10, 4)])
def test_16_bit_files_are_shifted_and_clipped(tmp_path, suffix, bit_depth, divisor):
    levels = np.arange(40 * 60).reshape(40, 60).astype(np.uint16) * 27
    path = write(tmp_path, cv2.imencode(suffix, levels)[1].tobytes())
    want = np.minimum(levels // divisor, 255)
    assert np.array_equal(read_image(path, 1, bit_depth)[..., 0], want)
    assert np.array_equal(read_image(path, 3, bit_depth), np.repeat(want[..., None], 3, 2))


def test_16_bit_colour_keeps_rgb_order(tmp_path):
    rgb16 = GRADIENT.astype(np.uint16) * 257
    path = write(tmp_path, cv2.imencode(".png", rgb16[..., ::-1])[1].tobytes())
    assert np.array_equal(read_image(path), GRADIENT)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_exif_orientation_is_applied(tmp_path, orientation, channels):
    path = write(tmp_path, encode(Image.fromarray(GRADIENT), "JPEG", quality=98, subsampling=0, exif=exif(orientation)))
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]  # quarters against the clock, as numpy counts
    plain = read_image(
        write(tmp_path, encode(Image.fromarray(GRADIENT), "JPEG", quality=98, subsampling=0), "plain"), channels
    )
    got = read_image(path, channels)
    assert got.shape == np.rot90(plain, turns).shape
    assert np.abs(got.astype(int) - np.rot90(plain, turns)).max() <= 2


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {"exif": exif(EXIF_CLOCKWISE)}), ("TIFF", {"tiffinfo": {274: EXIF_CLOCKWISE}})]
)
def test_orientation_of_16_bit_files(tmp_path, kind, options):
    levels = (np.arange(40 * 60).reshape(40, 60) * 27).astype(np.uint16)
    got = read_image(write(tmp_path, encode(Image.fromarray(levels), kind, **options)), 1)
    assert np.array_equal(got[..., 0], np.rot90(levels >> 8, 3))


@pytest.mark.parametrize(
    ("array", "reason"), [(np.zeros((4, 4), np.float32), "float"), (np.zeros((4, 4), np.int32), "32")]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_without_a_range_are_refused(tmp_path, array, reason, channels):
    path = write(tmp_path, encode(Image.fromarray(array), "TIFF"), "depth.tif")
    with pytest.raises(DataError, match=rf"depth.tif.*{reason}.*no fixed range.*8- or 16-bit"):
        read_image(path, channels)


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {})],
)
@pytest.mark.parametrize("keep", [0.3, 0.9, 1])
def test_truncated_files_are_refused(tmp_path, kind, options, keep):
    data = encode(NOISE, kind, **options)
    end = len(data) - 1 if keep == 1 else int(len(data) * keep)
    read_image(write(tmp_path, data))
    with pytest.raises(DataError, match=r"cut\.bin: ."):
        read_image(write(tmp_path, data[:end], "cut.bin"))


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("BMP", {}), ("WEBP", {})]
)
def test_the_container_itself_tells(kind, options):
    """Not left to the decoder: OpenCV 4 decodes a truncated JPEG to a picture that is half grey."""
    data = encode(NOISE, kind, **options)
    assert find_damage(data) == ""
    assert find_damage(data + b"appended by a camera \xff\xda") == ""
    for cut in (1, 5, len(data) // 2):
        assert re.search("truncated|shorter", find_damage(data[:-cut]))


def test_a_thumbnail_does_not_hide_that_its_picture_is_cut():
    small = encode(NOISE.resize((8, 8)), "JPEG")
    app1 = b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small
    data = encode(NOISE, "JPEG")
    with_thumbnail = data[:2] + app1 + data[2:]
    assert find_damage(with_thumbnail) == ""
    assert "truncated JPEG" in find_damage(with_thumbnail[:-100])


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"hello, world" * 9, "not a picture"), (b"\x89PNG\r\n\x1a\n", "PNG")]
)
def test_what_is_no_picture_is_named(tmp_path, content, reason):
    with pytest.raises(DataError, match=rf"x\.png: .*{reason}"):
        read_image(write(tmp_path, content, "x.png"))


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png: the file does not exist"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        read_image(tmp_path)


def test_names_beyond_ascii(tmp_path):
    path = write(tmp_path, encode(Image.fromarray(GRADIENT), "PNG"), "Kratzer_ß_划痕 1.png")
    assert np.array_equal(read_image(path), GRADIENT)


ENDINGS = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif", "JFIF"), "PNG": ("png",), "BMP": ("bmp",), "DIB": ("dib",), "GIF": ("gif",),
    "TIFF": ("tif", "tiff"), "WEBP": ("webp",), "JPEG2000": ("jp2",), "PPM": ("pgm", "ppm", "pbm", "pnm"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "ending"), [(kind, end) for kind, ends in ENDINGS.items() for end in ends])
def test_files_of_every_ending_that_cameras_and_line_software_write_are_found_and_read(tmp_path, kind, ending):
    mode = {"pgm": "L", "pbm": "1"}.get(ending, "RGB")
    image = Image.fromarray(GRADIENT).convert(mode)
    path = write(tmp_path, encode(image, kind), f"part.{ending}")
    assert is_image_name(path.name) and list(find_images(tmp_path)) == [str(path)]
    want = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(read_image(path).astype(int) - want).mean() < 8  # a palette of 256 colours, and JPEG's loss
