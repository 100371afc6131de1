"""Plain folders, a CSV file and VisA: who learns, who judges, and what is said of mistakes."""

import cv2
import numpy as np
import pytest

from dao.dataloaders.anomaly_reader import AnomalyDataloader
from dao.dataloaders.datasets.anomaly import MVTecDataset, kept_for_threshold
from dao.dataloaders.datasets.anomaly_own import AnomalyCsvDataset, AnomalyFolderDataset, VisADataset
from dao.dataloaders.transforms import build_transforms
from dao.errors import ConfigError, DataError
from dao.preprocess import Preprocess


def write(path, value, size=(10, 12)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(size, value, np.uint8))


@pytest.fixture
def folders(tmp_path):
    for i in range(20):
        write(tmp_path / "ok" / f"{i:02}.png", 10 * i)
    for kind in ("dent", "hole"):
        for i in range(3):
            write(tmp_path / kind / f"{i}.png", 200 + i)
    write(tmp_path / "masks" / "dent" / "0_mask.png", 255)
    return tmp_path


def paths(dataset, **where):
    return {r.path for r in dataset.records if all(getattr(r, k) == v for k, v in where.items())}


def test_folders_are_divided_once_and_for_all(folders):
    settings = {"data_dir": str(folders), "good": "ok", "mask_dir": str(folders / "masks")}
    train, val, test = (AnomalyFolderDataset(**settings, split=split) for split in ("train", "val", "test"))
    assert len(train) == 16 and train.class_counts() == [16, 0] and "4 good and 6 bad" in train.summary()
    assert paths(val) == paths(train, held_out=True) and len(val) == 3
    assert test.class_counts() == [4, 6] and test.kinds == ["dent", "hole"]
    assert not paths(train) & paths(test) and len(paths(train) | paths(test)) == 26
    assert paths(test) != paths(AnomalyFolderDataset(**settings, split="test", seed=1))
    index = next(i for i, r in enumerate(test.records) if r.path.endswith("dent/0.png"))
    assert test.read(index).mask.all() and len(paths(test, mask=None)) == 9


def test_only_the_bad_folders_that_are_named(folders):
    data = AnomalyFolderDataset(str(folders), "test", good="ok", bad=["hole"])
    assert data.kinds == ["hole"]
    with pytest.raises(DataError, match="no folder 'good'; it has: dent, hole, masks, ok"):
        AnomalyFolderDataset(str(folders), good="good")
    with pytest.raises(DataError, match="no folder 'scratch'"):
        AnomalyFolderDataset(str(folders), good="ok", bad=["scratch"])
    (folders / "empty").mkdir()
    with pytest.raises(DataError, match="no good pictures"):
        AnomalyFolderDataset(str(folders), good="empty")
    with pytest.raises(ConfigError, match="train, val, test"):
        AnomalyFolderDataset(str(folders), "exam", good="ok")


def table(folder, rows, header="image,label,mask,split,group"):
    path = folder / "parts.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


COLUMNS = {"good": "ok", "mask_column": "mask"}


def test_a_csv_with_splits(folders):
    rows = [f"ok/{i:02}.png,ok,,{'train' if i < 12 else 'val' if i < 16 else 'test'}," for i in range(20)]
    rows += ["dent/0.png,dent,masks/dent/0_mask.png,test,", "dent/1.png,dent,,val,", "dent/2.png,dent,,train,"]
    settings = {"csv_file": table(folders, rows), "split_column": "split", **COLUMNS}
    train, val, test = (AnomalyCsvDataset(**settings, split=split) for split in ("train", "val", "test"))
    assert len(paths(train, held_out=False)) == 12 and len(paths(train, held_out=True)) == 4
    assert "1 bad picture of the train split" in train.census.omissions()[0]
    assert val.class_counts() == [4, 1] and test.class_counts() == [4, 1]
    assert test.read(4).mask.all()


