import pytest
import torch

from dao.errors import ConfigError
from dao.losses import bce, cross_entropy, focal, kl_div
from dao.losses.base import as_distribution, balanced_weights, listed_weights


def test_balanced_weights_by_hand():
    # n = 40, K = 3: 40 / (3 * 10), 40 / (3 * 20), 40 / (3 * 10)
    assert balanced_weights([10, 20, 10], "w").tolist() == pytest.approx([4 / 3, 2 / 3, 4 / 3])


def test_balanced_needs_counts_and_pictures_of_every_class():
    with pytest.raises(ConfigError, match=r"w .*does not give"):
        balanced_weights(None, "w")
    with pytest.raises(ConfigError, match=r"class 1, 3"):
        balanced_weights([3, 0, 2, 0], "w")


@pytest.mark.parametrize(
    ("weights", "match"), [([1.0, 2.0], "expected 3"), ([1.0, -1.0, 1.0], "from 0 up"), ([0.0] * 3, "not all")]
)
def test_listed_weights_are_checked(weights, match):
    with pytest.raises(ConfigError, match=match):
        listed_weights(weights, 3, "loss.kwargs.class_weights")


def test_indices_become_one_hot_also_for_pixels():
    target = torch.tensor([[[0, 2]], [[1, 1]]])
    hot = as_distribution(target, torch.zeros(2, 3, 1, 2))
    assert torch.equal(hot, torch.nn.functional.one_hot(target, 3).permute(0, 3, 1, 2).float())


def test_a_single_output_takes_index_as_presence():
    assert as_distribution(torch.tensor([0, 1, 1]), torch.zeros(3, 1)).tolist() == [[0.0], [1.0], [1.0]]


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ConfigError, match=r"\(4, 3\).*\(4, 1\)"):
        as_distribution(torch.zeros(4, 1), torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("loss", "kwargs", "wrong"),
    [
        (focal.FocalLoss, {"gamma": -0.5}, "gamma"),
        (focal.FocalLoss, {"alpha": 1.5}, "alpha"),
        (cross_entropy.CrossEntropyLoss, {"label_smoothing": 1.1}, "label_smoothing"),
        (bce.BCEWithLogitsLoss, {"label_smoothing": -0.1}, "label_smoothing"),
        (kl_div.KLDivLoss, {"temperature": 0}, "temperature"),
    ],
)
def test_settings_outside_their_limits_are_named(loss, kwargs, wrong):
    assert [p.where for p in loss.check_config(kwargs, "loss.kwargs")] == [f"loss.kwargs.{wrong}"]


def test_settings_within_limits_pass():
    assert focal.FocalLoss.check_config({"gamma": 0, "alpha": [5.0, 1.0]}, "loss.kwargs") == []
    assert cross_entropy.CrossEntropyLoss.check_config({"label_smoothing": 1}, "loss.kwargs") == []
