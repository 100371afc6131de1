"""A set that came with an inherited config is named where the others are the user's own."""

import pytest

from dao.dataloaders.inherited import left_over

MINE = {"type": "CsvDataset", "kwargs": {"csv_file": "mine/parts.csv", "split": "train"}}
SAMPLES = {"type": "FolderDataset", "kwargs": {"data_dir": "data/samples/cls", "split": "val"}}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "parts.csv").touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "path", ["data/samples", "./data/samples/cls", "data/samples/annotations/instances_{split}.json"]
)
def test_own_pictures_judged_by_the_sample_ones_are_warned_of_with_both_places(path):
    note = left_over(MINE, {"type": "Any", "kwargs": {"json_file": path}}, "evaluator.dataloader.dataset")
    assert (
        note.startswith(f"evaluator.dataloader.dataset reads the sample pictures ({path})") and "mine/parts.csv" in note
    )


def test_a_link_to_the_samples_counts_and_so_does_their_whole_path(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "samples").symlink_to(tmp_path / "elsewhere")
    whole = {"type": "FolderDataset", "kwargs": {"data_dir": str(tmp_path / "data" / "samples" / "cls")}}
    assert left_over(MINE, whole, "x") and not left_over(whole, SAMPLES, "x")


@pytest.mark.parametrize(
    ("training", "judging"),
    [(SAMPLES, SAMPLES), (SAMPLES, MINE), (MINE, MINE), (MINE, {"type": "T"}),
     (MINE, {"type": "T", "kwargs": {"data_dir": "data/samples2"}})],
)  # fmt: skip
def test_what_belongs_together_is_no_matter(training, judging):
    assert left_over(training, judging, "x") == ""


def test_a_check_lists_it_of_every_set_that_judges():
    from dao.commands.check import inherited

    judges = {"calibration.dataloader.dataset": SAMPLES, "evaluator.dataloader.dataset": SAMPLES}
    notes = inherited({"dataloader.dataset": MINE, **judges, "images": SAMPLES})
    assert [note.split(" ")[0] for note in notes] == list(judges)
    assert inherited(judges) == [] and inherited({"dataloader.dataset": SAMPLES, **judges}) == []
