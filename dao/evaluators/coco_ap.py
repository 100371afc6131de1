"""Average precision of boxes as COCO defines it, by faster-coco-eval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dao.structures import GroundTruth

COCO_IOUS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
AREAS = ("all", "small", "medium", "large")  # of the true box: up to 32 x 32 pixels, up to 96 x 96, above
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
        rows = [self.ious.index(iou) for iou in ious]
        part = self.values[rows][:, :, :, AREAS.index(area)]
        part = part if label is None else part[:, :, label]
        known = part[part > -1]
        return float(known.mean()) if known.size else float("nan")

    def curve(self, iou: float, label: int) -> NDArray[np.float64] | None:
        """(101,) precision over recall; None for a class without true boxes."""
        values = self.values[self.ious.index(iou), :, label, 0]
        return None if (values < 0).any() else values


def precision(
    pictures: Sequence[PictureBoxes], num_classes: int, extra_ious: Sequence[float] = (), max_detections: int = 100
) -> Precision:
    """COCO's precision array over all pictures. Ignored true boxes count neither as found nor as missed (iscrowd).

    extra_ious: thresholds beside COCO's ten. max_detections: the best of each picture and class that are counted.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    ious = tuple(sorted({*COCO_IOUS, *extra_ious}))
    truth = COCO(_truth(pictures, num_classes))
    found = truth.loadRes(_found(pictures))
    run = COCOeval_faster(truth, found, iouType="bbox")
    run.params.iouThrs = np.array(ious)
    run.params.maxDets = [max_detections]
    run.evaluate()
    run.accumulate()
    values = np.asarray(run.eval["precision"], np.float64).reshape(
        len(ious), len(RECALL_POINTS), num_classes, len(AREAS)
    )
    return Precision(values, ious)


def _truth(pictures: Sequence[PictureBoxes], num_classes: int) -> dict:
    annotations = []
    for number, picture in enumerate(pictures, start=1):
        truth = picture.truth
        for box, label, ignore in zip(as_xywh(truth.boxes_xyxy).tolist(), truth.labels, truth.ignore):
            row = {"id": len(annotations) + 1, "image_id": number, "category_id": int(label) + 1, "bbox": box}
            annotations.append({**row, "area": box[2] * box[3], "iscrowd": int(ignore)})
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
