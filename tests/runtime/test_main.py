"""``python -m dao.runtime``: a line a picture, and the files of a demo."""

import json

import pytest

from dao.runtime.__main__ import main


def test_a_folder_of_pictures_becomes_a_table_and_the_files_of_a_demo(by_colour, colours, tmp_path, capsys):
    model, out = by_colour(), tmp_path / "out"
    assert main([str(model), str(colours), "--out", str(out), "--set", "threshold=0.7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["bad", "good", "review", "bad"]
    assert "0.800" in lines[1] and "truncated" in lines[3] and lines[5] == "2 bad, 1 good, 1 review"
    names = ["0000_a.png", "0001_b.png", "0003_d.png", "contact_sheet.png", "results.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    content = json.loads((out / "results.json").read_text())
    assert content["operating_point"]["threshold"] == 0.7 and [one["label"] for one in content["results"]] == [
        "red", "green", "red",
    ]  # fmt: skip
    assert [one["path"] for one in content["unreadable"]] == [str(colours / "c.png")]
    main([str(model), str(colours), "--out", str(out)])
    assert (tmp_path / "out-2" / "results.json").is_file()  # nothing is written over


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL", "none"], "no picture found"),
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
