"""What masks of defective pictures say of pixels, and what they do not."""

import numpy as np
import pytest
import torch

from dao.evaluators.anomaly import AnomalyEvaluator
from dao.structures import AnomalyTruth, Batch, Prediction

HW = (8, 8)
MARKED = np.zeros(HW, bool)
MARKED[2:5, 2:5] = True


def judged(*truths):
    """Pixel numbers of pictures whose maps are highest where MARKED."""
    heat = np.where(MARKED, 0.9, 0.1).astype(np.float32)
    heat[0, :4] = 0.95  # some good pixels look worse
    evaluator = AnomalyEvaluator(["good", "bad"])
    said = [
        Prediction(
            str(i), HW, label=1, raw_score=0.9, anomaly_score=0.6, anomaly_map=heat, raw_map=heat,
            mask=MARKED.astype(np.uint8),
        )
        for i in range(len(truths))
    ]  # fmt: skip
    paths = [str(i) for i in range(len(truths))]
    evaluator.update(said, Batch(torch.zeros(len(truths), 3, 8, 8), list(truths), paths, list(range(len(truths))), []))
    return {name: value for name, value in evaluator.compute().items() if name.startswith("pixel/")}


def test_a_mask_of_a_defective_picture_that_marks_nothing_counts_as_none():
    good, bad = AnomalyTruth("good", False, np.zeros(HW, bool)), AnomalyTruth("dent", True, MARKED)
    without = judged(good, bad, AnomalyTruth("dent", True, None))
    assert judged(good, bad, AnomalyTruth("dent", True, np.zeros(HW, bool))) == pytest.approx(without, nan_ok=True)
    # 9 marked pixels against 64 good ones of the good picture (9 of them equal, 4 higher) and 55 of the bad (4 higher)
    wins = (64 - 9 - 4) + 9 / 2 + (55 - 4)
    assert without["pixel/auroc"] == pytest.approx(wins / (64 + 55), abs=1e-6)
