"""What a model's card lacks is filled in when it is read, so that what was looked at is what answers."""

import json

import numpy as np
import pytest

from dao.answers.card import ModelCard
from dao.answers.kinds import answer_class

PREPROCESS = {"size": [16, 16], "resize": "stretch", "mean": [0.5], "std": [0.5], "in_channels": 3}
BOXES = {"boxes": np.array([[[1, 1, 5, 5]]]), "scores": np.array([[0.6]]), "labels": np.array([[1]])}
DENSE = {"dense": np.array([[[3, 3, 4, 4, 1.0, 0.1, 0.6]]])}
MASKS = {"probabilities": np.full((1, 2, 4, 4), 0.5), "class_map": np.zeros((1, 4, 4))}


@pytest.mark.parametrize(
    ("task", "facts", "outputs", "bad"),
    [
        ("det", {}, BOXES, True),  # from a score of 0.3 on
        ("det", {"shown_threshold": 0.7}, BOXES, False),
        ("det", {"raw": True}, DENSE, True),
        ("seg", {}, MASKS, False),
        ("cls", {}, {"scores": np.array([[0.4, 0.6]])}, None),
    ],
)
def test_a_card_that_lacks_facts_answers_by_their_usual_values(task, facts, outputs, bad):
    card = ModelCard.from_json(
        json.dumps({"task": task, "classes": ["a", "b"], "preprocess": PREPROCESS, "facts": facts})
    )
    arrays = {
        name: values.astype(np.int64 if name in ("labels", "class_map") else np.float32)
        for name, values in outputs.items()
    }
    kind = answer_class(task)
    answer = kind.answer(lambda images: arrays, np.zeros((4, 4, 3), np.uint8), card)
    assert answer.bad is bad and answer.to_dict()["task"] == task and kind.caption(answer, card)
