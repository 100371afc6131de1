"""The answers of the four problems by the name that a card has of them, each imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dao.answers.base import Answer

SHIPPED = {
    "anomaly": ("dao.answers.anomaly", "AnomalyAnswer"),
    "cls": ("dao.answers.classification", "ClassificationAnswer"),
    "det": ("dao.answers.detection", "DetectionAnswer"),
    "seg": ("dao.answers.segmentation", "SegmentationAnswer"),
}


def is_known(name: str) -> bool:
    """Whether it is one of ours, or a task that a user's modules have registered."""
    return name in SHIPPED or name in names()


def names() -> list[str]:
    """All that are known."""
    from dao.register import Registers  # which takes longer to import than to answer

    return sorted({*SHIPPED, *Registers.tasks})


def answer_class(name: str) -> type[Answer]:
    """What answers for a task. Raises ConfigError for one that nobody has registered."""
    if name in SHIPPED:
        module, kind = SHIPPED[name]
        return getattr(importlib.import_module(module), kind)  # type: ignore[no-any-return]
    from dao.register import Registers

    return Registers.tasks.get(name)  # type: ignore[return-value]
