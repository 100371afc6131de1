"""A dataset, model or loss of one's own that does not hold to what is asked of it: one message, with its name."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dao.config.contracts import check_dataset
from dao.dataloaders.datasets.base import ImageDataset, Record
from dao.errors import ConfigError, DataError
from dao.losses.weighted_sum import WeightedSum
from dao.preprocess import Preprocess
from dao.tasks import build
from dao.tasks.classification import ClassificationTask
from dao.tasks.segmentation import SegmentationTask


class Gives(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, *arguments):
        return self.what(*arguments)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda a, b: torch.zeros(8), r"Gives returns a tensor of shape \(8,\); expected one number"),
        (lambda a, b: 0.5, "Gives returns a float"),
        (lambda a, b: torch.tensor(3), "Gives returns a tensor of shape"),
        (lambda a, b: {"part": torch.tensor(0.5)}, "Gives returns a NoneType"),
        (lambda a, b: None, "Gives returns a NoneType"),
    ],
)
def test_a_loss_that_returns_no_scalar_is_named(what, said):
    with pytest.raises(ConfigError, match=said):
        WeightedSum({"mine": Gives(what)}, {"mine": 1.0})(torch.zeros(1), torch.zeros(1))


@pytest.mark.parametrize(
    ("task", "what", "said"),
    [
        (ClassificationTask, lambda x: x.mean((2, 3))[:, :2], r"Gives gives a tensor of shape \(1, 2\).* \(1, 3\)"),
        (ClassificationTask, lambda x: {"logits": x}, "Gives gives a dict"),
        (SegmentationTask, lambda x: x[:, :, ::2, ::2], r"\(1, 3, 16, 16\).* \(1, 3, 32, 32\)"),
    ],
)
def test_a_model_with_the_wrong_outputs_is_named(task, what, said):
    with pytest.raises(ConfigError, match=said):
        build.check_input(Gives(what), Preprocess(size=(32, 32)), task.expected_output(3, (32, 32)))
    build.check_input(Gives(lambda x: x), Preprocess(size=(32, 32)), SegmentationTask.expected_output(3, (32, 32)))


@pytest.mark.parametrize(
    ("records", "classes", "said"),
    [
        (
            [Record("a.png", 0), Record("b.png", 2)],
            ["ok", "dent"],
            r"Mine gives b\.png the label 2; .* 0 to 1 \(ok, dent\)",
        ),
        ([Record("a.png", "dent")], ["ok", "dent"], r"the label 'dent'"),
        ([Record("a.png", label_set=(0, 5))], ["ok", "dent"], r"the label 5"),
        ([("a.png", 0)], ["ok"], "record without a path in text, number 0"),
        ([Record("a.png", 0)], [0, 1], "classes that are no text"),
    ],
)
def test_a_dataset_with_wrong_records_is_named(records, classes, said):
    from dao.dataloaders.census import Census

    dataset = SimpleNamespace(records=records, classes=classes, census=Census())
    with pytest.raises(ConfigError, match=said) as refused:
        check_dataset(dataset, "Mine", "dataloader.dataset")
    assert refused.value.problems[0].where == "dataloader.dataset.type"


def test_a_dataset_that_never_called_its_base_is_told_to(tmp_path):
    class Mine(ImageDataset):
        def __init__(self):
            self.classes = []

    with pytest.raises(ConfigError, match=r"Mine has no 'records': derive from .*ImageDataset"):
        check_dataset(Mine(), "Mine", "images")


@pytest.mark.parametrize("record", [("a.png", 0), SimpleNamespace(path=None)])
def test_records_that_are_none_are_refused_by_the_base(record):
    with pytest.raises(DataError, match=r"ImageDataset hands over a record that is none: expected a Record"):
        ImageDataset([record], ["ok"])
