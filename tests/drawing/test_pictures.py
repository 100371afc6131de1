import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from dao.drawing import pictures as vis
from dao.drawing.fonts import font_path
from dao.drawing.text import fit_text, text_width
from dao.errors import DataError, RunError

CLASSES = ["gut", "Kratzer", "царапина", "rolled-in_scale_with_oxide_residue_type_A_subsurface", "e", "f", "g", "h"]
SCORES = np.array([0.05, 0.6, 0.2, 0.06, 0.04, 0.03, 0.01, 0.01], np.float32)


def noise(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def border_is_paper(picture):
    """Whether text or bars run into the right or the lower edge."""
    return (picture[:, -3:] == vis.PAPER).all() and (picture[-2:] == vis.PAPER).all()


@pytest.mark.parametrize("heatmap", [False, True])
@pytest.mark.parametrize("shape", [(200, 200, 3), (224, 161, 1), (1024, 300, 3), (300, 1024, 3), (1500, 2000, 3)])
def test_picture_stays_as_it_is(shape, heatmap):
    image = noise(*shape)
    before = image.copy()
    heat = np.ones(shape[:2], np.float32) if heatmap else None
    drawn = vis.annotate_classification(image, CLASSES, SCORES, 1, truth="gut", heatmap=heat)
    assert drawn.dtype == np.uint8 and drawn.shape[2] == 3
    assert (drawn[: shape[0], : shape[1]] == image).all()  # a grey one is compared with all three channels
    assert (image == before).all()


@pytest.mark.parametrize(("side", "factor"), [(1, 256), (32, 8), (64, 4), (128, 2), (160, 2), (161, 1)])
def test_small_pictures_are_enlarged_by_a_whole_factor(side, factor):
    image = noise(side, side)
    drawn = vis.annotate_classification(image, CLASSES, SCORES, 1)
    area = drawn[: side * factor, : side * factor]
    assert (area == np.kron(image, np.ones((factor, factor, 1), np.uint8))).all()
    assert (drawn[:, side * factor] == vis.PAPER).all()  # the panel starts there


@pytest.mark.parametrize("classes", [["a", "b"], [name * 3 for name in CLASSES]], ids=["short", "long"])
@pytest.mark.parametrize("shape", [(32, 32, 3), (400, 300, 1), (90, 900, 3), (900, 90, 3)])
def test_nothing_runs_over_the_edge(shape, classes):
    for truth in (None, classes[0]):
        drawn = vis.annotate_classification(noise(*shape), classes, SCORES[: len(classes)], 1, truth=truth)
        panel = drawn[shape[0] :] if shape[1] > 1.7 * shape[0] else drawn[:, max(shape[1], 256) :]
        assert border_is_paper(panel)


def test_bars_are_as_long_as_scores():
    drawn = vis.annotate_classification(noise(300, 300), ["a", "b", "c"], np.array([0.5, 0.25, 0.0]), 0)
    track = max((row == vis.TRACK).all(1).sum() for row in drawn[:, 300:])  # the empty bar
    for index, share in ((0, 0.5), (1, 0.25)):
        bar = max((row == vis.color_of(index)).all(1).sum() for row in drawn[:, 300:])
        assert bar / track == pytest.approx(share, abs=0.01)
    assert not (drawn[:, 300:] == vis.color_of(2)).all(2).any()


def test_six_bars_at_most():
    drawn = vis.annotate_classification(noise(400, 400), CLASSES, SCORES, 1)[:, 400:]
    tracks = (drawn == vis.TRACK).all(2).any(1)
    assert (np.diff(tracks.astype(int)) == 1).sum() == 6


def test_right_and_wrong_differ_in_colour():
    right, wrong = (vis.annotate_classification(noise(300, 300), CLASSES, SCORES, 1, truth=t) for t in CLASSES[1::-1])
    assert (right == vis.RIGHT).all(2).any() and not (right == vis.WRONG).all(2).any()
    assert (wrong == vis.WRONG).all(2).any() and not (wrong == vis.RIGHT).all(2).any()


def test_panel_grows_with_the_picture():
    """A picture six times as large, looked at on the same screen, must be as readable."""
    small, large = (vis.annotate_classification(noise(s, s), ["a", "b"], SCORES[:2], 1) for s in (400, 2400))
    assert (large.shape[1] - 2400) / (small.shape[1] - 400) == pytest.approx(6, rel=0.1)


# -- heat-maps ---------------------------------------------------------------------------------------------------------


def test_heatmap_is_clear_at_0_and_strong_at_1():
    image, heat = noise(4, 6, 1), np.zeros((4, 6), np.float32)
    heat[:, 3:] = 1.0
    drawn = vis.overlay_heatmap(image, heat, alpha=0.5)
    assert (drawn[:, :3] == image[:, :3]).all()
    top = cv2.applyColorMap(np.full((1, 1), 255, np.uint8), cv2.COLORMAP_INFERNO)[0, 0, ::-1]
    assert np.abs(drawn[:, 3:].astype(int) - (image[:, 3:] / 2 + top / 2)).max() <= 1


def test_heatmap_of_other_size_and_with_nonsense_in_it():
    heat = np.array([[np.nan, -3.0], [7.0, 0.0]], np.float32)
    drawn = vis.overlay_heatmap(noise(40, 60), heat)
    clipped = vis.overlay_heatmap(noise(40, 60), np.array([[0.0, 0.0], [1.0, 0.0]], np.float32))
    assert drawn.shape == (40, 60, 3) and (drawn == clipped).all()


# -- small pictures for sheets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "small"),
    [((1000, 500, 3), (362, 181, 3)), ((256, 256, 1), (256, 256, 3)), ((64, 64, 3), (256, 256, 3)), ((9, 4000, 3), (1, 512, 3))],
)  # fmt: skip
def test_thumbnails_have_as_many_pixels_whatever_their_shape(shape, small):
    """256 x 256 of them: 181 x 362 = 65,522 of a picture twice as high as wide; no side above 512."""
    assert vis.thumbnail(noise(*shape)).shape == small


