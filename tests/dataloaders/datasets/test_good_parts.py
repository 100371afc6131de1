"""Which folder or label of an anomaly set holds the good parts, where nobody says so."""

import cv2
import numpy as np
import pytest
from loguru import logger

from dao.dataloaders.datasets.anomaly import MVTecDataset
from dao.dataloaders.datasets.anomaly_own import AnomalyCsvDataset, AnomalyFolderDataset, VisADataset
from dao.errors import DataError


def fill(root, **folders):
    """So many pictures in each folder; "/" is written "__"."""
    for name, count in folders.items():
        folder = root / name.replace("__", "/")
        folder.mkdir(parents=True)
        for i in range(count):
            cv2.imwrite(str(folder / f"{i}.png"), np.full((4, 5), i, np.uint8))
    return root


def table(root, labels, header="image,label"):
    for i in range(len(labels)):
        cv2.imwrite(str(root / f"{i}.png"), np.full((4, 5), i, np.uint8))
    path = root / "parts.csv"
    path.write_text("\n".join([header, *(f"{i}.png,{label}" for i, label in enumerate(labels))]), encoding="utf-8")
    return str(path)


@pytest.fixture
def said():
    lines = []
    sink = logger.add(lambda message: lines.append(str(message)), level="INFO")
    yield lines
    logger.remove(sink)


@pytest.mark.parametrize("name", ["good", "OK", "01_i.O.", "合格", "bueno", "ＯＫ", "годен"])
def test_the_one_folder_or_label_that_means_good_is_taken_and_said(name, tmp_path, said):
    fill(tmp_path, **{name: 5, "crack": 2})
    train, test = (AnomalyFolderDataset(str(tmp_path), split) for split in ("train", "test"))
    assert len(train) == 4 and {r.kind for r in train.records} == {"good"}
    assert test.class_counts() == [1, 2] and test.kinds == ["crack"] and test.classes == ["good", "bad"]
    assert sum(f"the folder '{name}' holds the good parts" in line for line in said) == (0 if name == "good" else 2)
    rows = AnomalyCsvDataset(table(tmp_path, [name] * 5 + ["crack"] * 2), split="test")
    assert rows.class_counts() == [1, 2] and rows.kinds == ["crack"]
    assert any(f"the label '{name}' holds the good parts" in line for line in said) == (name != "good")


def test_no_known_name_or_several_are_refused_with_the_names_and_the_setting(tmp_path):
    fill(tmp_path, fine=2, crack=2)
    words = r"no folder means a good part.*crack, fine.*dataset\.kwargs\.good"
    with pytest.raises(DataError, match=words):
        AnomalyFolderDataset(str(tmp_path))
    assert len(AnomalyFolderDataset(str(tmp_path), good="fine", test_ratio=0.0)) == 2
    fill(tmp_path, OK=2, gut=2)
    several = r"2 folders mean a good part by their names: OK, gut.*dataset\.kwargs\.good"
    with pytest.raises(DataError, match=several):
        AnomalyFolderDataset(str(tmp_path))
    assert AnomalyFolderDataset(str(tmp_path), "test", good="gut").kinds == ["OK", "crack", "fine"]
    assert AnomalyFolderDataset(str(tmp_path), "test", bad=["OK", "crack"]).kinds == ["OK", "crack"]  # gut is left
    with pytest.raises(DataError, match=r"no label means.*crack, fine.*dataset\.kwargs\.good"):
        AnomalyCsvDataset(table(tmp_path, ["fine", "crack"]))
    with pytest.raises(DataError, match=r"2 labels mean a good part by their names: OK, gut"):
        AnomalyCsvDataset(table(tmp_path, ["OK", "gut", "crack"]))


def test_a_folder_of_masks_is_not_asked_and_mvtecs_layout_is_recognised(tmp_path):
    fill(tmp_path / "own", ok=3, crack=1, normal__crack=1)
    own = str(tmp_path / "own")
    assert AnomalyFolderDataset(own, "test", mask_dir=f"{own}/normal").kinds == ["crack"]
    fill(tmp_path / "mvtec", train__good=3, test__crack=1)
    with pytest.raises(DataError, match="use MVTecDataset"):
        AnomalyFolderDataset(str(tmp_path / "mvtec"))


def test_a_defect_that_is_called_good_is_refused(tmp_path):
    """It would count as a good part in every report."""
    fill(tmp_path / "own", good=1, passed=3, crack=1)
    own = str(tmp_path / "own")
    with pytest.raises(DataError, match="the folder 'good' would be a kind of defect"):
        AnomalyFolderDataset(own, good="passed")
    assert AnomalyFolderDataset(own, "test", good="passed", bad=["crack"]).kinds == ["crack"]
    with pytest.raises(DataError, match="the label 'good' would be a kind of defect"):
        AnomalyCsvDataset(table(tmp_path, ["passed", "good"]), good="passed")
    fill(tmp_path / "mvtec", train__passed=3, test__good=1)
    with pytest.raises(DataError, match="the folder 'good' would be a kind of defect"):
        MVTecDataset(str(tmp_path / "mvtec"), "test", good="passed")


def test_mvtecs_layout_with_folders_of_another_name(tmp_path):
    fill(tmp_path, train__ok=5, test__OK=2, test__crack=1, ground_truth__crack=1)
    root = str(tmp_path)
    train, test = MVTecDataset(root), MVTecDataset(root, "test")
    assert train.class_counts() == [5, 0]
    assert test.class_counts() == [2, 1] and test.kinds == ["crack"]
    with pytest.raises(DataError, match="no folder 'good'; it has: ok"):
        MVTecDataset(root, good="good")
    fill(tmp_path, train__pass=1, test__normal=1)
    with pytest.raises(DataError, match=r"2 folders mean a good part by their names: ok, pass"):
        MVTecDataset(root)
    with pytest.raises(DataError, match=r"2 folders mean a good part by their names: OK, normal"):
        MVTecDataset(root, "test")


def test_mvtecs_test_may_be_without_good_parts(tmp_path):
    fill(tmp_path, train__unnamed=2, test__crack=1)
    assert MVTecDataset(str(tmp_path), "test").class_counts() == [0, 1]
    with pytest.raises(DataError, match="no folder means a good part.*unnamed.*Expected train/good"):
        MVTecDataset(str(tmp_path))
    assert len(MVTecDataset(str(tmp_path), good="unnamed")) == 2


def test_visas_tables_with_a_label_of_another_name(tmp_path):
    rows = ["pcb,train,ok,0.png,", "pcb,test,ok,1.png,", "pcb,test,burnt,2.png,", "cap,train,passed,3.png,"]
    table(tmp_path, [""] * len(rows))  # for its pictures
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["object,split,label,image,mask", *rows]))
    settings = {"data_dir": str(tmp_path), "csv_file": str(path)}
    assert VisADataset(object="pcb", split="test", **settings).kinds == ["burnt"]
    assert VisADataset(object="pcb", split="test", good="ok", **settings).class_counts() == [1, 1]
    assert len(VisADataset(object="cap", **settings)) == 1
    with pytest.raises(DataError, match="no label is 'normal'"):
        VisADataset(object="cap", good="normal", **settings)
