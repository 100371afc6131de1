"""COCO's AP against faster-coco-eval's own summary; test_detection.py has the definition written out."""

import numpy as np
import pytest

from dao.evaluators.coco_ap import AREAS, COCO_IOUS, PictureBoxes, precision
from dao.structures import GroundTruth


def made_up(pictures=25, classes=4, seed=0, ignored=0.0):
    """True boxes of all sizes, found ones near most of them, and false alarms; the last class never occurs."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(pictures):
        count = int(rng.integers(0, 6))
        corner, sides = rng.uniform(0, 300, (count, 2)), rng.uniform(8, 180, (count, 2))
        boxes = np.concatenate([corner, corner + sides], axis=1)
        labels = rng.integers(0, classes - 1, count)
        keep = rng.random(count) < 0.85
        near = boxes[keep] + rng.normal(0, 0.08, (keep.sum(), 4)) * np.tile(sides[keep], 2)
        said = np.where(rng.random(keep.sum()) < 0.9, labels[keep], rng.integers(0, classes, keep.sum()))
        extra = int(rng.integers(0, 4))
        corner = rng.uniform(0, 300, (extra, 2))
        alarms = np.concatenate([corner, corner + rng.uniform(8, 180, (extra, 2))], axis=1)
        scores = np.concatenate([rng.uniform(0.3, 1, len(near)), rng.uniform(0, 0.7, extra)]).round(3)
        order = np.argsort(-scores, kind="stable")
        found.append(
            PictureBoxes(
                f"{number:03d}.png",
                (500, 500),
                GroundTruth(boxes.astype(np.float32), labels.astype(np.int64), rng.random(count) < ignored),
                np.concatenate([near, alarms])[order].astype(np.float32),
                np.concatenate([said, rng.integers(0, classes, extra)])[order].astype(np.int64),
                scores[order].astype(np.float32),
            )
        )
    return found


@pytest.fixture(scope="module")
def pictures():
    return made_up()


@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_equals_faster_coco_eval_run_directly(ignored):
    from faster_coco_eval import COCO, COCOeval_faster

    pictures = made_up(seed=3, ignored=ignored)
    content = {"images": [], "annotations": [], "categories": [{"id": k, "name": str(k)} for k in range(10, 14)]}
    results = []
    for n, p in enumerate(pictures):
        content["images"].append({"id": 7 * n, "width": 500, "height": 500})
        for (x0, y0, x1, y1), label, crowd in zip(p.truth.boxes_xyxy.tolist(), p.truth.labels, p.truth.ignore):
            row = {"id": len(content["annotations"]) + 1, "image_id": 7 * n, "category_id": 10 + int(label)}
            row |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": int(crowd)}
            content["annotations"].append(row)
        for (x0, y0, x1, y1), label, score in zip(p.boxes_xyxy.tolist(), p.labels, p.scores):
            row = {"image_id": 7 * n, "category_id": 10 + int(label), "bbox": [x0, y0, x1 - x0, y1 - y0]}
            results.append({**row, "score": float(score)})
    truth = COCO(content)
    run = COCOeval_faster(truth, truth.loadRes(results), iouType="bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    found = precision(pictures, 4, [0.33])
    ours = [found.ap(), found.ap([0.5]), found.ap([0.75]), *(found.ap(area=area) for area in AREAS[1:])]
    assert ours == pytest.approx(run.stats[:6], abs=1e-12)
    assert 0.1 < found.ap() < 0.9  # answers of which something can be wrong


def test_extra_overlaps_do_not_move_cocos_own(pictures):
    assert precision(pictures, 4, [0.33, 0.6125]).ap() == precision(pictures, 4).ap()
    assert len(COCO_IOUS) == 10 and COCO_IOUS[0] == 0.5 and COCO_IOUS[-1] == 0.95


def test_most_detections_are_counted_class_by_class():
    truth = GroundTruth(np.array([[0, 0, 10, 10]], np.float32), np.array([0]), np.array([False]))
    boxes = np.array([[50, 50, 60, 60], [0, 0, 10, 10]], np.float32)
    picture = PictureBoxes("", (99, 99), truth, boxes, np.array([0, 0]), np.array([0.9, 0.8], np.float32))
    assert precision([picture], 1, max_detections=1).ap([0.5]) == 0
    assert precision([picture], 1, max_detections=2).ap([0.5]) == pytest.approx(0.5)


def test_nothing_found_and_nothing_to_find():
    nothing = GroundTruth(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool))
    one = GroundTruth(np.array([[0, 0, 10, 10]], np.float32), np.array([0]), np.array([False]))
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)
    missed, empty = PictureBoxes("", (9, 9), one, *none), PictureBoxes("", (9, 9), nothing, *none)
    assert precision([missed, empty], 2).ap() == 0
    assert precision([missed, empty], 2).curve(0.5, 1) is None
    assert np.isnan(precision([empty], 2).ap())


def test_difficult_objects_cost_no_run_for_each_threshold(monkeypatch):
    from dataclasses import replace

    from dao.evaluators import coco_ap

    pictures = made_up(8)
    first = next(i for i, picture in enumerate(pictures) if len(picture.truth.labels))
    truth = pictures[first].truth
    difficult = np.arange(len(truth.labels)) == 0
    pictures[first].truth = replace(truth, ignore=truth.ignore | difficult, difficult=difficult)
    one_each = [coco_ap._run([coco_ap.without_difficult(p, t) for p in pictures], 4, (t,), 100)[0] for t in COCO_IOUS]
    runs = []
    whole = coco_ap._run
    monkeypatch.setattr(coco_ap, "_run", lambda *given: (runs.append(given[2]), whole(*given))[1])
    assert np.array_equal(precision(pictures, 4).values, np.stack(one_each))
    assert sum(runs, ()) == COCO_IOUS and len(runs) <= 3  # the boxes on one object: with it, and without it
