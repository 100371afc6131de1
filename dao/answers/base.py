"""What an answer is, for each of the problems: from a model's arrays to a verdict, words, files and pictures.

numpy and OpenCV alone: training, evaluation, demo and the PC at the line share it, whatever runs the model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dao.answers import checked as arrays
from dao.answers import operating as points
from dao.answers.card import ModelCard
from dao.answers.checked import Outputs, Shape
from dao.answers.operating import SET_BY
from dao.errors import CheckpointError, ConfigError, Problem
from dao.preprocess.settings import PreprocessSettings
from dao.preprocess.tiling import Window, batches, windows
from dao.structures import Prediction

Run = Callable[[NDArray[np.uint8]], Outputs]  # (B, H, W, C) uint8 -> named arrays in the pictures' own pixels
TILES_A_BATCH = 4


class Answer(ABC):
    """How one kind of problem is answered. A class of class methods: all that it needs to know stands in the card.

    operating: those of the card's facts that decide verdicts after the model has spoken (`decode`), so that any file may
    be told others; aliases: short names for them. resizes: the kinds of `preprocess.resize` that it can answer with.
    """

    operating: ClassVar[tuple[str, ...]] = ()
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType({})
    resizes: ClassVar[tuple[str, ...]] = ("letterbox", "stretch", "crop")

    # -- what the card says

    @classmethod
    def check_facts(cls, facts: Mapping[str, Any]) -> None:
        """Raise ValueError, KeyError, TypeError or ConfigError for facts out of a file that no model of ours has.

        facts: as `completed` gives them; their operating points have been looked at.
        """

    @classmethod
    def fewest_classes(cls, facts: Mapping[str, Any]) -> int:
        """How many classes a model must have to answer at all. facts: as `completed` gives them."""
        return 1

    @classmethod
    def completed(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        """A card's facts with those that cards of before lack, at the values by which such models answered."""
        return dict(facts)

    @classmethod
    def facts_with(cls, card: ModelCard, facts: Mapping[str, Any], where: str = "facts") -> dict[str, Any]:
        """A card's facts with some set to other values, by their names or `aliases`; who set them is noted.

        Raises ConfigError for a fact that the model does not have, and for values that make no sense.
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
        return points.changed(known, given, {name: f"set by {places[name]}" for name in given})

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
        cls.warn_of_points(card.facts, after)
        return replace(card, facts=after)

    @classmethod
    def warn_of_points(cls, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Say of an operating point that was just set what makes it unlikely to be meant so. Facts before and since."""

    @classmethod
    def fact_problems(
        cls, given: Mapping[str, Any], known: Mapping[str, Any], classes: Sequence[str], places: Mapping[str, str]
    ) -> list[Problem]:
        """What is wrong with new values of facts. known: all as they are; places: where each new one was written."""
        return points.problems(given, classes, places)

    # -- from arrays to an answer

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
        if card.preprocess["resize"] != "tile":
            return cls.answer_batch(run, image[None], card)[0]

        def sound(images: NDArray[np.uint8]) -> Outputs:
            return cls.checked(run(images), card, len(images), (int(images.shape[1]), int(images.shape[2])))

        return cls.finished(cls.merge_tiles(answers_of_windows(sound, image, card), card, hw), card, hw)

    @classmethod
    def answer_batch(cls, run: Run, images: NDArray[np.uint8], card: ModelCard) -> list[Prediction]:
        """As `answer`, of (B, H, W, C) pictures of one size in one go; not for models that answer window by window."""
        hw = (int(images.shape[1]), int(images.shape[2]))
        outputs = cls.checked(run(images), card, len(images), hw)
        return [cls.finished(one, card, hw) for one in cls.decode(outputs, card, [hw] * len(images))]

    @classmethod
    def finished(cls, prediction: Prediction, card: ModelCard, original_hw: tuple[int, int]) -> Prediction:
        """The prediction, which knows the size of its picture and how to tell of itself (`Prediction.to_dict`)."""
        prediction.original_hw, prediction.describer = original_hw, partial(cls.as_dict, card=card)
        return prediction

    @classmethod
    def expected(cls, card: ModelCard, hw: tuple[int, int]) -> dict[str, Shape]:
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
        """A model's arrays before anything is read from them; see `dao.answers.checked.checked`."""
        return arrays.checked(outputs, cls.expected(card, hw), len(card.classes), pictures)

    # -- telling and showing

    @classmethod
    def badness(cls, prediction: Prediction, card: ModelCard) -> float:
        """How bad the picture looks, 0..1; the score of the answer where nobody knows which classes mean a bad part."""
        return float(cls.describe(prediction, card).get("score", 0))

    @classmethod
    def as_dict(cls, prediction: Prediction, card: ModelCard) -> dict[str, Any]:
        """A prediction as plain JSON values, with the same keys for every problem; see `Prediction.to_dict`."""
        from dao.answers.plain import as_dict

        return as_dict(cls, prediction, card)

    @classmethod
    @abstractmethod
    def describe(cls, prediction: Prediction, card: ModelCard) -> dict[str, Any]:
        """A prediction as plain JSON values with class names, for results.json."""

    @classmethod
    def caption(cls, prediction: Prediction, card: ModelCard) -> str:
        """A few words for a contact sheet."""
        described = cls.describe(prediction, card)
        return f"{described.get('label', '')}: score {described.get('score', 0):.2f}"

    @classmethod
    @abstractmethod
    def draw(
        cls,
        image: NDArray[np.uint8],
        prediction: Prediction,
        card: ModelCard,
        truth: Any = None,
        heatmap: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        """The picture (H, W, 3) uint8 with what the model says of it."""

    @classmethod
    def thumbnail(cls, image: NDArray[np.uint8], prediction: Prediction, card: ModelCard) -> NDArray[np.uint8]:
        """The small picture for a contact sheet; problems with places in the picture mark them."""
        from dao.drawing.pictures import thumbnail

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

    # -- two answers to one picture (export parity)

    @classmethod
    def compare(cls, mine: Outputs, theirs: Outputs, card: ModelCard, original_hw: tuple[int, int]) -> dict[str, Any]:
        """How an exported file's arrays differ from the model's for pictures of one size.

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
        """(2, n) the lowest and the highest value of each number that an answer is made of, for pictures of one size:
        numbers that are the same everywhere and always prove nothing of a file."""
        numbers = [value.astype(np.float64) for value in mine.values() if value.dtype.kind == "f" and value.size]
        columns = [
            np.moveaxis(v, 1, 0).reshape(v.shape[1], -1) if v.ndim in (2, 4) else v.reshape(1, -1) for v in numbers
        ]
        return np.concatenate([[c.min(axis=1), c.max(axis=1)] for c in columns], axis=1)

    @classmethod
    @abstractmethod
    def agreement(cls, first: Prediction, second: Prediction) -> bool:
        """Whether two predictions of one picture mean the same verdict."""


def answers_of_windows(run: Run, image: NDArray[np.uint8], card: ModelCard) -> Iterator[tuple[Window, Outputs]]:
    """The windows of a (H, W, C) picture, in order, each with a model's arrays for it alone (B = 1)."""
    settings = PreprocessSettings(**card.preprocess)
    cut = windows((image.shape[0], image.shape[1]), tuple(settings.size), settings.overlap)
    for group in batches(cut, TILES_A_BATCH):
        outputs = run(np.stack([window.of(image) for window in group]))
        for i, window in enumerate(group):
            yield window, {name: value[i : i + 1] for name, value in outputs.items()}
