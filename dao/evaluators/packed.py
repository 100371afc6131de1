"""Masks of the worst pictures, packed until the report is written."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def as_png(mask: NDArray[np.uint8]) -> bytes:
    """A mask in a few hundred bytes."""
    return cv2.imencode(".png", np.ascontiguousarray(mask), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def from_png(data: bytes) -> NDArray[np.uint8]:
    """The mask that `as_png` packed."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
