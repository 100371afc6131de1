"""One door for every way in which a program holds pictures."""

import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from dao.errors import AnswerError, CheckpointError, ConfigError, DataError
from dao.runtime import Predictor
from dao.runtime.ahead import EACH, read_ahead


def red(side=8):
    return np.full((side, side, 3), (200, 50, 0), np.uint8)


def test_a_path_bytes_an_array_and_pillows_image_answer_alike(by_colour, colours):
    predictor = Predictor(by_colour())
    path = colours / "a.png"
    with Image.open(path) as opened:
        found = [predictor(one) for one in (path, str(path), path.read_bytes(), red(), opened, opened.convert("RGBA"))]
    for one in found:
        np.testing.assert_allclose(one.scores, [0.8, 0.2, 0], rtol=1e-6)
        assert one.bad and one.original_hw == (8, 8)
    assert [one.path for one in found] == [str(path), str(path), "", "", "", ""]
    with pytest.raises(DataError, match="the bytes given: the file is empty"):
        predictor(b"")
    with pytest.raises(DataError, match="got dict"):
        predictor({})


def test_what_is_no_whole_picture_is_refused_in_words(by_colour, colours):
    predictor = Predictor(by_colour())
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "JPEG")
    torn, closed = Image.open(io.BytesIO(out.getvalue()[:5000])), Image.open(colours / "a.png")
    closed.close()
    for one in (torn, closed, Image.new("La", (4, 4))):
        with pytest.raises(DataError, match="the picture given: "):
            predictor(one)
    for given in (np.zeros((0, 5, 3), np.uint8), np.zeros((5, 0), np.uint8), Image.new("RGB", (0, 4))):
        for way in (given, [given]):
            with pytest.raises(DataError, match="has no pixel"):
                predictor(way)


def test_pillows_picture_of_which_it_keeps_half_the_bits_is_refused_where_they_count(by_colour, tmp_path):
    """A camera of 12 bits: 4000 of 4095 is 250 of 255; Pillow keeps the upper 8 of 16 bits, which are 15."""
    import cv2

    predictor = Predictor(by_colour())
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((8, 8, 3), (100, 1600, 4000), np.uint16))
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((8, 8), 4000, np.uint16))
    assert Image.open(tmp_path / "deep.png").getpixel((0, 0)) == (15, 6, 0)
    predictor(Image.open(tmp_path / "deep.png"))  # of 16 bits the upper 8 are what counts
    predictor.card.preprocess["bit_depth"] = 12
    assert predictor.read(tmp_path / "deep.png")[0, 0].tolist() == [250, 100, 6]
    assert predictor.read(Image.open(tmp_path / "grey.png"))[0, 0].tolist() == [250] * 3
    with pytest.raises(DataError, match="12 are significant"):
        predictor(Image.open(tmp_path / "deep.png"))


@pytest.mark.parametrize("device", ["cuda:first", "gpu", ""])
def test_a_device_that_is_none_is_refused(by_colour, device):
    with pytest.raises(ConfigError, match="expected auto, cpu, cuda"):
        Predictor(by_colour(), device)


def test_a_picture_that_the_runtime_refuses_does_not_end_a_folder(by_colour, colours):
    predictor = Predictor(by_colour())
    run = predictor.backend.run

    def small_alone(images):
        if images.shape[1] > 8:
            raise CheckpointError("the exported file gives no answer: no memory")
        return run(images)

    predictor.backend.run = small_alone
    found = list(predictor.folder(colours))
    assert [bool(one.error) for one in found] == [False, False, True, True] and "no memory" in found[3].error


def test_a_list_gives_a_list_in_its_order_and_pictures_of_one_size_go_together(by_colour, colours):
    predictor, sizes = Predictor(by_colour()), []
    run = predictor.backend.run
    predictor.backend.run = lambda images: sizes.append(len(images)) or run(images)
    pictures = [red(), colours / "b.png", red(20), red(20), red(20), colours / "a.png"]
    found = predictor(pictures)
    assert sizes == [2, 3, 1] and [one.bad for one in found] == [True, False, True, True, True, True]
    assert [one.path for one in found] == ["", str(colours / "b.png"), "", "", "", str(colours / "a.png")]
    assert [one.scores.tolist() for one in found] == [predictor(one).scores.tolist() for one in pictures]
    assert predictor([]) == []


