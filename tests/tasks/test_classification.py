"""The classification task: scores, losses that do not fit the data, heat maps."""

import numpy as np
import pytest
import torch

from dao.errors import ConfigError
from dao.losses import cross_entropy, focal  # noqa: F401 (registered)
from dao.losses.weighted_sum import build_loss
from dao.models.classification.timm_classifier import timm_classifier
from dao.preprocess import Preprocess
from dao.register import import_all_modules_for_register
from dao.structures import Batch
from dao.tasks.base import ModelCard
from dao.tasks.classification import ClassificationTask


def make(loss=None, multi_label=False, model="test_resnet"):
    torch.manual_seed(0)
    network = timm_classifier(model, num_classes=3)
    return ClassificationTask(network, Preprocess(size=[32, 32]), list("abc"), loss, {"multi_label": multi_label})


def batch(targets):
    images = torch.randint(0, 256, (len(targets), 3, 32, 32), dtype=torch.uint8)
    paths = [f"{i}.png" for i in range(len(targets))]
    return Batch(images, targets, paths, list(range(len(paths))), [(50, 60)] * len(paths))


def test_scores_are_softmax_and_predictions_carry_path_and_size():
    task = make()
    task.model.eval()
    given = batch(torch.tensor([0, 2]))
    predictions = task.predict(given)
    logits = task.model(task.preprocess.normalise(given.images))
    np.testing.assert_allclose(predictions[1].scores, logits.softmax(1)[1].detach().numpy(), rtol=1e-5)
    assert [p.path for p in predictions] == given.paths and predictions[0].original_hw == (50, 60)


def test_several_labels_are_sigmoid_over_threshold():
    task = make(multi_label=True)
    task.model.eval()
    prediction = task.predict(batch(torch.zeros(1, 3)))[0]
    assert prediction.labels == np.flatnonzero(prediction.scores >= 0.5).tolist()


def test_the_threshold_is_a_fact_of_the_card():
    task = make(multi_label=True)
    task.model.eval()
    given = batch(torch.zeros(1, 3))
    low = task.with_facts({"threshold": 0.01})
    assert (task.card().facts["threshold"], low.card().facts["threshold"]) == (0.5, 0.01)
    prediction = low.predict(given)[0]
    assert prediction.labels == [0, 1, 2] and task.describe(prediction, low.card())["labels"] == list("abc")
    assert task.caption(prediction, low.card()).startswith(f"a {prediction.scores[0]:.2f}, b ")
    nothing = task.with_facts({"threshold": 0.99}).predict(given)[0]
    assert nothing.labels == [] and task.caption(nothing, low.card()) == "no label"


@pytest.mark.parametrize(
    ("several", "facts", "what"),
    [
        (False, {"threshold": 0.3}, "facts.threshold +no class is known to mean a good part"),
        (True, {"threshold": 1.5}, "facts.threshold +expected above 0, at most 1, got 1.5"),
        (True, {"threshold": "0.3"}, "facts.threshold +expected above 0, at most 1, got '0.3'"),
        (True, {"multi_label": False}, "facts.multi_label +is what the model was trained for"),
        (True, {"treshold": 0.3}, "facts.treshold +is no fact of this model; it has: multi_label, threshold"),
    ],
)
def test_facts_that_are_refused(several, facts, what):
    with pytest.raises(ConfigError, match=what):
        make(multi_label=several).with_facts(facts)


def test_softmax_losses_are_refused_for_several_labels():
    import_all_modules_for_register()  # what can be used instead is looked up among all losses
    loss = build_loss({"type": "CrossEntropyLoss"}, num_classes=3, class_counts=[1, 1, 1])
    with pytest.raises(ConfigError, match="use BCEWithLogitsLoss"):
        make(loss, multi_label=True)


def test_training_step_names_its_losses_and_has_a_gradient():
    sections = [{"type": "CrossEntropyLoss", "name": "ce"}, {"type": "FocalLoss", "weight": 0.5}]
    task = make(build_loss(sections, num_classes=3, class_counts=[1, 1, 1]))
    losses = task.training_step(batch(torch.tensor([0, 1])))
    assert losses.keys() == {"loss", "ce", "focal"}
    losses["loss"].backward()
    assert next(task.model.parameters()).grad.abs().sum() > 0


def test_an_empty_batch_has_no_predictions():
    assert make().predict(batch(torch.zeros(0, dtype=torch.int64))) == []


def test_using_answers_with_other_weights_and_restores():
    task, other = make(), timm_classifier("test_resnet", num_classes=3)
    own = task.model.train()
    with task.using(other):
        assert task.model is other and not other.training
    assert task.model is own and own.training


def test_heatmap_lies_where_the_evidence_is():
    """A network that only sums red pixels must look at the red corner."""
    task = make()
    task.model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 3, 1, bias=False), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    with torch.no_grad():
        task.model[0].weight.zero_()
        task.model[0].weight[1, 0] = 1.0
    image = torch.zeros(1, 3, 32, 32)
    image[:, 0, 20:28, 2:10] = 1
    from dao.structures import Prediction

    heat = task.heatmap(image, Prediction(label=1))
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert heat.shape == (32, 32) and 20 <= y < 28 and 2 <= x < 10


def test_a_model_without_a_spatial_map_has_no_heatmap():
    from dao.structures import Prediction

    task = make()
    task.model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 3))
    assert task.heatmap(torch.zeros(1, 3, 32, 32), Prediction(label=0)) is None


def test_card_survives_json_and_newer_fields():
    card = make(multi_label=True).card()
    text = card.to_json()
    assert ModelCard.from_json(text) == card
    assert ModelCard.from_json(text[:-1] + ', "later": 1}') == card
