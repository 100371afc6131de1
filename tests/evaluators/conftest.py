"""Made-up answers of a classifier, and the way to hand them to an evaluator."""

import numpy as np
import pytest
import torch

from dao.structures import Batch, Prediction


@pytest.fixture
def feed():
    """``feed(evaluator, scores, targets, indices)``: one update; targets None for unlabelled pictures.

    Targets with several labels are answered with the labels from ``threshold`` on.
    """

    def run(evaluator, scores, targets, indices=None, folder="pictures", threshold=0.5):
        scores = np.asarray(scores, np.float32)
        indices = list(range(len(scores))) if indices is None else [int(i) for i in indices]
        paths = [f"{folder}/{i:03d}.png" for i in indices]
        predictions = [Prediction(path=p, scores=s, label=int(s.argmax())) for p, s in zip(paths, scores)]
        for prediction in predictions if np.ndim(targets) == 2 else ():
            prediction.labels = np.flatnonzero(prediction.scores >= threshold).tolist()
        targets = None if targets is None else torch.as_tensor(np.asarray(targets))
        size = len(scores)
        evaluator.update(predictions, Batch(torch.zeros(size, 1, 1, 1), targets, paths, indices, [(8, 8)] * size))
        return evaluator

    return run


@pytest.fixture
def answers():
    """(scores (200, 5), labels (200,)): right about four times in five; class 3 has no picture."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 4], 200, p=[0.4, 0.3, 0.2, 0.1])
    logits = rng.normal(size=(200, 5)) * 1.2
    logits[np.arange(200), labels] += 2.2
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return scores.astype(np.float32), labels
