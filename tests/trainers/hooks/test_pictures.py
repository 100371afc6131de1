"""Pictures that go or change while a run lasts."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
from loguru import logger

from dao.dataloaders.datasets.folder import FolderDataset
from dao.dataloaders.fingerprint import fingerprint
from dao.structures import Unreadable
from dao.trainers.base import BadPictures
from dao.trainers.hooks.pictures import ChangedPictures


@pytest.fixture
def said():
    lines: list[str] = []
    number = logger.add(lambda line: lines.append(str(line)), level="WARNING", format="{message}")
    yield lines
    logger.remove(number)


@pytest.fixture
def trainer(tiny_data, tmp_path):
    root = shutil.copytree(tiny_data, tmp_path / "set")
    train, val = FolderDataset(str(root)), FolderDataset(str(root), "val")
    return SimpleNamespace(
        root=root, dataset=train, data_state=fingerprint(train.records), eval_loader=SimpleNamespace(dataset=val),
        eval_bad=BadPictures(len(val)), epoch=0, metrics_epoch=0, best={},
    )  # fmt: skip


def test_a_validation_picture_that_disappears_in_mid_run_is_named_with_the_best(trainer, said):
    hook = ChangedPictures()
    hook.before_train(trainer)
    hook.after_epoch(trainer)
    trainer.best = {"epoch": 1, "value": 0.5}
    gone = trainer.root / "val" / "red" / "0.png"
    gone.unlink()
    for trainer.epoch in (1, 2):
        trainer.metrics_epoch = trainer.epoch
        trainer.eval_bad.reasons[str(gone)] = "the file does not exist"
        hook.after_epoch(trainer)
    (line,) = said  # once, not every epoch
    assert (
        line.startswith("epoch 2 was validated without 1 picture")
        and "best one (epoch 1)" in line
        and str(gone) in line
    )
    hook.after_train(trainer)
    assert "the validation pictures were changed while the run lasted: of 12 pictures 1 changed" in said[1]
    assert len(said) == 2


def test_what_could_never_be_read_is_no_other_set(trainer, said):
    hook = ChangedPictures()
    trainer.eval_bad.add_one(Unreadable("x.png", 0, "damaged"))
    said.clear()
    for trainer.epoch in (0, 1):
        trainer.metrics_epoch = trainer.epoch
        hook.after_epoch(trainer)
    assert said == []
    resumed = ChangedPictures()
    resumed.load_state_dict(hook.state_dict())
    trainer.eval_bad.reasons["y.png"] = "gone"
    resumed.after_epoch(trainer)
    assert len(said) == 1 and "y.png" in said[0] and "x.png" not in said[0]


def test_a_picture_replaced_in_mid_run_is_said_at_the_end_by_size_and_date(trainer, said):
    hook = ChangedPictures()
    hook.before_train(trainer)
    shutil.copy(trainer.root / "train" / "red" / "0.png", trainer.root / "train" / "red" / "1.png")
    hook.after_train(trainer)
    (line,) = said
    assert line.startswith("the training pictures were changed while the run lasted: of 24 pictures 1 c")
    said.clear()
    trainer.data_state = fingerprint(trainer.dataset.records)
    hook.after_train(trainer)
    assert said == []
