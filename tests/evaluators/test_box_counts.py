"""Found, missed, false alarm: by hand, by slow counting over scores, and consistent with each other."""

import numpy as np
import pytest

from dao.evaluators import box_counts
from dao.evaluators.box_counts import FALSE_ALARM, HIT, IGNORED
from dao.evaluators.coco_ap import PictureBoxes
from dao.structures import GroundTruth


def picture(truth, found):
    """truth: rows of (box, label, ignore); found: rows of (box, label, score)."""
    boxes, labels, ignore = zip(*truth) if truth else ([], [], [])
    there = GroundTruth(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.array(ignore, bool))
    found = sorted(found, key=lambda row: -row[2])
    boxes, labels, scores = zip(*found) if found else ([], [], [])
    return PictureBoxes(
        "p.png",
        (100, 100),
        there,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(scores, np.float32),
    )


A, B, FAR = (0, 0, 10, 10), (20, 20, 40, 40), (70, 70, 90, 90)
SHIFTED = (0, 0, 10, 8)  # overlaps A by 0.8


def counted(pictures, threshold=0.5):
    pairings = [box_counts.pair(p, threshold) for p in pictures]
    return pairings, box_counts.tabulate(pictures, pairings)


@pytest.mark.parametrize(
    ("truth", "found", "verdicts", "found_at"),
    [
        ([(A, 0, 0)], [(A, 0, 0.9), (SHIFTED, 0, 0.8)], [HIT, FALSE_ALARM], [0.9]),  # said twice
        ([(A, 0, 0)], [(A, 1, 0.9)], [FALSE_ALARM], [-1]),  # another class
        ([(A, 0, 0), (SHIFTED, 0, 0)], [(SHIFTED, 0, 0.9), (A, 0, 0.8)], [HIT, HIT], [0.8, 0.9]),  # each its own
        ([(A, 0, 1)], [(A, 0, 0.9), (SHIFTED, 0, 0.5)], [IGNORED, IGNORED], [-1]),  # as often as it likes
        ([(B, 0, 1)], [((20, 20, 30, 30), 0, 0.9)], [IGNORED], [-1]),  # inside a crowd: over its own area
        ([(A, 0, 0), (A, 0, 1)], [(A, 0, 0.9), (A, 0, 0.8)], [HIT, IGNORED], [0.9, -1]),  # real ones come first
        ([], [(A, 0, 0.9)], [FALSE_ALARM], []),
        ([(A, 0, 0)], [], [], [-1]),
    ],
)
def test_verdicts_by_hand(truth, found, verdicts, found_at):
    pairing = box_counts.pair(picture(truth, found), 0.5)
    assert pairing.verdict.tolist() == verdicts
    assert pairing.found_at.tolist() == pytest.approx(found_at)


def test_the_overlap_itself_suffices():
    assert box_counts.pair(picture([(A, 0, 0)], [(SHIFTED, 0, 0.5)]), 0.8).verdict.tolist() == [HIT]
    assert box_counts.pair(picture([(A, 0, 0)], [(SHIFTED, 0, 0.5)]), 0.81).verdict.tolist() == [FALSE_ALARM]


PICTURES = [
    picture([(A, 0, 0), (B, 1, 0)], [(A, 0, 0.9), (B, 1, 0.4), (FAR, 1, 0.6)]),
    picture([(A, 0, 0)], [(FAR, 0, 0.7)]),
    picture([], [(A, 0, 0.2)]),
    picture([(A, 1, 1)], [(A, 1, 0.95)]),
]


def test_counts_at_a_score_by_hand():
    _, matches = counted(PICTURES)
    total = box_counts.at_score(matches, 0.5, len(PICTURES))
    assert (total["boxes"], total["missed"], total["false_alarms"]) == (3, 2, 2)
    assert (total["recall"]["count"], total["recall"]["total"]) == (1, 3)
    assert total["precision"]["value"] == pytest.approx(1 / 3) and total["f1"] == pytest.approx(1 / 3)
    assert total["false_alarms_per_picture"] == 0.5
    of_b = box_counts.at_score(matches, 0.3, len(PICTURES), label=1)
    assert (of_b["boxes"], of_b["missed"], of_b["false_alarms"]) == (1, 0, 1)


