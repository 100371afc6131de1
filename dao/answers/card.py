"""What must be known of a model to use it, and reading that from a file of anybody's."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dao.answers import operating as points
from dao.errors import AICoreError, CheckpointError
from dao.preprocess.settings import PreprocessSettings

DEEPEST = 40  # levels of a card's JSON; a region of interest has five
LONGEST = 64 << 20  # characters of a card's JSON
STATED = ("size", "resize", "mean", "std", "in_channels")  # by every card: a default would answer otherwise
LARGEST_SIDE, LARGEST_AREA = 1 << 15, 1 << 26  # pixels of a model's input


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What must be known of a model to use it: it travels in the checkpoint and in the exported file's metadata.

    task: the config's ``type``; classes: names in score order; preprocess: `PreprocessSettings` as plain values;
    facts: what else the task needs to read its outputs (multi-label, thresholds, ...), plain values;
    version: of AICore, when it was made.
    """

    task: str
    classes: list[str]
    preprocess: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    version: str = ""

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: Any, source: str = "the model") -> ModelCard:
        """The card that `to_json` wrote; unknown keys of newer versions are ignored, settings that older ones did not have are
        what they were then.

        source: the file, for messages. Raises CheckpointError for what is no card, or says what cannot be.
        """
        content = plain_json(text, f"{source}: its model card")
        if not isinstance(content, dict):
            raise CheckpointError(
                f"{source}: its model card is damaged: expected an object, got {type(content).__name__}"
            )
        try:
            card = cls(**{k: v for k, v in content.items() if k in cls.__slots__})
            wrong = next(_problems(card), None)
            card = replace(card, preprocess=PreprocessSettings.of(card.preprocess).to_dict()) if wrong is None else card
        except AICoreError as error:  # a task's own word about its facts
            wrong = "; ".join(str(error).splitlines()[1:-1]).strip() or str(error)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError, IndexError) as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong is not None:
            raise CheckpointError(f"{source}: its model card is damaged: {wrong[:300]}")
        return card


def plain_json(text: Any, what: str) -> Any:
    """The value of a JSON text out of a file of anybody's: finite numbers, `DEEPEST` levels at most.

    Raises CheckpointError, of which ``what`` is the subject.
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        raise CheckpointError(f"{what} is damaged: expected JSON text, got {type(text).__name__}")
    try:
        content = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{what} is damaged: {type(error).__name__}: {str(error)[:100]}") from None
    for value, depth in _values(content):
        if depth > DEEPEST:
            raise CheckpointError(f"{what} is damaged: it is nested more than {DEEPEST} levels deep")
        if isinstance(value, float) and not math.isfinite(value):
            raise CheckpointError(f"{what} is damaged: it holds a number that is not finite")
    return content


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _values(content: Any) -> Iterator[tuple[Any, int]]:
    stack = [(content, 1)]
    while stack:
        value, depth = stack.pop()
        yield value, depth
        if isinstance(value, dict | list) and depth <= DEEPEST:
            stack += [(one, depth + 1) for one in (value.values() if isinstance(value, dict) else value)]


def _problems(card: ModelCard) -> Iterator[str]:
    """What is wrong with a card. May raise what its parts raise when they are read."""
    from dao.answers.kinds import answer_class, is_known, names

    if not isinstance(card.task, str) or not is_known(card.task):
        yield f"'{card.task}' is no task; known are {', '.join(names())}"
        return
    if (
        not isinstance(card.classes, list)
        or not card.classes
        or not all(isinstance(name, str) for name in card.classes)
    ):
        yield "its classes are no list of names"
        return
    if len(set(card.classes)) < len(card.classes):
        yield "it names a class twice"
    if not isinstance(card.preprocess, dict) or not isinstance(card.facts, dict):
        yield "its preprocess or facts are no object"
        return
    kind = answer_class(card.task)
    yield from _problems_of_preprocess(card.preprocess, kind.resizes)
    facts = kind.completed(card.facts)
    wrong = points.problems(facts, card.classes, {name: f"facts.{name}" for name in facts})
    yield from (f"{problem.where} {problem.what}" for problem in wrong)
    require(facts, points.SET_BY, isinstance(facts.get(points.SET_BY, {}), dict))
    kind.check_facts(facts)
    fewest = kind.fewest_classes(facts)
    if len(card.classes) < fewest:
        yield f"it names {len(card.classes)} class, and a model of this kind has at least {fewest}"


def _problems_of_preprocess(values: Mapping[str, Any], resizes: Sequence[str]) -> Iterator[str]:
    wrong = [f"preprocess.{name} {what}" for name, what in PreprocessSettings.misfits(values)]
    wrong += [f"preprocess.{name} is missing" for name in STATED if name not in values]
    yield from wrong
    if wrong:
        return
    settings = PreprocessSettings.of(values)
    if max(settings.size) > LARGEST_SIDE:
        yield f"preprocess.size is {list(settings.size)}, and {LARGEST_SIDE} is the most that a side may have"
    elif settings.size[0] * settings.size[1] > LARGEST_AREA:  # which would end this process for want of memory
        yield f"preprocess.size is {list(settings.size)}, and {LARGEST_AREA} pixels are the most that it may have"
    if settings.resize not in resizes:
        yield f"preprocess.resize '{settings.resize}' is none of this task's"


def require(facts: Mapping[str, Any], name: str, right: bool) -> None:
    """Raise ValueError, with a fact's value, where it is not right."""
    if not right:
        raise ValueError(f"facts.{name} cannot be {str(facts.get(name, 'missing'))[:60]}")
