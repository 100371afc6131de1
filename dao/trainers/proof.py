"""The proof of an exported file: what it answers beside what the model answers, picture by picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.errors import CheckpointError, DataError
from dao.exporters.base import Exporter
from dao.runtime.backends import Backend
from dao.tasks.backends import TorchBackend
from dao.tasks.base import Task

# what a picture's differences come to, over the file and its finer twin
WORST = {"max_abs": np.max, "max_rel": np.max, "equal": np.min, "agree": np.min}  # numpy's: a NaN anywhere is a NaN


class Proof:
    """Compares a file with the model it was made from, and knows whether that says anything.

    Where the task has a finer form (a detector before suppression), a twin of the file answers in that form and is
    compared as well: boxes that are suppressed or below the threshold in both would hide what differs.
    """

    def __init__(self, task: Task, exporter: Exporter, backend: Backend, device: Any, twin: Path) -> None:
        """backend: what runs the file that the exporter wrote; twin: where one may be written, for as long as the proof
        lasts."""
        self.task, self.exporter = task, exporter
        self.pairs: list[tuple[Backend, Backend]] = [(TorchBackend.of(task, device), backend)]
        if (finer := task.for_proof()) is not None:
            finer.model.cpu()
            finer.preprocess.cpu()
            exporter.export(finer, twin)
            if (other := exporter.opened(twin, device)) is not None:
                self.pairs.append((TorchBackend.of(finer, device), other))
        self.rows: list[dict[str, Any]] = []
        self.extent: NDArray[np.float64] | None = None

    def compare(self, path: str, image: NDArray[np.uint8]) -> None:
        """Ask both with a picture (H, W, C), and keep how far apart the answers are."""
        images = image[None]
        fitted = images if (shape := self._fixed_shape()) is None else _fit_to(images, shape)
        found = [self._compared(*pair, fitted, first=number == 0) for number, pair in enumerate(self.pairs)]
        together = {name: worst([one[name] for one in found]).item() for name, worst in WORST.items()}
        refused = [one["refused"] for one in found if "refused" in one]
        self.rows.append({"path": path, **together, **({"refused": refused[0]} if refused else {})})

    def _compared(self, own: Backend, theirs: Backend, images: NDArray[np.uint8], first: bool) -> dict[str, Any]:
        """How a file's answer differs. Raises AnswerError where the checkpoint itself has none: no file is a proof of it."""
        task, count, hw = type(self.task), len(images), (images.shape[1], images.shape[2])
        mine = task.checked(own.run(images), own.card, count, hw)
        if first:
            self._widen(task.extent(mine, own.card, hw))
        try:
            answer = task.checked(theirs.run(images), theirs.card, count, hw)
        except CheckpointError as error:
            nowhere = float("inf")
            return {"max_abs": nowhere, "max_rel": nowhere, "equal": 0.0, "agree": False, "refused": str(error)}
        return task.compare(mine, answer, own.card, hw)

    def _fixed_shape(self) -> tuple[int, int, int] | None:
        """(B, H, W) of a file that takes only one size, else None."""
        if self.exporter.dynamic:
            return None
        height, width = self.exporter.image_size or self.task.preprocess.size
        return self.exporter.batch_size, height, width

    def _widen(self, extent: NDArray[np.float64]) -> None:
        if self.extent is not None:
            extent = np.stack([np.minimum(self.extent[0], extent[0]), np.maximum(self.extent[1], extent[1])])
        self.extent = extent

    def shows_something(self, atol: float) -> bool:
        """Whether the model's answers differ among themselves by more than the tolerance: else a file that always gave
        one and the same answer would pass, and passing proves nothing."""
        return self.extent is not None and not bool(np.ptp(self.extent, axis=0).max(initial=0.0) <= atol)

    def summary(self, atol: float) -> dict[str, Any]:
        """What parity.json holds of the file; "not_proven": why the comparison says nothing, "" where it does."""
        if not self.rows:
            raise DataError("not one picture could be read to prove the export on: nothing was exported")
        worst = float(np.max([row["max_abs"] for row in self.rows]))
        agreement = sum(row["agree"] for row in self.rows) / len(self.rows)
        empty = "" if self.shows_something(atol) else self.task.nothing_shown(len(self.rows))
        return {
            "passed": worst <= atol and agreement == 1.0 and not empty,
            "not_proven": empty,
            "pictures": len(self.rows),
            "max_abs": worst,
            "max_rel": float(np.max([row["max_rel"] for row in self.rows])),
            "equal": min(row["equal"] for row in self.rows),
            "agreement": agreement,
            "before_suppression": len(self.pairs) > 1,
            "per_picture": self.rows,
        }


def _fit_to(images: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Pictures repeated and resized to the one shape that a fixed file takes."""
    import cv2

    batch, h, w = shape
    channels = images.shape[-1]
    resized = cv2.resize(images[0], (w, h), interpolation=cv2.INTER_AREA).reshape(h, w, channels)
    return np.repeat(resized[None], batch, axis=0)
