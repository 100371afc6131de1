"""How large a picture file may be: the config's ``limits``, handed to every process of a run by the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dao.errors import Problem
from dao.images.files import MAX_BYTES, MAX_BYTES_VARIABLE
from dao.images.image_io import MAX_PIXELS, MAX_PIXELS_VARIABLE


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may claim and still be read; more is named as unreadable.

    max_pixels: of a picture, by its header, before it is decoded (2^28: 16384 x 16384, 0.8 GB as RGB).
    max_bytes: of a picture, mask or label file (2^30: 1 GiB).
    """

    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES

    def problems(self) -> list[Problem]:
        """Values that would leave nothing to read."""
        found = {"max_pixels": self.max_pixels, "max_bytes": self.max_bytes}
        return [
            Problem(f"limits.{key}", f"must be at least 1, got {value}") for key, value in found.items() if value < 1
        ]


def apply(section: Mapping[str, Any] | None) -> None:
    """Let this process, and those that it starts, obey a config's section; without one the environment's stay."""
    if section is None:
        return
    limits = Limits(**section)
    os.environ[MAX_PIXELS_VARIABLE] = str(limits.max_pixels)
    os.environ[MAX_BYTES_VARIABLE] = str(limits.max_bytes)
