from __future__ import annotations

import pytest

from dao.dataloaders.datasets.listfile import ListDataset
from dao.errors import DataError


@pytest.fixture
def write_list(folder_set):
    def write(text: str, labels: str | None = "dent\nscratch\n"):
        if labels is not None:
            (folder_set / "labels.txt").write_text(labels, encoding="utf-8")
        path = folder_set / "list.txt"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_names_indices_comments_and_paths_with_spaces(write_list, folder_set, make_picture):
    make_picture(folder_set / "my pictures" / "a b.png")
    path = write_list(
        "# made by hand\n\ntrain/dent/0.png dent\nmy pictures/a b.png   scratch\ntrain\\scratch\\1.png 1\n"
    )
    dataset = ListDataset(path)
    assert dataset.classes == ["dent", "scratch"]
    assert [r.label for r in dataset.records] == [0, 1, 1]
    assert [dataset.read(i).image.shape[2] for i in range(3)] == [3, 3, 3]


def test_an_index_means_the_labels_file_even_when_classes_are_in_another_order(write_list):
    path = write_list("train/dent/0.png 0\ntrain/scratch/0.png scratch\n")
    dataset = ListDataset(path, classes=["scratch", "dent"])
    assert [r.label for r in dataset.records] == [1, 0]


def test_without_labels_file_the_names_are_those_of_the_list(write_list):
    assert ListDataset(write_list("train/dent/0.png b\ntrain/dent/1.png a\n", labels=None)).classes == ["a", "b"]
    assert ListDataset(write_list("train/dent/0.png 10\ntrain/dent/1.png 9\n", labels=None)).classes == ["9", "10"]


def test_data_dir_and_ratio(write_list, folder_set, tmp_path):
    path = write_list("".join(f"{i}.png dent\n" for i in range(8)))
    parts = [
        ListDataset(path, data_dir=str(folder_set / "train" / "dent"), split=s, split_ratio={"a": 0.5, "b": 0.5})
        for s in ("a", "b")
    ]
    assert [len(part) for part in parts] == [4, 4]
    assert not {r.path for r in parts[0].records} & {r.path for r in parts[1].records}


def test_all_wrong_lines_are_named_at_once(write_list):
    with pytest.raises(DataError) as caught:
        ListDataset(write_list("a.png\ntrain/dent/0.png dent\nb.png\ntrain/dent/0.png scratch\n"))
    text = str(caught.value)
    assert "3 problems" in text and "line 1:" in text and "line 3:" in text
    assert "line 4: train/dent/0.png is listed already in line 2" in text
    with pytest.raises(DataError, match=r"(?s)line 1: 'dnt' is not a class. Nearest: dent.*line 2: '7' is not a class"):
        ListDataset(write_list("train/dent/0.png dnt\ntrain/dent/1.png 7\n"))


@pytest.mark.parametrize(
    ("text", "labels", "message"),
    [
        ("", None, "lists no pictures"),
        ("nothing/here.png dent\n", None, "the one picture of .* does not exist: .*data_dir"),
        ("train/dent/0.png dent\n", "dent\ndent\n", "each once; got twice: dent"),
    ],
)
def test_useless_lists_are_refused(write_list, text, labels, message):
    with pytest.raises(DataError, match=message):
        ListDataset(write_list(text, labels))


def test_missing_files_are_named(write_list):
    with pytest.raises(DataError, match=r"nolist.txt: the list file does not exist"):
        ListDataset("nolist.txt")
    with pytest.raises(DataError, match=r"nolabels.txt: the labels file does not exist"):
        ListDataset(write_list("train/dent/0.png dent\n"), labels_file="nolabels.txt")


def test_one_missing_picture_is_left_to_the_rule_for_unreadable_ones(write_list):
    dataset = ListDataset(write_list("train/dent/0.png dent\ngone.png dent\n"))
    assert len(dataset) == 2
    with pytest.raises(DataError, match=r"gone\.png: the file does not exist"):
        dataset.read(1)


def test_a_picture_listed_twice_by_two_spellings_is_refused(write_list):
    with pytest.raises(DataError, match=r"line 2: ./train/dent/0.png is listed already in line 1"):
        ListDataset(write_list("train/dent/0.png dent\n./train/dent/0.png scratch\n"))
