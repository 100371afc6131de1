"""One resize with three faces; placement by hand-computed tables; what the settings refuse."""

import cv2
import numpy as np
import pytest
import torch

from dao.errors import ConfigError
from dao.preprocess import Placement, Preprocess, placement


@pytest.mark.parametrize(
    ("hw", "size", "kind", "wanted"),
    [
        ((100, 200), (50, 50), "letterbox", Placement(25, 50, 12, 0)),
        ((200, 100), (50, 60), "letterbox", Placement(50, 25, 0, 17)),
        ((50, 50), (50, 50), "letterbox", Placement(50, 50, 0, 0)),
        ((1, 1000), (64, 64), "letterbox", Placement(1, 64, 31, 0)),
        ((100, 200), (50, 50), "stretch", Placement(50, 50, 0, 0)),
        ((100, 200), (50, 50), "crop", Placement(50, 100, 0, -25)),
        ((300, 100), (50, 50), "crop", Placement(150, 50, -50, 0)),
    ],
)
def test_placement(hw, size, kind, wanted):
    assert placement(hw, size, kind) == wanted


@pytest.mark.parametrize(("hw", "kind"), [((100, 200), "letterbox"), ((200, 100), "letterbox"), ((100, 300), "crop")])
def test_top_left_scales_alike_and_starts_in_the_corner(hw, kind):
    centred, cornered = placement(hw, (50, 60), kind), placement(hw, (50, 60), kind, "top_left")
    assert (cornered.height, cornered.width) == (centred.height, centred.width)
    assert (cornered.top, cornered.left) == (0, 0)


@pytest.mark.parametrize("kind", ["letterbox", "crop"])
def test_top_left_in_both_faces(kind):
    pre = Preprocess(size=[64, 64], resize=kind, position="top_left", pad_value=9)
    image = picture(32, 64) if kind == "letterbox" else picture(64, 128)
    out = pre.resize_uint8(image)
    np.testing.assert_array_equal(out[:32], image[:32, :64])
    assert kind == "crop" or (out[32:] == 9).all()
    np.testing.assert_array_equal(pre.resize_tensor(image).permute(1, 2, 0).numpy(), out)


def test_bgr_reverses_what_rgb_gives():
    x = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    rgb, bgr = Preprocess(size=[8, 8]), Preprocess(size=[8, 8], channel_order="bgr")
    torch.testing.assert_close(bgr.normalise(x), rgb.normalise(x)[:, [2, 1, 0]])
    plain = Preprocess(size=[8, 8], channel_order="bgr", mean=[0.0], std=[1 / 255])
    torch.testing.assert_close(plain.normalise(x), x.float()[:, [2, 1, 0]], atol=1e-4, rtol=0)


def picture(h, w, channels=3):
    noise = np.random.default_rng(h * w).integers(0, 256, (h, w, channels), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 2).reshape(h, w, channels)


