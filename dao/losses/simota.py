"""SimOTA (Ge et al. 2021, YOLOX, section 2.1): which positions of a dense head answer for which object.

For every object a cost of every position is made of how well it says what and where. Each object takes as many of its
cheapest positions as its ten best overlaps add up to; a position that several want goes to the one it costs least.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dao.utils.boxes import cxcywh_to_xyxy, overlap

IOU_WEIGHT = 3.0  # of -log IoU against the class cost
OUTSIDE = 1e5  # cost of a position that is not in an object's box and near its centre
BEST_OVERLAPS = 10  # that are added up to an object's number of positions
LEAST_LOG = -100.0  # where binary cross entropy stops, as torch's does
LARGEST = 2**24  # elements of a (pictures, objects, positions) tensor that is made at once: 64 MB


class Assignment(NamedTuple):
    """What every position of a batch is to say; (B, A) each.

    objects: int64 index of the object in its picture's list, -1 where a position is background;
    ious: float32 overlap of the position's present box with its object's, 0 for background.
    """

    objects: Tensor
    ious: Tensor


@torch.no_grad()
def assign(
    boxes: Tensor,
    labels: Tensor,
    predicted: Tensor,
    class_logits: Tensor,
    object_logits: Tensor,
    grid: Tensor,
    strides: Tensor,
    center_radius: float = 2.5,
    largest: int = LARGEST,
) -> Assignment:
    """SimOTA for a whole batch; pictures share tensors as long as those stay below ``largest`` elements.

    boxes: (B, M, 4) float32 x0, y0, x1, y1; labels: (B, M) int64, -1 for no object.
    predicted: (B, A, 4) float32 cx, cy, w, h; class_logits: (B, A, K); object_logits: (B, A).
    grid: (A, 2) column and row; strides: (A,). center_radius: of the square round an object's centre, in strides.
    """
    pictures, count, positions = len(boxes), boxes.shape[1], len(grid)
    if count == 0:
        nobody = torch.full((pictures, positions), -1, device=boxes.device)
        return Assignment(nobody, torch.zeros_like(nobody, dtype=torch.float32))
    centers, reach = (grid + 0.5) * strides[:, None], strides * center_radius
    together = max(1, largest // (count * positions))
    per_picture = (boxes, labels, predicted.float(), class_logits.float(), object_logits.float())
    parts = [
        _assign_together(*(each[start : start + together] for each in per_picture), centers, reach)
        for start in range(0, pictures, together)
    ]
    return Assignment(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _assign_together(
    boxes: Tensor,
    labels: Tensor,
    predicted: Tensor,
    class_logits: Tensor,
    object_logits: Tensor,
    centers: Tensor,
    reach: Tensor,
) -> Assignment:
    """`assign` in tensors of (B, M, A). centers: (A, 2) of the positions in pixels; reach: (A,) pixels."""
    present = labels >= 0
    inside, near = geometry(boxes, centers, reach)
    candidate = ((inside | near) & present[..., None]).any(dim=1, keepdim=True)  # (B, 1, A): wanted by any object
    considered = candidate & present[..., None]
    ious = pairwise_iou(boxes, cxcywh_to_xyxy(predicted)).masked_fill_(~considered, 0)
    cost = class_cost(class_logits, object_logits, labels.clamp_min(0))
    cost = cost.sub_((ious + 1e-8).log_(), alpha=IOU_WEIGHT).add_((~(inside & near)).float(), alpha=OUTSIDE)
    cost = cost.masked_fill_(~considered, torch.inf)
    wanted = cheapest(cost, numbers_of_positions(ious))
    rivals = wanted.sum(dim=1)  # (B, A)
    objects = torch.where(rivals > 1, cost.argmin(dim=1), wanted.to(torch.uint8).argmax(dim=1))
    taken = rivals > 0
    won = ious.gather(1, objects[:, None]).squeeze(1)
    return Assignment(objects.where(taken, -1), won.where(taken, 0))


def geometry(boxes: Tensor, centers: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """(B, M, A) bool twice: positions inside an object's box, and those within ``reach`` of its centre on both axes.

    boxes: (B, M, 4) x0, y0, x1, y1; centers: (A, 2); reach: (A,).
    """
    x, y = centers[:, 0], centers[:, 1]
    x0, y0, x1, y1 = (side[..., None] for side in boxes.unbind(-1))
    inside = (x > x0) & (x < x1) & (y > y0) & (y < y1)
    near = ((x - (x0 + x1) / 2).abs() < reach) & ((y - (y0 + y1) / 2).abs() < reach)
    return inside, near


def pairwise_iou(boxes: Tensor, predicted: Tensor) -> Tensor:
    """(B, M, 4) against (B, A, 4), corners -> (B, M, A)."""
    intersection, union = overlap(boxes[:, :, None], predicted[:, None])
    return intersection.div_(union.clamp_min_(1e-16))


def class_cost(class_logits: Tensor, object_logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy, summed over the classes, of sqrt(p(class) p(object)) with an object's one-hot label.

    class_logits: (B, A, K); object_logits: (B, A); labels: (B, M) of 0..K-1. Returns (B, M, A).
    What all classes cost as absent is summed once for each position; each object then exchanges its own class's term.
    """
    p = (class_logits.sigmoid() * object_logits.sigmoid()[..., None]).sqrt_()
    absent = -torch.log1p(-p).clamp_min_(LEAST_LOG)
    exchange = absent.sum(-1, keepdim=True) - absent - p.log().clamp_min_(LEAST_LOG)  # (B, A, K): cost of each label
    index = labels[:, :, None].expand(-1, -1, p.shape[1])
    return exchange.transpose(1, 2).gather(1, index)


def numbers_of_positions(ious: Tensor) -> Tensor:
    """(B, M, A) overlaps -> (B, M) int64: how many positions each object takes (dynamic k), at least 1."""
    best = ious.topk(min(BEST_OVERLAPS, ious.shape[-1]), dim=-1).values
    return best.sum(-1).long().clamp_min_(1)


def cheapest(cost: Tensor, numbers: Tensor) -> Tensor:
    """(B, M, A) bool: the ``numbers`` (B, M) positions of finite cost that cost each object least."""
    most = min(BEST_OVERLAPS, cost.shape[-1])
    values, places = cost.topk(most, dim=-1, largest=False)
    chosen = (torch.arange(most, device=cost.device) < numbers[..., None]) & values.isfinite()
    return torch.zeros_like(cost, dtype=torch.bool).scatter_(-1, places, chosen)
