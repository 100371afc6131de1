"""SimOTA (Ge et al. 2021, YOLOX, section 2.1): which positions of a dense head answer for which object.

For every object a cost of every position is made of how well it says what and where. Each object takes as many of its
cheapest positions as its ten best overlaps add up to; a position that several want goes to the one it costs least.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dao.models.detection.boxes import areas, cxcywh_to_xyxy

IOU_WEIGHT = 3.0  # of -log IoU against the class cost
OUTSIDE = 1e5  # cost of a position that is not in an object's box and near its centre
BEST_OVERLAPS = 10  # that are added up to an object's number of positions
LEAST_LOG = -100.0  # where binary cross entropy stops, as torch's does
# elements of a (pictures, objects, positions) tensor that is made at once: on a CPU 4 MB, which stay in its cache
# and with the allocator (measured: half the time of 64 MB); a GPU wants few, large steps
LARGEST = {"cpu": 2**20, "cuda": 2**24}


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
    largest: int | None = None,
) -> Assignment:
    """SimOTA for a whole batch; pictures share tensors as long as those stay below ``largest`` elements (None: the device's).

    boxes: (B, M, 4) float32 x0, y0, x1, y1; labels: (B, M) int64, -1 for no object.
    predicted: (B, A, 4) float32 cx, cy, w, h; class_logits: (B, A, K); object_logits: (B, A).
    grid: (A, 2) column and row; strides: (A,). center_radius: of the square round an object's centre, in strides.
    """
    pictures, count, positions = len(boxes), boxes.shape[1], len(grid)
    if count == 0:
        nobody = torch.full((pictures, positions), -1, device=boxes.device)
        return Assignment(nobody, torch.zeros_like(nobody, dtype=torch.float32))
    centers, reach = (grid + 0.5) * strides[:, None], strides * center_radius
    largest = largest or LARGEST.get(boxes.device.type, LARGEST["cuda"])
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
    present = (labels >= 0)[..., None]
    inside, near = geometry(boxes, centers, reach)
    considered = ((inside | near) & present).any(dim=1, keepdim=True) & present  # wanted by any object of the picture
    ious = pairwise_iou(boxes, cxcywh_to_xyxy(predicted)).masked_fill_(~considered, 0)
    cost = class_cost(class_logits, object_logits, labels.clamp_min(0))
    cost.sub_((ious + 1e-8).log_(), alpha=IOU_WEIGHT).add_(inside.logical_and_(near).logical_not_(), alpha=OUTSIDE)
    cost.masked_fill_(~considered, torch.inf)
    rivals, objects = choices(cost, numbers_of_positions(ious))
    picture, position = torch.nonzero(rivals > 1, as_tuple=True)
    objects[picture, position] = cost[picture, :, position].argmin(dim=1)
    overlaps = ious.gather(1, objects.clamp_min(0)[:, None]).squeeze(1)
    return Assignment(objects, overlaps.masked_fill_(objects < 0, 0))


def geometry(boxes: Tensor, centers: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """(B, M, A) bool twice: positions inside an object's box, and those within ``reach`` of its centre on both axes.

    boxes: (B, M, 4) x0, y0, x1, y1; centers: (A, 2); reach: (A,).
    """
    x, y = centers[:, 0], centers[:, 1]
    x0, y0, x1, y1 = (side[..., None] for side in boxes.unbind(-1))
    middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
    inside = (x > x0).logical_and_(x < x1).logical_and_(y > y0).logical_and_(y < y1)
    near = (x - reach < middle_x).logical_and_(x + reach > middle_x)
    return inside, near.logical_and_(y - reach < middle_y).logical_and_(y + reach > middle_y)


def pairwise_iou(boxes: Tensor, predicted: Tensor) -> Tensor:
    """(B, M, 4) against (B, A, 4), corners -> (B, M, A). In place where it can be: memory is what takes the time."""
    first, second = boxes[:, :, None].unbind(-1), predicted[:, None].unbind(-1)
    width, height = (
        torch.minimum(first[axis + 2], second[axis + 2]).sub_(torch.maximum(first[axis], second[axis])).clamp_min_(0)
        for axis in (0, 1)
    )
    common = width.mul_(height)
    union = torch.add(areas(boxes)[:, :, None], areas(predicted)[:, None]).sub_(common)
    return common.div_(union.clamp_min_(1e-16))


def class_cost(class_logits: Tensor, object_logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy, summed over the classes, of sqrt(p(class) p(object)) with an object's one-hot label.

    class_logits: (B, A, K); object_logits: (B, A); labels: (B, M) of 0..K-1. Returns (B, M, A).
    What all classes cost as absent is summed once for each position; each object then exchanges its own class's term.
    """
    p = (class_logits.sigmoid() * object_logits.sigmoid()[..., None]).sqrt_().transpose(1, 2)
    log_absent = torch.neg(p).log1p_().clamp_min_(LEAST_LOG)
    everything_absent = log_absent.sum(1, keepdim=True)
    index = labels[:, :, None].expand(-1, -1, p.shape[2])
    few = labels.shape[1] < p.shape[1]  # objects than classes: work on the smaller of the two
    if few:
        p, log_absent = p.gather(1, index), log_absent.gather(1, index)
    cost = log_absent.sub_(p.log_().clamp_min_(LEAST_LOG)).sub_(everything_absent)
    return cost if few else cost.gather(1, index)


def numbers_of_positions(ious: Tensor) -> Tensor:
    """(B, M, A) overlaps -> (B, M) int64: how many positions each object takes (dynamic k), at least 1."""
    best = ious.topk(min(BEST_OVERLAPS, ious.shape[-1]), dim=-1).values
    return best.sum(-1).long().clamp_min_(1)


def choices(cost: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Every object takes the ``numbers`` (B, M) positions of finite cost (B, M, A) that cost it least.

    Returns (B, A) int64 twice: how many objects took a position, and the last of them, -1 where none did.
    """
    pictures, count, positions = cost.shape
    most = min(BEST_OVERLAPS, positions)
    values, places = cost.topk(most, dim=-1, largest=False)
    taken = (torch.arange(most, device=cost.device) < numbers[..., None]) & values.isfinite()
    index = torch.arange(count, device=cost.device)[None, :, None].where(taken, -1)
    rivals = torch.zeros((pictures, positions), dtype=torch.int64, device=cost.device)
    rivals.scatter_add_(1, places.flatten(1), taken.flatten(1).long())
    objects = torch.full_like(rivals, -1).scatter_reduce_(1, places.flatten(1), index.flatten(1), "amax")
    return rivals, objects
