"""What every task promises. Trainers, evaluators and exporters speak to this and to nothing below it."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dao.answers import checked
from dao.answers.base import Answer
from dao.answers.card import ModelCard
from dao.answers.checked import Outputs
from dao.answers.operating import SET_BY
from dao.calibrators.base import CalibrationScores, warn_of_few
from dao.errors import AnswerError, ConfigError, DataError, Problem
from dao.preprocess.module import Preprocess
from dao.structures import Batch, Prediction
from dao.tasks.deployable import Deployable, as_arrays
from dao.words.counted import counted

__all__ = ["ModelCard", "Outputs", "Task", "as_arrays"]


class Task(Answer):
    """Ties model, loss and prediction together; one object per run.

    models: which register of `Registers` its models come from ("cls_models"); training_needs: config sections that
    training cannot do without (a task whose model brings its own loss, or is fitted, needs fewer).
    learned_facts: those of the card's facts that training finds, and a resumed run takes over.
    evaluator: what judges such a model where a config does not say. How it answers, by torch or by a file, is the other
    half (`dao.answers.base.Answer`), which every task has among its bases.
    """

    models: ClassVar[str]
    training_needs: ClassVar[tuple[str, ...]] = ()
    learned_facts: ClassVar[tuple[str, ...]] = ()
    evaluator: ClassVar[str] = ""

    def __init__(
        self,
        model: nn.Module,
        preprocess: Preprocess,
        classes: Sequence[str],
        loss: nn.Module | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.net: nn.Module = model  # the model as it is trained: wrapped for DDP or compiled
        self.preprocess = preprocess
        self.classes = list(classes)
        self.loss = loss
        self.facts = self.completed(facts or {})
        self.section: dict[str, Any] | None = (
            None  # of the config that the model was built from, where a checkpoint told
        )
        kind = preprocess.settings.resize
        if kind not in self.resizes:
            message = f"'{kind}' cannot be used by this type of task; it takes {', '.join(self.resizes)}"
            raise ConfigError(Problem("preprocess.resize", message))
        if loss is not None:
            self.check_loss(loss)

    # -- from data

    @classmethod
    def facts_of(cls, dataset: Any) -> dict[str, Any]:
        """What a dataset says about the task beyond its class names."""
        return {}

    # -- learning

    @abstractmethod
    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Named losses of a batch, scalars; "loss" is the one to differentiate."""

    @classmethod
    def expected_output(cls, num_classes: int, size_hw: tuple[int, int]) -> tuple[int, ...] | None:
        """The shape of what a model gives in evaluation for one picture; None where models answer as they like."""
        return None

    def check_loss(self, loss: nn.Module) -> None:
        """Raise ConfigError for a loss that does not fit the task, or would teach it the wrong thing, by its own word."""
        from dao.losses.targets import refuse_unfit

        refuse_unfit(loss, self.loss_needs())

    def loss_needs(self) -> tuple[str, ...]:
        """What a loss must be able to take, by the names of `dao.losses.targets.NEEDS`."""
        return ()

    def resize_batch(self, batch: Batch, size_hw: tuple[int, int]) -> None:
        """Scale a batch's pictures to another input size, in place; tasks with targets in pixels scale those too."""
        batch.images = F.interpolate(batch.images.float(), size=size_hw, mode="bilinear", align_corners=False)

    def prepare(self, dataset: Any) -> None:
        """Before training on a dataset starts: refuse what cannot end well (work that will not fit into memory)."""

    def use_loader(self, loader: Any) -> None:
        """Before the training data is read: what its batches are to hold can be said to its loader."""

    def plan(self, iterations: int) -> None:
        """Before training starts: it takes so many iterations. What divides them into phases raises ConfigError."""

    @property
    def passes(self) -> int | None:
        """How many passes over the data training takes, whatever the config says; None: as it says.

        A model with such a number collects while it passes: one that is stopped inside a pass starts that pass anew.
        """
        return None

    def begin_pass(self, augment: bool) -> None:
        """Before each pass over the training data, with or without augmentation: losses that ask for it are told."""
        for module in self.loss.modules() if self.loss is not None else ():
            if callable(tell := getattr(module, "begin_pass", None)):
                tell(augment)

    def end_of_pass(self) -> None:
        """After each pass over the training data; fitted models do their work here."""

    def set_apart(self, dataset: Any, calibrated: bool = False) -> Any:
        """What of the training data is for `calibrate`: a dataset, or None where nothing is.

        calibrated: whether the config names a set for that.
        """
        return None

    def calibrate(
        self, calibrator: Any | None, batches: Iterable[Batch] | None, kept: Iterable[Batch] | None = None
    ) -> None:
        """After `end_of_pass`: find what is learnt from pictures that did not train the model (thresholds).

        calibrator, batches: what the config's "calibration" names, None where it names nothing; kept: those that
        `set_apart` gave. All as in evaluation. Called on every process.
        """

    def take_over(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Set facts that training found, now or before it was resumed; operating points that the config sets stay, and are
        returned."""
        by_hand = {name: self.facts[name] for name in self.operating if name in self.facts.get(SET_BY, {})}
        self.facts |= found
        if by_hand:
            self.facts = {**self.facts_with(self.card(), by_hand), SET_BY: self.facts[SET_BY]}
        return by_hand

    @classmethod
    def recalibrated(cls, answers: Any, rule: Any, batches: Iterable[Batch], evaluator: Any) -> dict[str, Any]:
        """Facts with the threshold that a calibrator finds for a model that is trained, from a set with good and bad parts.

        answers: a task or whatever answers as one (``predict``); evaluator: what knows how bad each picture looks, and is.
        Raises DataError where the set cannot tell.
        """
        evaluator.reset()
        for batch in batches:
            evaluator.update(answers.predict(batch), batch)
        evaluator.compute()
        badness, bad = evaluator.scored()
        scores = CalibrationScores(badness[~bad], badness[bad], source="the calibration set")
        found = rule.picture(scores)
        warn_of_few(rule, scores)
        if found.value <= 0:
            raise DataError(
                f"no threshold does that: parts of which the model says nothing are among them ({found.how})"
            )
        return {"threshold": min(found.value, 1.0), "calibration": found.how}

    # -- answering

    @abstractmethod
    def infer(self, images: Tensor) -> dict[str, Tensor]:
        """(B, C, h, w) normalised input -> the named tensors that a deployable file answers with."""

    def restore(self, outputs: dict[str, Tensor], original_hw: tuple[int, int]) -> dict[str, Tensor]:
        """Outputs of `infer` for pictures of one size -> the same in those pictures' own pixels; safe to trace.

        Tasks whose answers have places in the picture move them back here; a label has none.
        """
        return outputs

    def predict(self, batch: Batch) -> list[Prediction]:
        """Predictions of a batch, one per picture, with its path. Raises AnswerError where one has no finite answer."""
        return checked.all_of(self._answers(batch))

    def predict_and_leave_out(self, batch: Batch) -> list[Prediction]:
        """As `predict`; a picture without a finite answer leaves the batch, and is counted as an unreadable one is."""
        return checked.sound_of(self._answers(batch), batch)

    @torch.inference_mode()
    def _answers(self, batch: Batch) -> list[Prediction | AnswerError]:
        """What is said of each picture, with its path; an error in the place of what is no answer."""
        if not len(batch):
            return []
        answers = self._answers_by_tiles(batch) if self.preprocess.settings.tiled else self._answers_whole(batch)
        found: list[Prediction | AnswerError] = []
        for answer, path in zip(answers, batch.paths, strict=True):
            try:
                prediction = answer()
            except AnswerError as error:
                found.append(error)
                continue
            prediction.path = path
            found.append(prediction)
        return found

    def _answers_by_tiles(self, batch: Batch) -> Iterator[Callable[[], Prediction]]:
        card = self.card()
        for sample in batch.samples or ():
            yield partial(self.answer, self.run, sample.image, card)

    def _answers_whole(self, batch: Batch) -> Iterator[Callable[[], Prediction]]:
        """One pass for the batch; then each picture's answer goes back to its own size."""
        outputs, card = self.infer(self.preprocess.normalise(batch.images)), self.card()
        for i, hw in enumerate(batch.original_hw):
            restored = self.restore({name: value[i : i + 1] for name, value in outputs.items()}, hw)
            yield partial(self._decoded, as_arrays(restored), card, hw)

    def _decoded(self, outputs: Outputs, card: ModelCard, hw: tuple[int, int]) -> Prediction:
        return self.finished(self.decode(self.checked(outputs, card, 1, hw), card, [hw])[0], card, hw)

    @torch.inference_mode()
    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """(B, H, W, C) uint8 pictures of one size -> named arrays in their own pixels."""
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self.preprocess.mean.device)
        outputs = self.infer(self.preprocess(pixels.permute(0, 3, 1, 2)))
        return as_arrays(self.restore(outputs, (images.shape[1], images.shape[2])))

    @contextmanager
    def using(self, model: nn.Module) -> Iterator[None]:
        """Answer with another model's weights (the EMA's) inside the block, in eval mode."""
        own, net = self.model, self.net
        was_training = own.training
        self.model = self.net = model
        model.eval()
        try:
            yield
        finally:
            self.model, self.net = own, net
            own.train(was_training)

    # -- leaving

    def card(self) -> ModelCard:
        """What must be known of the model to use it elsewhere."""
        from dao import __version__

        name = {value: key for key, value in _tasks().items()}[type(self)]
        return ModelCard(name, self.classes, self.preprocess.to_dict(), self.facts, version=__version__)

    def with_facts(self, facts: Mapping[str, Any], where: str = "facts") -> Self:
        """The same task with other values of some of its card's facts (thresholds, ...).

        Raises ConfigError for a fact that the task does not have, and for values that make no sense.
        """
        other = copy.copy(self)
        other.facts = self.facts_with(self.card(), facts, where)
        self.warn_of_points(self.facts, other.facts)
        return other

    def deployable(self) -> Deployable:
        """A module from raw uint8 pixels to named tensors, with preprocessing and activation inside."""
        return Deployable(self)

    def nothing_shown(self, pictures: int) -> str:
        """Why a comparison on so many pictures says nothing where `extent` never moved, and what to do about it."""
        return (
            f"the model gives one and the same answer, whatever it is shown ({counted(pictures, 'picture')}), "
            "so a file that never looks would pass. Name more and different "
            'pictures in the section "images"; if those are many, the model has not learnt'
        )

    def for_proof(self) -> Self | None:
        """The same task answering in finer detail than a deployed file does, to be exported and compared as well; None
        where a file's own outputs say everything."""
        return None

    def heatmap(self, image: Tensor, prediction: Prediction) -> NDArray[np.float32] | None:
        """(h, w) of 0..1, in model input pixels: where the model looked, or None where the task has no such map.

        image: (1, C, h, w) normalised input.
        """
        return None


def _tasks() -> dict[str, type[Task]]:
    from dao.register import Registers

    return {name: Registers.tasks.get(name) for name in Registers.tasks}  # type: ignore[misc]
