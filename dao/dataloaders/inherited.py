"""Sets of pictures that a config has from the one it inherits, and that its author did not think of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

SAMPLES = "data/samples"  # of the shipped configs, below the working directory


def left_over(training: Mapping[str, Any], judging: Mapping[str, Any], where: str) -> str:
    """What to say where a model of the user's own pictures is judged, or calibrated, by the sample ones; "" otherwise.

    training, judging: sections of datasets, as plain values; where: the place of the second.
    """
    strange = [path for path in _paths(judging) if _is_sample(path)]
    own = _paths(training)
    if not strange or any(map(_is_sample, own)):
        return ""
    return (
        f"{where} reads the sample pictures ({strange[0]}), and the model is trained on others "
        f"({own[0] if own else training.get('type')}): whoever inherits a config inherits its sets. Name your own there too"
    )


def _paths(section: Mapping[str, Any]) -> list[str]:
    """The settings of a dataset that name a file or folder."""
    texts = [value for value in (section.get("kwargs") or {}).values() if isinstance(value, str)]
    return [text for text in texts if os.path.exists(text.partition("{")[0]) or _is_sample(text)]  # noqa: PTH110


def _is_sample(path: str) -> bool:
    samples = os.path.abspath(SAMPLES)  # noqa: PTH100 (links stay links: the folder may be one)
    return f"{os.path.abspath(path)}{os.sep}".startswith(f"{samples}{os.sep}")  # noqa: PTH100