def test_a_csv_without_splits_keeps_groups_together(folders):
    rows = [f"ok/{i:02}.png,ok,,,part{i // 2}" for i in range(20)] + ["dent/0.png,dent,,,part3"]
    settings = {"csv_file": table(folders, rows), "group_column": "group", **COLUMNS}
    train, test = (AnomalyCsvDataset(**settings, split=split) for split in ("train", "test"))
    groups = [{r.group for r in data.records} for data in (train, test)]
    assert not groups[0] & groups[1] and "part3" in groups[1] and len(train) + len(test) == 21


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["ok/00.png,fine,,train,"], "no label is 'ok'"),
        (["ok/00.png,,,train,"], "line 2: needs a picture and its label"),
        (["ok/00.png,ok,,exam,"], "line 2: expected the split to be train, val, test, got 'exam'"),
        (["ok/00.png,ok,,train,", "ok/00.png,ok,,train,"], "listed already in line 2"),
        (["ok/00.png,ok,,train,", "./ok\\00.png,ok,,test,"], "listed already in line 2"),
        (["ok/00.png,ok,,train,", "dent/1.png,dent,masks/no.png,test,"], "masks do not exist"),
        ([], "lists no pictures"),
    ],
)
def test_mistakes_in_a_csv_are_one_message(folders, rows, words):
    with pytest.raises(DataError, match=words):
        AnomalyCsvDataset(table(folders, rows), split="test", split_column="split", **COLUMNS)


def test_a_mask_of_another_size_is_refused(folders):
    write(folders / "masks" / "hole" / "1.png", 255, (4, 4))
    data = AnomalyFolderDataset(str(folders), "test", good="ok", mask_dir=str(folders / "masks"))
    with pytest.raises(DataError, match="4x4 pixels"):
        data.read(next(i for i, r in enumerate(data.records) if r.path.endswith("hole/1.png")))


@pytest.fixture
def visa(tmp_path):
    rows = ["object,split,label,image,mask"]
    for name in ("candle", "pcb1"):
        for i in range(6):
            image = f"{name}/Data/Images/Normal/{i}.JPG"
            write(tmp_path / image, 100)
            rows.append(f"{name},{'train' if i < 4 else 'test'},normal,{image},")
        image, mask = f"{name}/Data/Images/Anomaly/0.JPG", f"{name}/Data/Masks/Anomaly/0.png"
        write(tmp_path / image, 50)
        write(tmp_path / mask, 3)
        rows.append(f"{name},test,anomaly,{image},{mask}")
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.mark.parametrize("layout", ["csv", "folders", "mvtec", "visa"])
def test_a_good_picture_whose_mask_marks_a_defect_is_left_out_and_named_in_every_layout(layout, tmp_path):
    """And one whose mask is empty, or cannot be read, is a good part."""
    places = {
        "csv": ("p", "m"),
        "folders": ("ok", "masks/ok"),
        "mvtec": ("test/good", "ground_truth/good"),
        "visa": ("p", "m"),
    }
    pictures, masks = (tmp_path / place for place in places[layout])
    for i in range(4):
        write(pictures / f"{i}.png", 10 * i)
    for i, value in enumerate((0, 1 if layout == "csv" else 255, 0)):
        write(masks / f"{i}.png", value)
    (masks / "2.png").write_bytes(b"torn")
    rows = [f"{i}.png" for i in range(4)]
    if layout == "csv":
        lines = [f"p/{name},ok,{f'm/{name}' if i < 3 else ''}\n" for i, name in enumerate(rows)]
        (tmp_path / "a.csv").write_text("image,label,mask\n" + "".join(lines))
        data = AnomalyCsvDataset(str(tmp_path / "a.csv"), split="test", mask_column="mask", good="ok", test_ratio=0.5)
    elif layout == "folders":
        data = AnomalyFolderDataset(str(tmp_path), "test", good="ok", mask_dir=str(tmp_path / "masks"), test_ratio=0.5)
    elif layout == "mvtec":
        write(tmp_path / "train" / "good" / "9.png", 99)
        data = MVTecDataset(str(tmp_path), "test")
    else:
        lines = [f"o,test,normal,p/{name},{f'm/{name}' if i < 3 else ''}\n" for i, name in enumerate(rows)]
        (tmp_path / "split_csv").mkdir()
        (tmp_path / "split_csv" / "1cls.csv").write_text("object,split,label,image,mask\n" + "".join(lines))
        data = VisADataset(str(tmp_path), "o", "test")
    found = sorted(record.path[-5:] for record in data.records)
    assert found == ["0.png", "2.png", "3.png"] or (layout in ("csv", "folders") and found and "1.png" not in found)
    (left_out,) = data.census.omissions()
    assert left_out.startswith("1 picture called good with a defect in the mask left out") and left_out.endswith(
        "1.png"
    )
    assert "1 mask of good pictures not readable and taken as empty" in data.census.adjustments()[0]
    assert not data.read(0).mask.any()


