"""An exported file where a task is expected: Eval judges it as it judges a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dao.answers import checked
from dao.errors import AnswerError
from dao.preprocess.module import Preprocess
from dao.runtime.predictor import Predictor
from dao.structures import Batch, Prediction
from dao.tasks import build
from dao.tasks.base import ModelCard


class AnsweringFile:
    """An exported file in a task's place: predictions of batches, facts, card. Batches must hold their samples.

    path: of the file; device: where its runtime works; trust: see `Predictor`.
    """

    def __init__(self, path: str | Path, device: torch.device, trust: bool = False) -> None:
        predictor = Predictor(path, str(device), trust=trust)
        self.predictor, self.task_class = (
            predictor,
            build.task_class(predictor.card.task),
        )  # which can be calibrated, too
        self.preprocess = Preprocess(**predictor.card.preprocess).to(device)
        self.classes = list(predictor.card.classes)
        self._card = replace(predictor.card, facts=self.task_class.completed(predictor.card.facts))

    @property
    def facts(self) -> dict[str, Any]:
        """Of its card, with what was set since."""
        return self._card.facts

    def card(self) -> ModelCard:
        """As a task's."""
        return self._card

    def with_facts(self, facts: Mapping[str, Any], where: str = "facts") -> AnsweringFile:
        """As a task's, for facts that are no part of the file."""
        other = copy.copy(self)
        other._card = self.task_class.at(self._card, facts, where)
        return other

    def predict(self, batch: Batch) -> list[Prediction]:
        """As a task's, picture by picture from their own pixels, as the file takes them."""
        return checked.all_of(self._answers(batch))

    def predict_and_leave_out(self, batch: Batch) -> list[Prediction]:
        """As a task's."""
        return checked.sound_of(self._answers(batch), batch)

    def _answers(self, batch: Batch) -> list[Prediction | AnswerError]:
        found: list[Prediction | AnswerError] = []
        for sample in batch.samples or ():
            try:
                prediction = self.task_class.answer(self.predictor.backend.run, sample.image, self._card)
            except AnswerError as error:
                found.append(error)
                continue
            prediction.path = sample.path
            found.append(prediction)
        return found
