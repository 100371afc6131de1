"""What every task promises. Trainers, evaluators and exporters speak to this and to nothing below it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dao.answers import operating as points
from dao.answers.operating import SET_BY, changed
from dao.calibrators.base import CalibrationScores
from dao.errors import AnswerError, CheckpointError, ConfigError, DataError, Problem
from dao.preprocess import Preprocess, PreprocessSettings
from dao.structures import Batch, Prediction
from dao.tasks import answered
from dao.tasks.card import ModelCard
from dao.tiling import Window, batches, windows
from dao.utils.counted import counted

Outputs = dict[str, NDArray[Any]]
Run = Callable[[NDArray[np.uint8]], Outputs]  # (B, H, W, C) uint8 -> named arrays in the pictures' own pixels
TILES_A_BATCH = 4


class Task(ABC):
    """Ties model, loss and prediction together; one object per run.

    models: which register of `Registers` its models come from ("cls_models"); training_needs: config sections that
    training cannot do without (a task whose model brings its own loss, or is fitted, needs fewer).
    learned_facts: those of the card's facts that training finds, and a resumed run takes over.
    operating: those that decide verdicts after the model has spoken (`decode`), so that any file may be told others;
    aliases: short names for them. evaluator: what judges such a model where a config does not say.
    resizes: the kinds of `preprocess.resize` that it can answer with.
    """

    models: ClassVar[str]
    training_needs: ClassVar[tuple[str, ...]] = ()
    learned_facts: ClassVar[tuple[str, ...]] = ()
    operating: ClassVar[tuple[str, ...]] = ()
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType({})
    evaluator: ClassVar[str] = ""
    resizes: ClassVar[tuple[str, ...]] = ("letterbox", "stretch", "crop")

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

    @classmethod
    def check_facts(cls, facts: Mapping[str, Any]) -> None:
        """Raise ValueError, KeyError, TypeError or ConfigError for facts out of a file that no model of ours has.

        facts: as `completed` gives them; their operating points have been looked at.
        """

    @classmethod
    def completed(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        """A card's facts with those that cards of before lack, at the values by which such models answered."""
        return dict(facts)

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
            self.facts = {**self.with_facts(by_hand).facts, SET_BY: self.facts[SET_BY]}
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
        found = rule.picture(CalibrationScores(badness[~bad], badness[bad], source="the calibration set"))
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

    @classmethod
    @abstractmethod
    def decode(cls, outputs: Outputs, card: ModelCard, original_hw: Sequence[tuple[int, int]]) -> list[Prediction]:
        """Named arrays of a batch (restored, or from an exported file) -> predictions in the original pixels."""

    @classmethod
    def merge_tiles(
        cls, answers: Iterable[tuple[Window, Outputs]], card: ModelCard, original_hw: tuple[int, int]
    ) -> Prediction:
        """The prediction of a picture from those of its windows, in their order; each window's arrays have B = 1."""
        raise TypeError(f"{cls.__name__} does not list 'tile' among its resizes, and has no answers to merge")

    @classmethod
    def answer(cls, run: Run, image: NDArray[np.uint8], card: ModelCard) -> Prediction:
        """What a model says of one (H, W, C) picture, in one go or window by window, whatever runs it."""
        hw = (int(image.shape[0]), int(image.shape[1]))

        def sound(images: NDArray[np.uint8]) -> Outputs:
            return cls.checked(run(images), card, len(images), (int(images.shape[1]), int(images.shape[2])))

        if card.preprocess["resize"] != "tile":
            prediction = cls.decode(sound(image[None]), card, [hw])[0]
        else:
            prediction = cls.merge_tiles(_answers_of_windows(sound, image, card), card, hw)
        prediction.original_hw = hw
        return prediction

    @classmethod
    def expected(cls, card: ModelCard, hw: tuple[int, int]) -> dict[str, answered.Shape]:
        """The arrays that a model with this card answers with: their shapes for a picture of (height, width)."""
        return {}

    @classmethod
    def check_names(cls, names: Sequence[str], card: ModelCard, source: str) -> None:
        """Raise CheckpointError for a file whose outputs are not those that its card promises."""
        missing = [name for name in cls.expected(card, (1, 1)) if name not in names]
        if missing:
            raise CheckpointError(
                f"{source} answers with {', '.join(names)}; its card promises {', '.join(missing)} as well"
            )

    @classmethod
    def checked(cls, outputs: Outputs, card: ModelCard, pictures: int, hw: tuple[int, int]) -> Outputs:
        """A model's arrays before anything is read from them; see `dao.tasks.answered.checked`."""
        return answered.checked(outputs, cls.expected(card, hw), len(card.classes), pictures)

    def predict(self, batch: Batch) -> list[Prediction]:
        """Predictions of a batch, one per picture, with its path. Raises AnswerError where one has no finite answer."""
        return answered.all_of(self._answers(batch))

    def predict_and_leave_out(self, batch: Batch) -> list[Prediction]:
        """As `predict`; a picture without a finite answer leaves the batch, and is counted as an unreadable one is."""
        return answered.sound_of(self._answers(batch), batch)

    @torch.inference_mode()
    def _answers(self, batch: Batch) -> list[Prediction | AnswerError]:
        """What is said of each picture, with its path; an error in the place of what is no answer."""
        if not len(batch):
            return []
        answers = self._answers_by_tiles(batch) if self.preprocess.settings.tiled else self._answers_whole(batch)
        found: list[Prediction | AnswerError] = []
        for answer, path, hw in zip(answers, batch.paths, batch.original_hw, strict=True):
            try:
                prediction = answer()
            except AnswerError as error:
                found.append(error)
                continue
            prediction.path, prediction.original_hw = path, hw
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
        return self.decode(self.checked(outputs, card, 1, hw), card, [hw])[0]

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
        return other

    @classmethod
    def facts_with(cls, card: ModelCard, facts: Mapping[str, Any], where: str = "facts") -> dict[str, Any]:
        """A card's facts with some set to other values, by their names or `aliases`; who set them is noted.

        Raises ConfigError, see `with_facts`.
        """
        known = cls.completed(card.facts)
        settable = [name for name in known if name != SET_BY]
        places = {cls.aliases.get(name, name): f"{where}.{name}" for name in facts}
        given = {cls.aliases.get(name, name): value for name, value in facts.items()}
        cls._refuse_given_twice(facts, where)
        unknown = [name for name in given if name not in settable]
        if unknown:
            message = f"is no fact of this model; it has: {', '.join(settable) or 'none'}"
            raise ConfigError([Problem(places[name], message) for name in unknown])
        problems = cls.fact_problems(given, known, card.classes, places)
        if problems:
            raise ConfigError(problems)
        return changed(known, given, {name: f"set by {places[name]}" for name in given})

    @classmethod
    def _refuse_given_twice(cls, facts: Mapping[str, Any], where: str) -> None:
        first: dict[str, str] = {}
        for name in facts:
            other = first.setdefault(cls.aliases.get(name, name), name)
            if other != name:
                raise ConfigError(Problem(f"{where}.{name}", f"is given twice, also as '{other}'"))

    @classmethod
    def at(cls, card: ModelCard, facts: Mapping[str, Any], where: str = "facts") -> ModelCard:
        """The card with another operating point: what any file of the model then answers by.

        Raises ConfigError for facts that are none, or that are part of the file.
        """
        fixed = [name for name in facts if cls.aliases.get(name, name) not in cls.operating]
        after = cls.facts_with(card, facts, where)
        if fixed:
            message = f"is part of the file: export anew to change it. What can be set: {', '.join(cls.operating)}"
            raise ConfigError([Problem(f"{where}.{name}", message) for name in fixed])
        return replace(card, facts=after)

    @classmethod
    def fact_problems(
        cls, given: Mapping[str, Any], known: Mapping[str, Any], classes: Sequence[str], places: Mapping[str, str]
    ) -> list[Problem]:
        """What is wrong with new values of facts. known: all as they are; places: where each new one was written."""
        return points.problems(given, classes, places)

    def deployable(self) -> Deployable:
        """A module from raw uint8 pixels to named tensors, with preprocessing and activation inside."""
        return Deployable(self)

    @classmethod
    @abstractmethod
    def draw(
        cls,
        image: NDArray[np.uint8],
        prediction: Prediction,
        card: ModelCard,
        truth: str | None = None,
        heatmap: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        """The picture (H, W, 3) uint8 with what the model says of it."""

    @classmethod
    @abstractmethod
    def describe(cls, prediction: Prediction, card: ModelCard) -> dict[str, Any]:
        """A prediction as plain JSON values with class names, for results.json."""

    @classmethod
    def compare(cls, mine: Outputs, theirs: Outputs, card: ModelCard, original_hw: tuple[int, int]) -> dict[str, Any]:
        """How an exported file's arrays differ from the model's for pictures of one size (export parity).

        "max_abs" and "max_rel": the largest differences of a number; "equal": least share of the whole numbers that are
        the same (class maps are right or wrong; how far two classes lie apart in the list means nothing); "agree":
        whether the verdicts are the same.
        """
        hw = [original_hw] * len(next(iter(mine.values())))
        pairs = zip(cls.decode(mine, card, hw), cls.decode(theirs, card, hw), strict=True)
        numbers = [name for name, value in mine.items() if value.dtype.kind == "f"]
        gaps = {name: np.abs(mine[name].astype(np.float64) - theirs[name]) for name in numbers}
        return {
            "max_abs": float(np.max([gap.max() for gap in gaps.values()])),
            "max_rel": float(
                np.max([(gap / np.maximum(np.abs(mine[name]), 1e-6)).max() for name, gap in gaps.items()])
            ),
            "equal": min((float((mine[n] == theirs[n]).mean()) for n in mine if n not in numbers), default=1.0),
            "agree": all(cls.agreement(first, second) for first, second in pairs),
        }

    @classmethod
    def extent(cls, mine: Outputs, card: ModelCard, original_hw: tuple[int, int]) -> NDArray[np.float64]:
        """(2, n) the lowest and the highest value of each number that an answer is made of, for pictures of one size
        (export parity): numbers that are the same everywhere and always prove nothing of a file."""
        numbers = [value.astype(np.float64) for value in mine.values() if value.dtype.kind == "f" and value.size]
        columns = [
            np.moveaxis(v, 1, 0).reshape(v.shape[1], -1) if v.ndim in (2, 4) else v.reshape(1, -1) for v in numbers
        ]
        return np.concatenate([[c.min(axis=1), c.max(axis=1)] for c in columns], axis=1)

    def nothing_shown(self, pictures: int) -> str:
        """Why a comparison on so many pictures says nothing where `extent` never moved, and what to do about it."""
        return (
            f"the model gives one and the same answer, whatever it is shown ({counted(pictures, 'picture')}), "
            f"so a file that never looks would pass. Name more and different "
            'pictures in the section "images"; if those are many, the model has not learnt'
        )

    def for_proof(self) -> Self | None:
        """The same task answering in finer detail than a deployed file does, to be exported and compared as well; None
        where a file's own outputs say everything."""
        return None

    @classmethod
    @abstractmethod
    def agreement(cls, first: Prediction, second: Prediction) -> bool:
        """Whether two predictions of one picture mean the same verdict (export parity)."""

    @classmethod
    def caption(cls, prediction: Prediction, card: ModelCard) -> str:
        """A few words for a contact sheet."""
        described = cls.describe(prediction, card)
        return f"{described.get('label', '')}: score {described.get('score', 0):.2f}"

    @classmethod
    def thumbnail(cls, image: NDArray[np.uint8], prediction: Prediction, card: ModelCard) -> NDArray[np.uint8]:
        """The small picture for a contact sheet; tasks with places in the picture mark them."""
        from dao.utils.visualize import thumbnail

        return thumbnail(image)

    @classmethod
    def legend(cls, prediction: Prediction, card: ModelCard) -> dict[str, tuple[int, int, int]]:
        """The colours on `thumbnail` that have a meaning, by class: RGB."""
        return {}

    @classmethod
    def files(cls, prediction: Prediction, card: ModelCard) -> dict[str, NDArray[np.uint8]]:
        """Pictures by a word for their names, grey (H, W) or colour (H, W, 3), that a demo saves beside the drawn one."""
        return {}

    @classmethod
    def tables(cls, described: Sequence[Mapping[str, Any]], card: ModelCard) -> dict[str, Any]:
        """JSON content by file name that a demo writes beside results.json, in formats that other tools read.

        described: what `describe` gave, one entry a picture, in their order.
        """
        return {}

    def heatmap(self, image: Tensor, prediction: Prediction) -> NDArray[np.float32] | None:
        """(h, w) of 0..1, in model input pixels: where the model looked, or None where the task has no such map.

        image: (1, C, h, w) normalised input.
        """
        return None


class Deployable(nn.Module):
    """A task's model with everything round it: (B, H, W, C) or (B, C, H, W) uint8 of any size -> named tensors."""

    def __init__(self, task: Task, layout: str = "nhwc") -> None:
        super().__init__()
        self.model, self.preprocess, self.layout = task.model, task.preprocess, layout
        self._infer, self._restore = task.infer, task.restore

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images: uint8 in the layout given at construction."""
        if self.layout == "nhwc":
            images = images.permute(0, 3, 1, 2)
        return self._restore(self._infer(self.preprocess(images)), (images.shape[-2], images.shape[-1]))


def as_arrays(outputs: Mapping[str, Tensor]) -> Outputs:
    """Tensors of any device as numpy arrays; half precision becomes float32, whole numbers stay what they are."""
    return {
        name: (value.float() if value.is_floating_point() else value).cpu().numpy() for name, value in outputs.items()
    }


def _answers_of_windows(run: Run, image: NDArray[np.uint8], card: ModelCard) -> Iterator[tuple[Window, Outputs]]:
    settings = PreprocessSettings(**card.preprocess)
    cut = windows((image.shape[0], image.shape[1]), tuple(settings.size), settings.overlap)
    for group in batches(cut, TILES_A_BATCH):
        outputs = run(np.stack([window.of(image) for window in group]))
        for i, window in enumerate(group):
            yield window, {name: value[i : i + 1] for name, value in outputs.items()}


def _tasks() -> dict[str, type[Task]]:
    from dao.register import Registers

    return {name: Registers.tasks.get(name) for name in Registers.tasks}  # type: ignore[misc]
