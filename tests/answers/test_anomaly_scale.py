"""A threshold of an anomaly model is a raw score, what is shown is another scale; numbers by hand."""

import numpy as np
import pytest

from dao.answers import anomaly
from dao.answers.anomaly import AnomalyAnswer
from dao.answers.anomaly_scale import normalised, raw_of
from dao.answers.card import ModelCard
from dao.preprocess.settings import PreprocessSettings

FACTS = {"picture_threshold": 16.0, "picture_typical": 8.0, "pixel_threshold": 4.0, "pixel_typical": 3.0}


@pytest.fixture
def warned(monkeypatch):
    found = []
    monkeypatch.setattr(anomaly, "warn", found.append)
    return found


def card(calibration="by the training pictures"):
    return ModelCard(
        "anomaly", ["good", "bad"], PreprocessSettings(size=(8, 8)).to_dict(), {**FACTS, "calibration": calibration}
    )


def test_a_threshold_of_the_scale_shown_is_warned_of_with_the_models_own_and_what_it_would_be_in_raw_units(warned):
    AnomalyAnswer.at(card(), {"threshold": 0.3}, "evaluator.kwargs")
    (said,) = warned
    assert said.startswith("evaluator.kwargs.threshold = 0.3 is far from this model's own picture_threshold, 16.")
    assert "0.3 stands at 0.01: good ones reach it and will be called bad" in said
    assert said.endswith("If 0.3 of the scale shown was meant, set 12.915")  # 16 - ln(7/3) * 8 / ln 9


@pytest.mark.parametrize(
    ("facts", "words"),
    [({"threshold": 11.9}, "called bad"), ({"threshold": 12}, ""), ({"picture_threshold": 24}, ""),
     ({"threshold": 24.1}, "called good"), ({"pixel_threshold": 5.1}, "own pixel_threshold, 4"), ({"threshold": 16}, ""),
     ({"min_area": 3}, "")],
)  # fmt: skip
def test_a_threshold_is_far_below_half_its_distance_from_the_middle_good_score_and_above_twice(facts, words, warned):
    AnomalyAnswer.at(card(), facts)
    assert len(warned) == bool(words) and all(words in said for said in warned)


def test_a_threshold_set_before_anything_was_calibrated_is_not_compared(warned):
    new = ModelCard("anomaly", ["good", "bad"], card().preprocess)
    AnomalyAnswer.at(new, {"threshold": 230})
    assert not warned


def test_a_card_of_before_calibration_was_told_in_words_is_compared(warned):
    AnomalyAnswer.at(card("none yet"), {"threshold": 230})
    assert len(warned) == 1


def test_the_raw_score_of_a_number_shown_is_shown_as_that_number():
    assert normalised(np.float64(raw_of(0.3, FACTS, "picture")), FACTS, "picture") == pytest.approx(0.3)
    assert (raw_of(0.5, FACTS, "picture"), raw_of(0.1, FACTS, "picture")) == (16, pytest.approx(8))
