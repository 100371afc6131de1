"""Average precision of boxes as COCO defines it, by faster-coco-eval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

from dao.structures import GroundTruth

COCO_IOUS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
COCO_MOST = 100  # boxes of a picture and class that COCO's own AP counts
AREAS = ("all", "small", "medium", "large")  # of the object: up to 32 x 32 pixels, up to 96 x 96, above
RECALL_POINTS = np.linspace(0, 1, 101)


@dataclass(slots=True)
class PictureBoxes:
    """One evaluated picture, in its own pixels: what is there, and what was found.

    boxes_xyxy: (N, 4) float32; labels: (N,) int64; scores: (N,) float32, falling.
    """

    path: str
    hw: tuple[int, int]
    truth: GroundTruth
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Precision:
    """values: (T, 101, K, 4) precision at each IoU threshold, recall point, class and area range; -1 where a class has
    no true box. ious: the T thresholds, rising."""

    values: NDArray[np.float64]
    ious: tuple[float, ...]

    def ap(self, ious: Sequence[float] = COCO_IOUS, label: int | None = None, area: str = "all") -> float:
        """Mean precision over recall points, thresholds and classes that have true boxes; NaN where none has."""
        rows, which = [self.ious.index(iou) for iou in ious], AREAS.index(area)
        # the class first: picking it out of all others of a thousand would read the whole table for each
        part = self.values[rows, :, :, which] if label is None else self.values[:, :, label, which][rows]
        known = part[part > -1]
        return float(known.mean()) if known.size else float("nan")

    def curve(self, iou: float, label: int) -> NDArray[np.float64] | None:
        """(101,) precision over recall; None for a class without true boxes."""
        values = self.values[self.ious.index(iou), :, label, 0]
        return None if (values < 0).any() else values


def precision(
    pictures: Sequence[PictureBoxes],
    num_classes: int,
    extra_ious: Sequence[float] = (),
    max_detections: int = COCO_MOST,
) -> Precision:
    """COCO's precision array over all pictures. Ignored true boxes count neither as found nor as missed: crowds by COCO's
    rule (iscrowd), difficult ones by VOC's. Small, medium and large go by the area that the annotations state of an
    object; where they state none, by that of its box.

    extra_ious: thresholds beside COCO's ten. max_detections: the best of each picture and class that are counted.
    """
    ious = tuple(sorted({*COCO_IOUS, *extra_ious}))
    if not any(picture.truth.difficult is not None for picture in pictures):
        return Precision(_run(pictures, num_classes, ious, max_detections), ious)
    rows = [
        _run([without_difficult(p, together[0]) for p in pictures], num_classes, together, max_detections)
        for together in _alike(pictures, ious)
    ]
    return Precision(np.concatenate(rows), ious)


def _alike(pictures: Sequence[PictureBoxes], ious: tuple[float, ...]) -> list[tuple[float, ...]]:
    """The thresholds in stretches at which the same found boxes lie on difficult objects: a run each takes the time of one
    over all of them."""
    special = [picture for picture in pictures if picture.truth.difficult is not None]
    kept = {t: b"".join(_not_on_difficult(picture, t).tobytes() for picture in special) for t in ious}
    return [tuple(together) for _, together in groupby(ious, kept.__getitem__)]


def _run(pictures: Sequence[PictureBoxes], num_classes: int, ious: tuple[float, ...], most: int) -> NDArray[np.float64]:
    """(T, 101, K, 4) by faster-coco-eval."""
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(_truth(pictures, num_classes))
    run = COCOeval_faster(truth, truth.loadRes(_found(pictures)), iouType="bbox")
    run.params.iouThrs = np.array(ious)
    run.params.maxDets = [most]
    run.evaluate()
    run.accumulate()
    return np.asarray(run.eval["precision"], np.float64).reshape(len(ious), len(RECALL_POINTS), num_classes, len(AREAS))


def overlaps(boxes_xyxy: NDArray[np.float32], truth: GroundTruth) -> NDArray[np.float64]:
    """(N, G) intersection over union; over the found box's own area where the true box is a crowd."""
    if not len(boxes_xyxy) or not len(truth.labels):
        return np.zeros((len(boxes_xyxy), len(truth.labels)))
    found, true = as_xywh(boxes_xyxy).tolist(), as_xywh(truth.boxes_xyxy).tolist()
    return np.asarray(coco_mask.iou(found, true, truth.crowd.astype(int).tolist()))


def on_difficult(overlap: NDArray[np.float64], truth: GroundTruth, iou_threshold: float) -> NDArray[np.bool_]:
    """(N,) found boxes that are neither right nor wrong by VOC's rule: the object that each overlaps most, by at least
    the threshold, is a difficult one.

    overlap: (N, G) with the objects of ``truth``, below 0 where the classes differ.
    """
    if truth.difficult is None or not overlap.size:
        return np.zeros(len(overlap), bool)
    no_crowd = np.where(truth.crowd, -1.0, overlap)
    best = no_crowd.max(axis=1)
    ordinary = np.where(truth.difficult, -1.0, no_crowd).max(axis=1)
    return (best >= iou_threshold) & (best > ordinary)


def without_difficult(picture: PictureBoxes, iou_threshold: float) -> PictureBoxes:
    """The picture without its difficult objects and the boxes that were found on them."""
    truth = picture.truth
    if truth.difficult is None:
        return picture
    kept = _not_on_difficult(picture, iou_threshold)
    boxes, labels, scores = (x[kept] for x in (picture.boxes_xyxy, picture.labels, picture.scores))
    others = replace(truth.take(~truth.difficult), difficult=None)
    return PictureBoxes(picture.path, picture.hw, others, boxes, labels, scores)


def _not_on_difficult(picture: PictureBoxes, iou_threshold: float) -> NDArray[np.bool_]:
    """(N,) found boxes that are right or wrong, see `on_difficult`."""
    overlap = overlaps(picture.boxes_xyxy, picture.truth)
    overlap[picture.labels[:, None] != picture.truth.labels[None]] = -1
    return ~on_difficult(overlap, picture.truth, iou_threshold)


def _truth(pictures: Sequence[PictureBoxes], num_classes: int) -> dict:
    annotations = []
    for number, picture in enumerate(pictures, start=1):
        truth = picture.truth
        boxes = as_xywh(truth.boxes_xyxy)
        areas = boxes[:, 2] * boxes[:, 3] if truth.area is None else truth.area
        for box, label, ignore, area in zip(boxes.tolist(), truth.labels, truth.ignore, areas.tolist()):
            row = {"id": len(annotations) + 1, "image_id": number, "category_id": int(label) + 1, "bbox": box}
            annotations.append({**row, "area": area, "iscrowd": int(ignore)})
    images = [{"id": i, "height": p.hw[0], "width": p.hw[1]} for i, p in enumerate(pictures, start=1)]
    categories = [{"id": i + 1, "name": str(i)} for i in range(num_classes)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _found(pictures: Sequence[PictureBoxes]) -> list[dict]:
    rows = []
    for number, picture in enumerate(pictures, start=1):
        boxes, labels, scores = as_xywh(picture.boxes_xyxy).tolist(), picture.labels.tolist(), picture.scores.tolist()
        rows += [
            {"image_id": number, "category_id": label + 1, "bbox": box, "score": score}
            for box, label, score in zip(boxes, labels, scores)
        ]
    return rows


def as_xywh(boxes_xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, 4) corners -> left, top, width, height, as COCO writes boxes."""
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
