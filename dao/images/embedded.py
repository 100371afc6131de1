"""Pictures inside label files: LabelMe writes one into its JSON as ``imageData``, and may be all that is left of it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from dao.errors import DataError

SUFFIX = ".json"


def is_embedded(path: str | Path) -> bool:
    """Whether a picture's path is that of the label file which holds it."""
    return str(path).lower().endswith(SUFFIX)


def unwrapped(data: bytes, path: str | Path) -> bytes:
    """A picture file's bytes: as they are, or of the picture that a label file holds. No picture begins like one.

    Raises DataError for a label file without a picture.
    """
    if data[:1] != b"{":
        return data
    try:
        return base64.b64decode(json.loads(bytes(data))["imageData"], validate=True)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise DataError(f"{path}: it holds no picture that can be read ({type(error).__name__})") from None