def test_a_class_without_boxes_has_no_rates():
    _, matches = counted([picture([], [(A, 0, 0.9)])])
    found = box_counts.at_score(matches, 0.5, 1, label=0)
    assert found["recall"] is None and found["f1"] is None and found["false_alarms"] == 1
    assert box_counts.best_f1(matches) == {"f1": None, "score": None}


def made_up(seed):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(30):
        truth = [
            ((x, y, x + 12, y + 12), int(rng.integers(3)), bool(rng.random() < 0.1))
            for x, y in rng.uniform(0, 80, (int(rng.integers(0, 6)), 2))
        ]
        found = [
            (
                tuple(np.add(box, rng.normal(0, 1.5, 4))),
                label if rng.random() < 0.8 else int(rng.integers(3)),
                float(rng.random().__round__(2)),
            )
            for box, label, _ in truth
            if rng.random() < 0.9
        ]
        found += [
            ((x, y, x + 12, y + 12), int(rng.integers(3)), float(rng.random().__round__(2)))
            for x, y in rng.uniform(0, 80, (int(rng.integers(0, 4)), 2))
        ]
        rows.append(picture(truth, found))
    return rows


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_leaving_out_weak_boxes_equals_matching_without_them(seed):
    pictures = made_up(seed)
    _, matches = counted(pictures)
    for score in (0.2, 0.5, 0.8):
        strong = []
        for p in pictures:
            keep = p.scores >= np.float32(score)
            strong.append(PictureBoxes(p.path, p.hw, p.truth, p.boxes_xyxy[keep], p.labels[keep], p.scores[keep]))
        _, alone = counted(strong)
        wanted = {**box_counts.at_score(alone, 0.0, len(pictures)), "score": np.float32(score)}
        assert box_counts.at_score(matches, np.float32(score), len(pictures)) == wanted


@pytest.mark.parametrize("label", [None, 0, 2])
def test_best_f1_is_the_best_of_all_scores_tried(label):
    pictures = made_up(5)
    _, matches = counted(pictures)
    tried = {s: box_counts.at_score(matches, s, len(pictures), label)["f1"] for s in np.unique(matches.score)}
    best = box_counts.best_f1(matches, label)
    assert best["f1"] == pytest.approx(max(tried.values()))
    assert tried[best["score"]] == pytest.approx(best["f1"])


def test_confusion_by_hand():
    rows = [
        picture([(A, 0, 0), (B, 1, 0)], [(A, 0, 0.9), (B, 0, 0.8), (FAR, 1, 0.7), (B, 1, 0.1)]),
        picture([(A, 1, 1), (B, 0, 0)], [(A, 1, 0.9)]),
    ]
    pairings, _ = counted(rows)
    found = box_counts.confusion(rows, pairings, 2, 0.5, 0.5)
    assert found.tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("seed", [0, 1])
def test_confusion_agrees_with_the_counts(seed):
    pictures = made_up(seed)
    pairings, matches = counted(pictures)
    found = box_counts.confusion(pictures, pairings, 3, 0.5, 0.4)
    for label in range(3):
        counts = box_counts.at_score(matches, 0.4, len(pictures), label)
        assert found[label, label] == counts["recall"]["count"]
        assert found[label].sum() == counts["boxes"]
        assert found[:, label].sum() == counts["recall"]["count"] + counts["false_alarms"]
    assert found[3, 3] == 0


def test_the_rows_of_each_class_count_as_all_rows_asked_for_that_class():
    rng = np.random.default_rng(0)
    found, true = 200, 90
    matches = box_counts.Matches(
        rng.integers(0, 9, found), rng.integers(0, 5, found), rng.random(found), rng.integers(-1, 2, found),
        rng.integers(0, 9, true), rng.integers(0, 4, true), np.where(rng.random(true) < 0.5, -1, rng.random(true)),
    )  # fmt: skip
    for label, own in enumerate(box_counts.by_class(matches, 6)):  # class 5 has no box at all, class 4 no true one
        assert box_counts.at_score(own, 0.4, 9, label) == box_counts.at_score(matches, 0.4, 9, label)
        assert box_counts.best_f1(own, label) == box_counts.best_f1(matches, label)
