"""From scored boxes to answers: the best of each place, in tensors of fixed size, safe to trace."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms

from dao.answers.suppression import AnswerSettings
from dao.errors import Problem

LARGEST = torch.finfo(torch.float32).max


def check_answers(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
    """What is wrong with those of a model's keywords that are `AnswerSettings`, before anything starts."""
    names = {field.name for field in fields(AnswerSettings)}
    return AnswerSettings(**{k: v for k, v in kwargs.items() if k in names}).problems(where)


class Answers(NamedTuple):
    """The boxes of a batch, the best first, padded to the same number D with score 0 and label -1.

    boxes: (B, D, 4) float32 x0, y0, x1, y1; scores: (B, D) float32; labels: (B, D) int64.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def not_finite(values: Tensor) -> Tensor:
    """(B, ...) -> (B,) bool: of which something is NaN or infinite; by a comparison, which every runtime has."""
    return (~(values.float().abs() <= LARGEST)).flatten(1).any(dim=1)


def choose(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    num_classes: int,
    input_hw: tuple[int, int],
    settings: AnswerSettings,
    lost: Tensor | None = None,
) -> Answers:
    """Score threshold, non-maximum suppression within each class, and a limit on how many.

    boxes: (B, A, 4) float32 x0, y0, x1, y1 in input pixels; scores: (B, A) 0..1; labels: (B, A) int64.
    lost: (B,) bool, pictures of which something was not finite before it came to these scores. A picture with a NaN or an
    infinity anywhere has nothing but NaN for scores: thresholds drop the one in silence, the picture's border cuts the
    other, and runtimes differ in what their maxima make of them.
    """
    unsound = not_finite(scores) | not_finite(boxes)
    unsound = unsound if lost is None else unsound | lost
    candidates = settings.candidates(scores.shape[1])
    scores, order = scores.topk(candidates, dim=1)
    labels = labels.gather(1, order)
    boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
    kept = suppress(boxes, scores, labels, num_classes, input_hw, settings)
    scores, order = (scores * kept).topk(min(candidates, settings.max_detections), dim=1)
    found = scores > 0
    boxes = torch.where(found[..., None], boxes.gather(1, order[..., None].expand(-1, -1, 4)), 0.0)
    scores = torch.where(unsound[:, None], torch.nan, scores)
    return Answers(boxes, scores, torch.where(found, labels.gather(1, order), -1))


def suppress(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    num_classes: int,
    input_hw: tuple[int, int],
    settings: AnswerSettings,
) -> Tensor:
    """(B, C) float 1 where a box is above the threshold and no better one of its picture and class hides it, else 0.

    One suppression for all pictures and classes: each pair of them gets a field of its own on a wide sheet, so that
    boxes of different ones never meet. The sheet grows in both directions: far from its corner float32 has few digits
    left for a fraction of a pixel.
    """
    batch, count = scores.shape
    height, width = input_hw
    side = 2 * max(height, width)
    low = torch.tensor([-width / 2, -height / 2] * 2, device=boxes.device)
    inside = boxes.clamp(min=low, max=low + side)
    columns = math.isqrt(num_classes - 1) + 1
    rows_a_picture = -(-num_classes // columns)
    picture = torch.arange(batch, device=boxes.device)[:, None]
    field = torch.stack((labels % columns, labels // columns + picture * rows_a_picture), dim=-1) * side
    placed = (inside + field.repeat(1, 1, 2)).flatten(0, 1)
    placed, rank = torch.cat((placed, _strangers(side, placed))), torch.cat((scores.flatten(), scores.new_ones(2)))
    alive = (rank >= settings.score_threshold).nonzero()[:, 0]
    kept = alive[nms(placed[alive], rank[alive], settings.nms_threshold)]
    return torch.zeros_like(rank).index_fill(0, kept, 1.0)[:-2].view(batch, count)


def _strangers(side: int, like: Tensor) -> Tensor:
    """(2, 4) boxes off the sheet, which are always kept: an exporter takes a count of 0 or 1 for a constant."""
    return -side * torch.tensor([[3.0, 3.0, 2.0, 2.0], [6.0, 6.0, 5.0, 5.0]], device=like.device, dtype=like.dtype)