@pytest.mark.parametrize("kind", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("hw", [(40, 90), (300, 200), (64, 48), (17, 33)])
def test_training_resize_is_within_a_level_of_the_exported_one(kind, antialias, hw):
    pre = Preprocess(size=[64, 48], resize=kind, antialias=antialias)
    image = picture(*hw)
    gap = np.abs(pre.resize_uint8(image).astype(float) - pre.resize_tensor(image).permute(1, 2, 0).numpy())
    assert gap.max() <= 1.01  # rounding, and cv2's fixed-point weights


def test_antialiased_stretch_is_pillows_filter():
    from PIL import Image

    image = picture(301, 203)
    pre = Preprocess(size=[64, 48], resize="stretch", antialias=True)
    pillow = np.asarray(Image.fromarray(image).resize((48, 64), Image.Resampling.BILINEAR)).astype(float)
    assert np.abs(pre.resize_tensor(image).permute(1, 2, 0).numpy() - pillow).max() <= 1.01


def test_letterbox_pads_with_its_value_and_keeps_the_picture():
    pre = Preprocess(size=[64, 64], pad_value=7)
    image = picture(32, 64)
    out = pre.resize_uint8(image)
    assert (out[:16] == 7).all() and (out[48:] == 7).all()
    np.testing.assert_array_equal(out[16:48], image)


def test_normalise_is_what_torchvision_does():
    from torchvision.transforms.functional import normalize

    pre = Preprocess(size=[8, 8])
    x = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    wanted = normalize(x.float() / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(pre.normalise(x), wanted, atol=1e-5, rtol=1e-5)


def test_grey_gets_the_mean_of_rgb_statistics():
    pre = Preprocess(size=[8, 8], in_channels=1)
    assert pre.mean.shape == (1, 1, 1, 1)
    assert pre.mean.item() == pytest.approx(255 * (0.485 + 0.456 + 0.406) / 3)
    assert pre.resize_uint8(picture(20, 10, 1)).shape == (8, 8, 1)


def test_settings_survive_the_round_trip():
    pre = Preprocess(
        size=[32, 48],
        resize="crop",
        antialias=False,
        mean=[0.5],
        std=[0.25],
        pad_value=0,
        bit_depth=12,
        position="top_left",
        channel_order="bgr",
    )
    assert Preprocess(**pre.to_dict()).settings == pre.settings


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"size": [0, 5]}, "preprocess.size"),
        ({"mean": [0.1, 0.2]}, "preprocess.mean"),
        ({"std": [0.0]}, "preprocess.std"),
        ({"pad_value": 256}, "preprocess.pad_value"),
        ({"bit_depth": 7}, "preprocess.bit_depth"),
        ({"channel_order": "bgr", "in_channels": 1}, "preprocess.channel_order"),
    ],
)
def test_impossible_values_are_refused(values, place):
    with pytest.raises(ConfigError) as caught:
        Preprocess(**values)
    assert caught.value.problems[0].where == place


def test_tile_keeps_pixels_as_they_are_and_pads_below_and_right():
    preprocess = Preprocess(size=[6, 8], resize="tile", pad_value=7)
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    tensor, pixels = preprocess.resize_tensor(picture), preprocess.resize_uint8(picture)
    assert pixels.shape == (6, 8, 3) and np.array_equal(pixels[:4, :5], picture) and (pixels[4:] == 7).all()
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("kind", ["letterbox", "stretch", "tile"])
@pytest.mark.parametrize("hw", [(40, 90), (90, 40), (33, 33)])
def test_masks_lie_where_their_pictures_do_and_maps_come_back(kind, hw):
    if kind == "tile" and max(hw) > 64:
        hw = (50, 60)
    preprocess = Preprocess(size=[64, 64], resize=kind, antialias=False, pad_value=0)
    mask = np.zeros(hw, np.uint8)
    mask[hw[0] // 4 : hw[0] // 2, hw[1] // 4 : hw[1] // 2] = 1
    picture = np.repeat(mask[:, :, None] * 255, 3, axis=2)
    small, place = preprocess.resize_mask(mask, fill=255), preprocess.resize_uint8(picture)[:, :, 0]
    inside = small != 255
    bare = kind == "stretch" or (kind == "letterbox" and hw[0] == hw[1])
    assert inside.all() == bare
    assert ((small == 1) != (place > 127))[inside].mean() < 0.02  # nearest and bilinear part along the edges
    maps = torch.from_numpy((small == 1).astype(np.float32))[None, None]
    back = preprocess.restore(maps, hw)[0, 0].numpy()
    assert back.shape == hw and ((back > 0.5) != (mask == 1)).mean() < 0.03


@pytest.mark.parametrize("overlap", [1.0, 0.9999, -0.1])
def test_overlap_out_of_range_is_refused(overlap):
    with pytest.raises(ConfigError, match="preprocess.overlap"):
        Preprocess(size=[6, 8], resize="tile", overlap=overlap)
