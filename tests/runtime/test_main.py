"""``python -m dao.runtime``: a line a picture, and the files of a demo."""

import json

import numpy as np
import pytest

from dao.runtime import predictor, results
from dao.runtime.__main__ import main


def test_a_folder_of_pictures_becomes_a_table_and_the_files_of_a_demo(by_colour, colours, tmp_path, capsys):
    model, out = by_colour(), tmp_path / "out"
    assert main([str(model), str(colours), "--out", str(out), "--set", "threshold=0.7"]) == 1  # c.png is damaged
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["bad", "good", "review", "bad"]
    assert lines[0].split() == ["verdict", "badness", "class", "picture"]
    assert lines[1].split()[1:3] == ["0.800", "red"] and "truncated" in lines[3]
    assert lines[5] == "2 bad, 1 good, 1 without an answer"
    names = ["0000_a.png", "0001_b.png", "0003_d.png", "contact_sheet.png", "results.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    content = json.loads((out / "results.json").read_text())
    assert content["operating_point"]["threshold"] == 0.7 and [one["label"] for one in content["results"]] == [
        "red", "green", "red",
    ]  # fmt: skip
    assert [one["path"] for one in content["unreadable"]] == [str(colours / "c.png")]
    main([str(model), str(colours), "--out", str(out)])
    assert (tmp_path / "out-2" / "results.json").is_file()  # nothing is written over


def test_a_model_that_does_not_know_which_class_is_bad_prints_the_class_and_how_to_name_it(by_colour, colours, capsys):
    (colours / "c.png").unlink()
    model = by_colour(bad_classes=[], threshold=None)
    assert main([str(model), str(colours)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[:3]] == [
        ["verdict", "score", "class"], ["review", "0.800", "red"], ["review", "0.800", "green"],
    ]  # fmt: skip
    assert lines[4] == "3 review" and lines[5].endswith("--set bad_classes=red,green")
    assert main([str(model), str(colours), "--set", "bad_classes=red,blue"]) == 0
    assert capsys.readouterr().out.splitlines()[4] == "2 bad, 1 good"


def test_what_has_no_answer_stands_at_the_end_of_the_sheet_and_in_its_title(by_colour, colours, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        results, "contact_sheet", lambda cells, **more: drawn.update(cells=cells, **more) or np.zeros((8, 8, 3))
    )
    monkeypatch.setattr(results, "write_image", lambda path, image: None)
    main([str(by_colour()), str(colours), "--out", str(tmp_path / "out")])
    assert drawn["title"] == "3 of 4 pictures shown, 1 without an answer"
    assert [cell.name for cell in drawn["cells"]] == ["a.png", "b.png", "d.png", "c.png"]
    assert drawn["cells"][3].plate is None and "truncated" in drawn["cells"][3].said[0]
    main([str(by_colour()), str(colours), "--out", str(tmp_path / "out"), "--sheet", "2"])
    assert drawn["title"] == "2 of 4 pictures shown, 1 without an answer" and len(drawn["cells"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL", "none"], "no picture found at none: it does not exist"),
        (["MODEL", "PICTURES/*.jpg"], "*.jpg: none fits this pattern"),
        (["MODEL", "PICTURES/.."], "itself; its folders hold 4 pictures: recursive=True (command line: --recursive)"),
        (["PICTURES/a.png", "PICTURES"], "a.png is no model (.onnx, .pt2, .safetensors, .ckpt)"),
        (["none.onnx", "PICTURES"], "none.onnx"),
        (["MODEL", "PICTURES/c.png"], "not one of 1 pictures"),
        (["MODEL", "PICTURES", "--set", "threshold"], "NAME=VALUE"),
        (["MODEL", "PICTURES", "--set", "threshold=high"], "above 0, at most 1"),
    ],
)
def test_what_cannot_be_done_is_one_message_and_exit_code_2(arguments, message, by_colour, colours, capsys):
    places = {"MODEL": str(by_colour()), "PICTURES": str(colours)}
    given = [one.replace("MODEL", places["MODEL"]).replace("PICTURES", places["PICTURES"]) for one in arguments]
    assert main(given) == 2 and message in capsys.readouterr().err


def test_a_name_as_long_as_a_disk_takes_is_answered_and_its_results_are_told_apart_by_their_number(
    by_colour, colours, tmp_path, capsys
):
    for name, last in (("a", "é"), ("b", "è")):  # of two bytes each
        (colours / f"{name}.png").rename(colours / f"{'a' * 249}{last}.png")
    assert main([str(by_colour()), str(colours), "--out", str(tmp_path / "out")]) == 1
    files = [one["picture"] for one in json.loads((tmp_path / "out" / "results.json").read_text())["results"]]
    assert len(set(files)) == 3 and all((tmp_path / "out" / name).is_file() for name in files)


def test_who_stops_it_has_the_results_of_what_was_answered(by_colour, colours, tmp_path, capsys, monkeypatch):
    def stopped(self, path, recursive, threads):
        yield self(str(colours / "a.png")), self.read(colours / "a.png")
        raise KeyboardInterrupt

    monkeypatch.setattr(predictor.Predictor, "folder_with_pixels", stopped)
    assert main([str(by_colour()), str(colours), "--out", str(tmp_path / "out")]) == 130
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())["results"]) == 1
    shown = capsys.readouterr()
    assert "1 bad" in shown.out and "stopped" in shown.err
