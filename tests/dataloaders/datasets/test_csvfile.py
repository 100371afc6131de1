from __future__ import annotations

import pytest

from dao.dataloaders.datasets.csvfile import CsvDataset
from dao.errors import ConfigError, DataError


@pytest.fixture
def write_csv(folder_set):
    def write(text: str) -> str:
        path = folder_set / "list.csv"
        path.write_text(text, encoding="utf-8-sig")
        return str(path)

    return write


def test_plain_columns(write_csv):
    dataset = CsvDataset(write_csv("image,label\ntrain/dent/0.png,dent\ntrain/scratch/0.png,scratch\n"))
    assert dataset.classes == ["dent", "scratch"] and [r.label for r in dataset.records] == [0, 1]
    assert not dataset.multi_label and dataset.read(1).label == 1


def test_named_columns_delimiter_quotes_and_data_dir(write_csv, folder_set):
    path = write_csv('defect;file\n"dent";"0.png"\n dent ; 1.png \n')
    dataset = CsvDataset(path, str(folder_set / "train" / "dent"), "file", "defect", delimiter=";")
    assert len(dataset) == 2 and dataset.classes == ["dent"]
    dataset.read(1)


def test_split_column_numbers_classes_over_the_whole_file(write_csv):
    path = write_csv("image,label,part\ntrain/dent/0.png,dent,train\ntrain/scratch/0.png,scratch,val\n")
    dataset = CsvDataset(path, split_column="part", split="val")
    assert dataset.classes == ["dent", "scratch"] and dataset.class_counts() == [0, 1]
    with pytest.raises(DataError, match="no row has 'test' in column 'part'; it has: train, val"):
        CsvDataset(path, split_column="part", split="test")


def test_several_labels_a_picture(write_csv):
    path = write_csv("image,label\ntrain/dent/0.png,b|a\ntrain/dent/1.png,ok\ntrain/dent/2.png, c | a \n")
    dataset = CsvDataset(path, label_separator="|", none_label="ok")
    assert dataset.multi_label and dataset.classes == ["a", "b", "c"]
    assert [dataset.read(i).label_set.tolist() for i in range(3)] == [[1, 1, 0], [0, 0, 0], [1, 0, 1]]
    assert dataset.class_counts() == [2, 1, 1] and dataset.loss_total() == 3


def test_groups_stay_together(write_csv, folder_set):
    rows = "".join(f"train/dent/{i}.png,dent,part{i // 3}\n" for i in range(9))
    path = write_csv("image,label,part\n" + rows)
    ratio = {"train": 0.67, "val": 0.33}
    parts = [CsvDataset(path, group_column="part", split=s, split_ratio=ratio) for s in ratio]
    assert [len(part) for part in parts] == [6, 3]
    assert not {r.group for r in parts[0].records} & {r.group for r in parts[1].records}


def test_a_missing_label_is_an_error_that_names_every_row(write_csv):
    path = write_csv("image,label\ntrain/dent/0.png,\ntrain/dent/1.png,dent\ntrain/dent/2.png\ntrain/dent/3.png,  \n")
    for kwargs in ({}, {"label_separator": "|"}, {"label_separator": "|", "none_label": "ok"}):
        with pytest.raises(DataError) as caught:
            CsvDataset(path, **kwargs)
        text = str(caught.value)
        assert "3 problems" in text and all(f"line {n}: train/dent/{n - 2}.png has no label" in text for n in (2, 4, 5))


@pytest.mark.parametrize(
    ("text", "kwargs", "message"),
    [
        ("image,lable\na.png,x\n", {}, r"label_column 'label' is not in the header. Nearest: lable"),
        ("image;label\na.png;x\n", {}, r"The header has: image;label \(delimiter ','\)"),
        ("image,label\n", {}, "lists no pictures"),
        ("image,label\n,dent\n", {}, "line 2: no picture"),
        ("image,label\na.png,dent\na.png,scratch\n", {}, "a.png is listed already in line 2"),
        ("image,label\na.png,dent\n./a.png,scratch\n", {}, r"line 3: ./a.png is listed already in line 2"),
        ("image,label,label\na.png,dent,scratch\n", {}, "label_column 'label' is in the header 2 times"),
        ("image,label\na,b.png,dent\n", {}, "line 2: it has more cells than the header"),
        ('image,label\na.png,"dent\nb.png,dent\n', {}, "a quote is opened and not closed"),
        ('image,label\na.png,"dent\nb.png,dent"\n', {}, "goes over several lines; is a quote missing"),
        ('image,label,note\na.png,dent,"x\nb.png,dent,\n', {}, "a quote is opened and not closed"),
        (
            "image,label,part\na.png,dent\n",
            {"split_column": "part", "split": "x"},
            "line 2: it ends before the column 'part'",
        ),
        (f"image,label\na.png,{'x' * 200_000}\n", {}, "field larger than field limit"),
        (f"image,label\n{'x' * 300}.png,dent\n", {}, "no file can be called"),
        ("image,label\na\0.png,dent\n", {}, r"list\.csv"),
        ("image,label\na.png,²\n", {"classes": ["dent"]}, "'²' is not a class"),
        (f"image,label\na.png,{'9' * 5000}\n", {"classes": ["dent"]}, "is not a class"),
        ("image,label\na.png,dnt\n", {"classes": ["dent"]}, "line 2: 'dnt' is not a class. Nearest: dent"),
        ("image,label\na.png,1\n", {"classes": ["3", "5"]}, "'1' is not a class"),
        ("image,label\na.png,a||b\n", {"label_separator": "|"}, "empty label between separators"),
        ("image,label\na.png,a|ok\n", {"label_separator": "|", "none_label": "ok"}, "something else at once"),
    ],
)
def test_mistakes_are_explained(write_csv, text, kwargs, message):
    with pytest.raises(DataError, match=message):
        CsvDataset(write_csv(text), **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "key"),
    [
        ({"split": "val"}, "split"),
        ({"split_column": "part"}, "split"),
        ({"split_column": "part", "split": "a", "split_ratio": {"a": 1.0}}, "split_ratio"),
        ({"none_label": "ok"}, "none_label"),
        ({"delimiter": "tab"}, "delimiter"),
        ({"split_ratio": {"a": 1.0}}, "split"),
    ],
)
def test_contradicting_settings(kwargs, key):
    with pytest.raises(ConfigError) as caught:
        CsvDataset("unread.csv", **kwargs)
    assert [p.where for p in caught.value.problems] == [f"CsvDataset.{key}"]


def test_labels_that_look_like_numbers_and_are_none_are_names(write_csv):
    assert CsvDataset(write_csv("image,label\ntrain/dent/0.png,²\ntrain/dent/1.png,1\n")).classes == ["1", "²"]


@pytest.mark.parametrize("slip", ["Train", "tarin"])
def test_rows_whose_split_is_a_slip_are_refused_as_they_would_belong_to_no_split(tmp_path, slip):
    file = tmp_path / "x.csv"
    file.write_text(f"image,label,split\na.png,x,train\nb.png,y,{slip}\nc.png,x,val\nd.png,x,train2\n")
    with pytest.raises(DataError, match=f"1 row says {slip} in column 'split', which is not 'train'"):
        CsvDataset(str(file), split_column="split", split="train")