def test_visa_as_published(visa):
    train, test = (VisADataset(str(visa), "pcb1", split=split) for split in ("train", "test"))
    assert len(train) == 4 and test.class_counts() == [2, 1] and test.kinds == ["anomaly"]
    assert all("pcb1" in r.path for r in (*train.records, *test.records))
    assert test.read(2).mask.all()  # the number of a defect, not 255
    with pytest.raises(DataError, match="no object 'pcb9'.*candle, pcb1"):
        VisADataset(str(visa), "pcb9")


@pytest.mark.parametrize("shots", [1, 2, 4, 8])
def test_few_shots_are_learnt_whole_and_judged_by_other_views(folders, shots):
    settings = {"data_dir": str(folders), "good": "ok", "shots": shots, "repeat": 5}
    data = AnomalyFolderDataset(**settings)
    assert paths(data, held_out=True) == paths(data, held_out=False) and len(paths(data)) == shots
    assert sum(not r.held_out for r in data.records) == 5 * shots and sum(r.held_out for r in data.records) >= 16
    others = AnomalyFolderDataset(**settings, split="val")
    assert len(others) == 16 - shots and not paths(others) & paths(data)
    options = {"preprocess": Preprocess(size=(10, 12)), "training": True, "seed": 0, "num_workers": 0}
    with pytest.raises(ConfigError, match="dataset.transforms"):
        AnomalyDataloader(dataset=data, transforms=None, **options)
    shifts = build_transforms([{"type": "RandomBrightnessContrast", "kwargs": {"p": 1.0}}], "transforms")
    learnt = AnomalyDataloader(dataset=data, transforms=shifts, **options)
    judged = AnomalyDataloader(dataset=kept_for_threshold(data), transforms=shifts, **{**options, "training": False})
    seen = [[x.float().mean().item() for b in loader for x in b.images] for loader in (learnt, judged)]
    assert len(seen[0]) + len(seen[1]) == len(data) and all(len(set(own)) > shots for own in seen)


@pytest.mark.parametrize(("name", "value"), [("shots", 0), ("repeat", 0), ("shots", -1), ("region", "")])
def test_settings_out_of_range_are_named(folders, name, value):
    (problem,) = AnomalyFolderDataset.check_config({"data_dir": str(folders), name: value}, "kwargs")
    assert problem.where == f"kwargs.{name}"
    with pytest.raises(ConfigError):
        AnomalyFolderDataset(str(folders), good="ok", **{name: value})


def test_a_table_holds_out_no_more_than_the_others_do(folders, monkeypatch):
    monkeypatch.setattr("dao.dataloaders.datasets.anomaly.MOST_HELD_OUT", 3)
    rows = [f"ok/{i}.png,good,,{'val' if i < 8 else 'train'}," for i in range(16)]
    data = AnomalyCsvDataset(str(table(folders, rows)), split_column="split")
    assert len(paths(data, held_out=True)) == 3 and len(paths(data, held_out=False)) == 8


def test_a_region_belongs_to_the_training_set(folders, tmp_path):
    ring = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]
    settings = {"data_dir": str(folders), "good": "ok"}
    assert AnomalyFolderDataset(**settings, region=[ring]).region == [[ring]]
    with pytest.raises(ConfigError, match="belongs to the training set"):
        AnomalyFolderDataset(**settings, split="test", region=[ring])
    with pytest.raises(ConfigError, match="belongs to the training set"):
        AnomalyFolderDataset(**settings, split="val", region=[ring])
    with pytest.raises(ConfigError, match="0..1"):
        AnomalyFolderDataset(**settings, region=[[[0, 0], [10, 0], [10, 10]]])
    with pytest.raises(DataError, match="nowhere.png"):
        AnomalyFolderDataset(**settings, region=str(tmp_path / "nowhere.png"))