def test_of_a_list_the_picture_without_an_answer_is_named(by_colour, colours):
    """A black picture has no shares: 0 / 0."""
    predictor = Predictor(by_colour())
    black = colours / "black.png"
    Image.new("RGB", (8, 8)).save(black)
    with pytest.raises(AnswerError, match=r"black\.png: no answer: 3 of 3 numbers"):
        predictor([red(), black, red()])
    assert [one.error[:10] for one in predictor.folder(colours) if one.path.endswith("k.png")] == ["no answer:"]


def test_a_file_of_one_picture_at_a_time_takes_a_list_too(by_colour):
    predictor = Predictor(by_colour(shape=(1, "height", "width", 3)))
    assert [one.bad for one in predictor([red(), red()])] == [True, True]


def test_a_folder_is_gone_through_to_its_end_and_what_cannot_be_read_is_for_review(by_colour, colours):
    found = list(Predictor(by_colour()).folder(colours))
    assert [one.to_dict()["verdict"] for one in found] == ["bad", "good", "review", "bad"]
    told = found[2].to_dict()
    assert told["score"] is None and "truncated PNG" in told["error"] and told["path"] == str(colours / "c.png")
    assert list(told) == list(found[0].to_dict())
    assert json.loads(json.dumps(found[0].to_dict())) == found[0].to_dict()
    with pytest.raises(DataError, match="no picture found"):
        Predictor(by_colour()).folder(colours / "none")


def test_the_score_is_what_the_threshold_is_compared_with(by_colour, colours):
    """0.8 against 0.2: 0.8 / (0.8 + 0.2)."""
    assert Predictor(by_colour(), facts={"threshold": 0.79})(red()).to_dict()["score"] == pytest.approx(0.8)
    assert Predictor(by_colour(), facts={"threshold": 0.81})(red()).to_dict()["verdict"] == "good"
    unknown = Predictor(by_colour(bad_classes=[], threshold=None))(red()).to_dict()
    assert (unknown["verdict"], unknown["score"], unknown["label"]) == ("review", pytest.approx(0.8), "red")
    assert unknown["badness"] is None and Predictor(by_colour())(red()).to_dict()["badness"] == pytest.approx(0.8)


def test_where_a_threshold_was_set_the_caption_has_the_badness_that_it_is_compared_with_beside_the_score_of_the_class(
    by_colour,
):
    """Green 0.5 against red 0.3: 0.3 / (0.3 + 0.5)."""
    picture = np.full((8, 8, 3), (75, 125, 50), np.uint8)
    predictor = Predictor(by_colour(), facts={"threshold": 0.4})
    told = predictor.describe(predictor(picture))
    assert (told["score"], told["badness"]) == (pytest.approx(0.5), pytest.approx(0.375))
    assert predictor.caption(predictor(picture)) == "green: score 0.50, badness 0.375, bad from 0.4"
    usual = Predictor(by_colour())
    assert usual.caption(usual(picture)) == "green: score 0.50"
    with pytest.raises(ConfigError, match="is no fact"):
        Predictor(by_colour(), facts={"treshold": 0.5})


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_no_more_pictures_are_read_ahead_than_are_worked_on(threads):
    read, lock, taken = [], threading.Lock(), []

    def one(name):
        with lock:
            read.append(name)
            assert len(read) - len(taken) <= EACH * threads + 1
        return np.zeros(1)

    names = list(map(str, range(20)))
    for name, _ in read_ahead(names, one, threads):
        taken.append(name)
    assert taken == names == sorted(read, key=int)
    begun = []
    some = read_ahead(names, lambda name: begun.append(name) or np.zeros(1), threads)
    next(some)
    some.close()
    assert len(begun) <= max(1, EACH * threads)  # the rest is not read


def test_a_task_that_a_users_module_alone_knows(by_colour, tmp_path):
    """On a PC without torch such a class stands on `Answer`; here it gives its own word for a label."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "colour_task.py").write_text(
        "from dao.answers.classification import ClassificationAnswer\n"
        "from dao.register import Registers\n\n"
        "@Registers.tasks.register('colour')\n"
        "class ColourAnswer(ClassificationAnswer):\n"
        "    @classmethod\n"
        "    def caption(cls, prediction, card):\n"
        "        return 'mine: ' + card.classes[prediction.label]\n"
    )
    from dao.register import Registers

    path = by_colour()
    import onnx

    model = onnx.load(str(path))
    card = json.loads(model.metadata_props[0].value)
    model.metadata_props[0].value = json.dumps({**card, "task": "colour"})
    onnx.save(model, str(path))
    try:
        predictor = Predictor(path, custom_modules=folder)
        assert predictor.caption(predictor(red())) == "mine: red"
    finally:
        del Registers.tasks._components["colour"]
