"""SimOTA of a whole batch against the paper's procedure written out picture by picture, object by object."""

import math

import pytest
import torch

from dao.losses.simota import assign, numbers_of_positions
from dao.models.detection.head import positions

K, RADIUS = 4, 2.5


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / (area(a) + area(b) - common)


def entropy(p, target):
    return -(target * max(math.log(p), -100) + (1 - target) * max(math.log1p(-p), -100))


def slow(boxes, labels, predicted, cls, obj, grid, strides):
    """One picture: index of the object of every position (-1: none) and its overlap, by loops over numbers."""
    owner, overlap = [-1] * len(grid), [0.0] * len(grid)
    objects = [m for m, label in enumerate(labels) if label >= 0]
    if not objects:
        return owner, overlap
    inside, near = {}, {}
    for m in objects:
        x0, y0, x1, y1 = boxes[m]
        for a, ((gx, gy), stride) in enumerate(zip(grid, strides)):
            x, y = (gx + 0.5) * stride, (gy + 0.5) * stride
            inside[m, a] = x0 < x < x1 and y0 < y < y1
            near[m, a] = abs(x - (x0 + x1) / 2) < RADIUS * stride and abs(y - (y0 + y1) / 2) < RADIUS * stride
    candidates = [a for a in range(len(grid)) if any(inside[m, a] or near[m, a] for m in objects)]
    cost, ious, chosen = {}, {}, {a: [] for a in candidates}
    for m in objects:
        for a in candidates:
            cx, cy, w, h = predicted[a]
            ious[m, a] = iou(boxes[m], (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
            joint = [math.sqrt(torch.sigmoid(torch.tensor([c, obj[a]])).prod()) for c in cls[a]]
            what = sum(entropy(p, float(k == labels[m])) for k, p in enumerate(joint))
            apart = 0 if inside[m, a] and near[m, a] else 1e5
            cost[m, a] = what - 3 * math.log(ious[m, a] + 1e-8) + apart
        k = max(1, int(sum(sorted((ious[m, a] for a in candidates), reverse=True)[:10])))
        for a in sorted(candidates, key=lambda a: cost[m, a])[:k]:
            chosen[a].append(m)
    for a, wanted_by in chosen.items():
        if len(wanted_by) > 1:
            wanted_by = [min(objects, key=lambda m: cost[m, a])]
        if wanted_by:
            owner[a], overlap[a] = wanted_by[0], ious[wanted_by[0], a]
    return owner, overlap


def scene(seed, counts, side=96):
    """Random objects and random, sometimes good, predictions for pictures with the given numbers of objects."""
    torch.manual_seed(seed)
    grid, strides = positions([(side // s, side // s) for s in (8, 16, 32)], torch.device("cpu"))
    pictures, most = len(counts), max(counts)
    low = torch.rand(pictures, most, 2) * side * 0.7
    boxes = torch.cat([low, low + 4 + torch.rand(pictures, most, 2) * side * 0.4], -1)
    labels = torch.randint(0, K, (pictures, most))
    for b, count in enumerate(counts):
        absent = torch.randperm(most)[count:]  # anywhere in the list, not only at its end
        labels[b, absent] = -1
        boxes[b, absent] = 0
    centers = (grid + 0.5 + torch.randn(pictures, len(grid), 2) * 0.3) * strides[:, None]
    sizes = torch.exp(torch.randn(pictures, len(grid), 2) * 0.6) * strides[:, None] * 2
    predicted = torch.cat([centers, sizes], -1)
    return (
        boxes,
        labels,
        predicted,
        torch.randn(pictures, len(grid), K),
        torch.randn(pictures, len(grid)),
        grid,
        strides,
    )


@pytest.mark.parametrize(("seed", "counts"), [(0, [3, 0, 7]), (1, [1]), (2, [20, 5]), (3, [0, 0, 2])])
@pytest.mark.parametrize("largest", [2**24, 1])
def test_equals_the_slow_version(seed, counts, largest):
    boxes, labels, predicted, cls, obj, grid, strides = scene(seed, counts)
    found = assign(boxes, labels, predicted, cls, obj, grid, strides, RADIUS, largest)
    for b in range(len(counts)):
        owner, overlap = slow(
            boxes[b].tolist(), labels[b].tolist(), predicted[b].tolist(), cls[b].tolist(), obj[b].tolist(),
            grid.tolist(), strides.tolist(),
        )  # fmt: skip
        assert found.objects[b].tolist() == owner
        torch.testing.assert_close(found.ious[b], torch.tensor(overlap), atol=1e-5, rtol=1e-4)


def test_every_object_in_the_open_gets_a_position():
    boxes, labels, predicted, cls, obj, grid, strides = scene(4, [6])
    found = assign(boxes, labels, predicted, cls, obj, grid, strides)
    rivals = {int(m) for m in found.objects[0] if m >= 0}
    assert rivals <= set(range(6)) and len(rivals) >= 5  # one may lose its only position to a neighbour


def test_confident_and_hopeless_scores_stay_finite():
    boxes, labels, predicted, cls, obj, grid, strides = scene(5, [4])
    found = assign(boxes, labels, predicted, cls * 200, obj * 200, grid, strides)
    assert found.ious.isfinite().all() and (found.objects >= 0).any()


def test_no_objects_in_the_whole_batch():
    boxes, labels, predicted, cls, obj, grid, strides = scene(6, [2, 2])
    for none in (assign(boxes[:, :0], labels[:, :0], predicted, cls, obj, grid, strides),
                 assign(boxes, labels * 0 - 1, predicted, cls, obj, grid, strides)):  # fmt: skip
        assert (none.objects == -1).all() and (none.ious == 0).all()


def test_number_of_positions_is_the_sum_of_the_ten_best_overlaps():
    ious = torch.zeros(1, 3, 30)
    ious[0, 0, :20] = 0.5  # ten of them: 5
    ious[0, 1, :3] = 0.3  # 0.9: at least one
    assert numbers_of_positions(ious).tolist() == [[5, 1, 1]]
