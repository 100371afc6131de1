"""The only things that travel between rooms: Sample, Batch, Prediction.

A `Sample` is one decoded picture with its target, a `Batch` is what the loader collates,
a `Prediction` is what leaves, always in the ORIGINAL picture's pixels.
Fields a task does not use stay ``None``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # what answers with a file has no torch
    import torch
    from torch import Tensor


@dataclass(slots=True)
class Sample:
    """One decoded picture.

    image: (H, W, C) uint8, RGB (C = 3) or grey (C = 1).
    path: where it was read from; index: its place in the dataset.
    original_hw: height and width in pixels before any resize.
    label: class index; label_set: (K,) float32 multi-hot, when a picture may carry several classes.
    mask: (H, W) integer class indices; boxes_xyxy: (N, 4) float32 pixels with box_labels (N,) int64.
    """

    image: NDArray[np.uint8]
    path: str
    index: int
    original_hw: tuple[int, int]
    label: int | None = None
    label_set: NDArray[np.float32] | None = None
    mask: NDArray[Any] | None = None
    boxes_xyxy: NDArray[np.float32] | None = None
    box_labels: NDArray[np.int64] | None = None


@dataclass(slots=True)
class Unreadable:
    """A picture that could not be decoded, or that the model had no answer to, and why; it takes the place of its Sample."""

    path: str
    index: int
    reason: str


@dataclass(slots=True)
class Batch:
    """What one step works on.

    images: (B, C, H, W) pixel values 0..255 at the model's input size: uint8 in training,
        float32 in evaluation (a resize that is not rounded, as in the exported graph).
    targets: in training what the task's loss takes: (B,) int64 classes, (B, K) float multi-hot, (B, h, w) masks, ...;
        in evaluation what its evaluator takes: for targets with places in the picture, a list in the original pixels.
    paths, indices, original_hw: one entry a picture, in the order of ``images``.
    samples: the Samples themselves, kept only when a consumer needs the original pixels (demo).
    bad: pictures of this batch that could not be read.
    """

    images: Tensor
    targets: Any
    paths: list[str]
    indices: list[int]
    original_hw: list[tuple[int, int]]
    samples: list[Sample] | None = None
    bad: list[Unreadable] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.paths)

    def leave_out(self, reasons: Mapping[int, str]) -> None:
        """Take pictures out, by their places in the batch: they stand in ``bad`` with their reasons instead."""
        stay = [i for i in range(len(self)) if i not in reasons]
        self.bad = [*self.bad, *(Unreadable(self.paths[i], self.indices[i], why) for i, why in reasons.items())]
        self.images = self.images[stay]
        if isinstance(self.targets, list):
            self.targets = [self.targets[i] for i in stay]
        elif hasattr(self.targets, "shape"):  # one array or tensor of all
            self.targets = self.targets[stay]
        for name in ("paths", "indices", "original_hw", "samples"):
            values = getattr(self, name)
            if values is not None:
                setattr(self, name, [values[i] for i in stay])


@dataclass(slots=True)
class Prediction:
    """What a model says of one picture, in that picture's own pixels.

    path: the picture; original_hw: its height and width.
    scores: (K,) float per class, in the order of the class names; label: the winning class index
        (labels: every class above its threshold, for multi-label models).
    bad: whether the part is bad at the model's operating point; None where nobody knows which classes mean that.
    mask: (H, W) class indices; defect_map: (H, W) float32, the probability that a pixel is no background.
    boxes_xyxy (N, 4), box_labels (N,), box_scores (N,).
    anomaly_map: (H, W) float, anomaly_score: float: 0.5 is the threshold; raw_map, raw_score: in the method's own units.
    region: (H, W) bool, where the model looked; None for everywhere.
    error: why there is no answer; nothing else but the path is known then, and the verdict is "review".
    describer: what tells of it as plain values; what answered sets it.
    """

    path: str = ""
    original_hw: tuple[int, int] = (0, 0)
    scores: NDArray[np.float32] | None = None
    label: int | None = None
    labels: list[int] | None = None
    bad: bool | None = None
    mask: NDArray[Any] | None = None
    defect_map: NDArray[np.float32] | None = None
    boxes_xyxy: NDArray[np.float32] | None = None
    box_labels: NDArray[np.int64] | None = None
    box_scores: NDArray[np.float32] | None = None
    anomaly_map: NDArray[np.float32] | None = None
    anomaly_score: float | None = None
    raw_map: NDArray[np.float32] | None = None
    raw_score: float | None = None
    region: NDArray[np.bool_] | None = None
    error: str = ""
    describer: Callable[[Prediction], dict[str, Any]] | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values with the same keys for every problem, "verdict" and "score" first (README, "In a program")."""
        if self.describer is None:
            raise ValueError("a Prediction that no model has made knows no class names, and cannot be told of")
        return self.describer(self)

    @property
    def looked_at(self) -> NDArray[np.bool_] | np.bool_:
        """Where the model looked, to be combined with other masks."""
        return np.bool_(True) if self.region is None else self.region


@dataclass(slots=True)
class BoxTargets:
    """The objects of a training batch, in the pixels of the model's input.

    boxes_xyxy: (B, M, 4) float32; labels: (B, M) int64 class indices, -1 where there is no box (a picture with fewer
    than M objects, or with none). M may be 0, and rows without a box may lie anywhere.
    """

    boxes_xyxy: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> BoxTargets:
        """The same on another device."""
        return BoxTargets(
            self.boxes_xyxy.to(device, non_blocking=non_blocking), self.labels.to(device, non_blocking=non_blocking)
        )

    def pin_memory(self) -> BoxTargets:
        """The same in page-locked memory, from which copies to a GPU need not wait."""
        return BoxTargets(self.boxes_xyxy.pin_memory(), self.labels.pin_memory())


@dataclass(slots=True)
class GroundTruth:
    """The objects of one picture that is evaluated, in its ORIGINAL pixels.

    boxes_xyxy: (N, 4) float32; labels: (N,) int64 class indices; ignore: (N,) bool, boxes that count neither as found
    nor as missed (COCO's crowd, VOC's difficult). area: (N,) float64 pixels of each object as the annotations state it
    (COCO's ``area``, of its mask), by which COCO tells small from large; None where the format states none.
    difficult: (N,) bool, those of the ignored ones that VOC's rule is for; None where there are none.
    """

    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    area: NDArray[np.float64] | None = None
    difficult: NDArray[np.bool_] | None = None

    @property
    def crowd(self) -> NDArray[np.bool_]:
        """(N,) the ignored boxes that stand for any number of objects within them."""
        return self.ignore if self.difficult is None else self.ignore & ~self.difficult

    def take(self, chosen: NDArray[Any]) -> GroundTruth:
        """The objects at an index or under a mask."""
        values = (self.boxes_xyxy, self.labels, self.ignore, self.area, self.difficult)
        return GroundTruth(*(None if value is None else value[chosen] for value in values))


@dataclass(slots=True)
class AnomalyTruth:
    """What is known of a picture by which an anomaly model is judged.

    kind: the name of the defect, "good" without one; bad: whether it has one.
    mask: (H, W) bool in the ORIGINAL pixels, where the defect is; None where that is not known.
    """

    kind: str
    bad: bool
    mask: NDArray[np.bool_] | None = None