# -- text and colours --------------------------------------------------------------------------------------------------


def test_text_is_drawn_smoothly_on_a_copy():
    image = np.full((40, 200, 3), 255, np.uint8)
    drawn = vis.put_text(image, "Käfer", (5, 5), size=24, color=(200, 0, 0))
    assert (image == 255).all()
    ink = drawn[:, :, 1]
    assert ink.min() == 0 and len(np.unique(ink)) > 20  # many shades between paper and ink
    assert drawn[:, :, 0].min() == 200


@pytest.mark.parametrize("text", ["Käfer", "царапина", "χάραγμα", "ščžđ", "≥ 5 µm"])
def test_letters_of_many_scripts_are_not_boxes(text):
    image = np.full((40, 60, 3), 255, np.uint8)
    box = vis.put_text(image, "\U000f0000", (5, 5), size=24)
    assert (box != 255).any()
    for letter in set(text) - {" "}:
        assert (vis.put_text(image, letter, (5, 5), size=24) != box).any(), letter


def test_text_outside_is_cut_off():
    image = np.full((20, 20, 3), 255, np.uint8)
    assert (vis.put_text(image, "long text", (-30, 4)) != 255).any()
    assert (vis.put_text(image, "text", (100, 100)) == 255).all()


def test_shortened_names_keep_both_ends():
    short = fit_text("rolled_in_scale_type_A", 100, 14)
    assert text_width(short, 14) <= 100 < text_width("rolled_in_scale_type_A", 14)
    assert short.startswith("rol") and short.endswith("_A") and "…" in short
    assert fit_text("short", 100, 14) == "short"


def test_font_is_found_without_pyplot():
    code = (
        "import sys; import dao.drawing.pictures as v, numpy as np; v.put_text(np.zeros((9,9,3),np.uint8), 'a', (0,0));"
    )
    code += "print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_importing_is_cheap():
    code = "import sys; import dao.drawing.pictures; print([m for m in ('matplotlib', 'PIL', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_letter_falls_back_to_the_shipped_font():
    assert font_path("\U000f0000").name == "DejaVuSans.ttf"
    assert font_path("a", bold=True).name == "DejaVuSans-Bold.ttf"


def test_first_21_classes_have_colours_of_their_own():
    colours = [vis.color_of(i) for i in range(21)]
    assert len(set(colours)) == 21 and vis.color_of(21) == colours[0]


# -- writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_read_back_as_it_was(tmp_path, channels):
    image = noise(12, 15, channels)
    vis.write_image(tmp_path / "neu" / "bild ä.png", image)
    data = np.fromfile(tmp_path / "neu" / "bild ä.png", np.uint8)
    assert (cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1] == image).all()


def test_jpeg_keeps_colours(tmp_path):
    vis.write_image(tmp_path / "a.jpg", np.full((16, 16, 3), (200, 100, 50), np.uint8))
    mean = cv2.imread(str(tmp_path / "a.jpg"))[:, :, ::-1].mean((0, 1))
    assert np.abs(mean - (200, 100, 50)).max() < 3


def test_refused_by_name_or_by_disk(tmp_path):
    with pytest.raises(DataError, match=r"a\.xyz: .*name it \.png"):
        vis.write_image(tmp_path / "a.xyz", noise(4, 4))
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"a\.png could not be written"):
        vis.write_image(tmp_path / "file" / "a.png", noise(4, 4))


def test_names_that_no_font_can_write_are_named(monkeypatch):
    from loguru import logger

    from dao.drawing import fonts

    said = []
    handler = logger.add(lambda message: said.append(message.record["message"]), level="WARNING")
    monkeypatch.setattr(fonts, "system_fonts", tuple)
    monkeypatch.setattr(fonts, "_undrawn", set())
    fonts.font_path.cache_clear()
    try:
        fonts.font_path("划伤 7")
        fonts.font_path("said 划伤 7")  # of the same letters, once is enough
        fonts.font_path("dent")
    finally:
        logger.remove(handler)
        fonts.font_path.cache_clear()
    assert len(said) == 1 and "'划伤 7'" in said[0] and "伤划" in said[0].replace(" ", "")


def test_a_full_disk_leaves_the_older_picture_whole(tmp_path, monkeypatch):
    vis.write_image(tmp_path / "a.png", noise(4, 4))
    before = (tmp_path / "a.png").read_bytes()

    def half(path, data):
        path.open("wb").write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(RunError, match="No space left"):
        vis.write_image(tmp_path / "a.png", noise(9, 9))
    assert (tmp_path / "a.png").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.png"]
