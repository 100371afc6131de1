"""Augmentation: every albumentations transform by its name in JSON, some of ours, and the pipeline that runs them.

What a picture gets is a function of (seed, epoch, index) alone (`transform_seed`), so it depends neither on the
number of workers nor on that of processes, and a resumed run repeats it.
"""

from __future__ import annotations

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the internet for a newer version at import

import inspect
import itertools
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path  # noqa: F401 (named by annotations of albumentations)
from typing import Any, Literal  # noqa: F401

import albumentations as A
import cv2  # noqa: F401 (named by annotations of albumentations)
import numpy as np
from numpy.typing import NDArray

from dao.dataloaders import box_transforms, mask_transforms, own_transforms  # noqa: F401 (the first two register theirs)
from dao.dataloaders.box_geometry import MIN_VISIBLE
from dao.dataloaders.composition import Transform, composition
from dao.dataloaders.sample_transforms import Around, SampleTransform
from dao.errors import AICoreError, ConfigError, Problem
from dao.processes.seeding import mix
from dao.register import Register, Registers, to_plain
from dao.structures import Sample

AnyTransform = Transform | SampleTransform
Section = Mapping[str, Any]

# combine transforms; in JSON they take "transforms": [{"type", "kwargs"}, ...]
COMPOSITIONS = ("OneOf", "OneOrOther", "RandomOrder", "SelectiveChannelTransform", "Sequential", "SomeOf")

# what cannot be offered by name in JSON, and why
NOT_OFFERED = {
    **dict.fromkeys(("Normalize", "ToTensorV2"), "is the work of the section 'preprocess': leave it out here"),
    **dict.fromkeys(("Compose", "ReplayCompose"), "is the list of transforms itself; 'Sequential' nests one"),
    "Lambda": "takes Python functions; write a transform of your own in custom_modules",
    **dict.fromkeys(
        ("FDA", "HistogramMatching", "PixelDistributionAdaptation", "OverlayElements", "TextImage"),
        "needs a second picture or text with every call, which a list of transforms cannot hand over",
    ),
    "RandomCropNearBBox": "needs a box named apart from the picture's own",
    **dict.fromkeys(
        ("CenterCrop3D", "CoarseDropout3D", "CubicSymmetry", "Pad3D", "PadIfNeeded3D", "RandomCrop3D", "ToTensor3D"),
        "works on volumes, not on pictures",
    ),
}
OWN_INSTEAD = ("Mosaic",)  # ours goes by the same name: theirs must be handed the other pictures with every call
_ABSTRACT = {"BasicTransform", "BaseCompose", "DualTransform", "ImageOnlyTransform", "Transform3D"}

# albumentations warns of wrong values and of matters of taste alike; these are taste
_ADVICE = ("is a special", "is very slow", "is an alias", "is a specialized")

# and it remarks on single pictures ("already an RGB"); construction is looked at with all warnings on, below
warnings.filterwarnings("ignore", category=UserWarning, module=r"albumentations\.")


# -- from albumentations to the register -----------------------------------------------------------------------------


def _register_albumentations() -> None:
    for name in dir(A):
        cls = getattr(A, name)
        if not inspect.isclass(cls) or not issubclass(cls, (A.BasicTransform, A.BaseCompose)):
            continue
        if name not in NOT_OFFERED and name not in _ABSTRACT and name not in OWN_INSTEAD:
            Registers.transforms.register(name)(as_component(cls))
    for cls in own_transforms.OWN:
        Registers.transforms.register(cls.__name__)(as_component(cls))


def as_component(cls: type[Transform]) -> Callable[..., Transform]:
    """A transform class as a registered component: its signature, and construction that refuses instead of warning."""
    nests = cls.__name__ in COMPOSITIONS

    def component(**kwargs: Any) -> Transform:
        problems = component.check_config(kwargs, cls.__name__)
        if problems:
            raise ConfigError(problems)
        if nests:
            kwargs = {**kwargs, "transforms": [_build_one(item) for item in kwargs["transforms"]]}
        return _construct(cls, kwargs, cls.__name__)[0]

    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        if nests:
            return _composition_problems(cls, kwargs, where)
        return _construct(cls, kwargs, where)[1]

    component.__name__ = component.__qualname__ = cls.__name__
    component.__doc__ = cls.__doc__
    component.__module__ = cls.__module__
    component.check_config = check_config
    component.moves = issubclass(cls, A.DualTransform) and cls is not A.NoOp
    component.__signature__ = _signature(cls)
    component.__annotations__ = {p.name: p.annotation for p in component.__signature__.parameters.values()}
    return component


def _signature(cls: type[Transform]) -> inspect.Signature:
    parameters = list(inspect.signature(cls).parameters.values())
    if cls.__name__ in COMPOSITIONS:
        nested = inspect.Parameter("transforms", inspect.Parameter.KEYWORD_ONLY, annotation=list[dict[str, Any]])
        rest = [p for p in parameters if p.name not in ("transforms", "first", "second")]
        parameters = [nested, *rest]
    keyword_only = [
        p.replace(kind=p.KEYWORD_ONLY, annotation=Any if p.annotation is p.empty else p.annotation) for p in parameters
    ]
    return inspect.Signature(keyword_only)


def _construct(cls: type[Transform], kwargs: Mapping[str, Any], where: str) -> tuple[Any, list[Problem]]:
    """The transform, or what is wrong with its values."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            built = cls(**kwargs)
        except Exception as error:
            return None, _explain(error, kwargs, where)
    problems = []
    for warning in caught:
        text = " ".join(str(warning.message).split())
        if issubclass(warning.category, DeprecationWarning) or any(advice in text for advice in _ADVICE):
            continue
        problems.append(Problem(where, f"{cls.__name__}: {text}"))
    return built, problems


def _explain(error: Exception, kwargs: Mapping[str, Any], where: str) -> list[Problem]:
    """One problem a field where pydantic refused it, else the error's own words."""
    from pydantic import ValidationError

    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return [Problem(where, " ".join(str(error).split()))]
    problems: dict[str, Problem] = {}
    for detail in cause.errors():
        field = str(detail["loc"][0]) if detail["loc"] else ""
        place = f"{where}.{field}" if field else where
        got = f", got {kwargs[field]!r}" if field in kwargs else ""
        problems.setdefault(place, Problem(place, f"{detail['msg'].removeprefix('Value error, ')}{got}"))
    return list(problems.values())


def _composition_problems(cls: type[Transform], kwargs: Mapping[str, Any], where: str) -> list[Problem]:
    nested, p = kwargs["transforms"], kwargs.get("p", 0.5)
    problems = sections_problems(nested, f"{where}.transforms")
    for i, section in enumerate([] if problems else nested):
        if is_sample_transform(section["type"]):
            what = f"{section['type']} cannot stand inside {cls.__name__}; put it into the list itself, with a 'p'"
            problems.append(Problem(f"{where}.transforms.{i}.type", what))
    if not nested:
        problems.append(Problem(f"{where}.transforms", f"{cls.__name__} needs at least one transform"))
    if cls is A.OneOrOther and len(nested) != 2:
        problems.append(Problem(f"{where}.transforms", f"OneOrOther chooses between two transforms, got {len(nested)}"))
    if not 0 <= p <= 1:
        problems.append(Problem(f"{where}.p", f"is a probability, 0 to 1; got {p}"))
    count = kwargs.get("n", 1)
    if count < 1 or (count > len(nested) > 0 and not kwargs.get("replace", False)):
        problems.append(Problem(f"{where}.n", f"takes 1 to {len(nested)} of the {len(nested)} transforms, got {count}"))
    if cls is A.OneOf and nested and not problems and not any(_build_one(item).p for item in nested):
        problems.append(Problem(f"{where}.transforms", "every p is 0, so none of them can be chosen"))
    return problems


# -- from a config section to a pipeline -----------------------------------------------------------------------------


def sections_problems(sections: Sequence[Any], where: str) -> list[Problem]:
    """Everything wrong with a list of {"type", "kwargs"}, nested ones included, each with its place."""
    return [p for i, section in enumerate(sections) for p in _section_problems(section, f"{where}.{i}")]


def _section_problems(section: Any, where: str) -> list[Problem]:
    register: Register = Registers.transforms
    if not isinstance(section, Mapping) or not isinstance(section.get("type"), str):
        return [Problem(where, f'expected {{"type": ..., "kwargs": {{...}}}}, got {section!r}')]
    extra = [key for key in section if key not in ("type", "kwargs")]
    problems = [Problem(f"{where}.{key}", "is not a key here; values go into 'kwargs'") for key in extra]
    name, kwargs = section["type"], to_plain(section.get("kwargs") or {})
    if name not in register:
        why = f"'{name}' {NOT_OFFERED[name]}" if name in NOT_OFFERED else register.unknown(name)
        return [*problems, Problem(f"{where}.type", why)]
    if not isinstance(kwargs, dict):
        return [*problems, Problem(f"{where}.kwargs", f"expected an object, got {kwargs!r}")]
    return problems + register.check_kwargs(register.get(name), kwargs, f"{where}.kwargs")


def moving_problems(sections: Sequence[Any], where: str) -> list[Problem]:
    """The transforms of a sound list, nested ones included, that an evaluation cannot take: those that move, cut or cover
    pixels, as what is to be found would no longer be where its truth says. Those that change how pixels look may stay."""
    problems = []
    for i, section in enumerate(sections):
        component, kwargs = Registers.transforms.get(section["type"]), section.get("kwargs") or {}
        nested = kwargs.get("transforms") if section["type"] in COMPOSITIONS else None
        if nested:
            problems += moving_problems(nested, f"{where}.{i}.kwargs.transforms")
        elif _moves(component) and kwargs.get("p", 1) > 0:
            what = (
                f"{section['type']} moves, cuts or covers pixels, and what is judged must lie where its truth says: leave "
                "it out here. The size and border that every picture needs belong into the section 'preprocess'; "
                "transforms that change brightness or colour may stay"
            )
            problems.append(Problem(f"{where}.{i}.type", what))
    return problems


def _moves(component: Any) -> bool:
    return bool(getattr(component, "moves", inspect.isclass(component) and issubclass(component, A.DualTransform)))


def is_sample_transform(name: str) -> bool:
    """Whether a registered transform is one of ours that changes whole Samples."""
    component = Registers.transforms.get(name)
    return inspect.isclass(component) and issubclass(component, SampleTransform)


def _build_one(section: Section) -> Any:
    return Registers.transforms.build(section)


def build_transforms(sections: Sequence[Section] | None, where: str = "transforms") -> Pipeline | None:
    """The pipeline that a config's list of transforms describes; None for an empty one.

    Raises ConfigError with every problem of the list, each with its place in the config.
    """
    sections = to_plain(sections or [])
    problems = sections_problems(sections, where)
    if problems:
        raise ConfigError(problems)
    return Pipeline([_build_one(section) for section in sections], where) if sections else None


def transform_seed(seed: int, epoch: int, index: int) -> int:
    """A 64-bit seed for one picture in one epoch; neighbouring inputs give unrelated seeds."""
    return mix(seed, epoch, index)


class Pipeline:
    """Transforms in order, applied to a Sample with what it carries: picture, mask (nearest), boxes with labels.

    Neighbours of albumentations run as one composition; our SampleTransforms run between them.
    """

    def __init__(
        self, transforms: Sequence[AnyTransform], where: str = "transforms", min_visible: float = MIN_VISIBLE
    ) -> None:
        self.where, self.transforms, self.min_visible = where, list(transforms), min_visible
        self._steps: list[A.Compose | SampleTransform] = []
        for ours, group in itertools.groupby(self.transforms, lambda t: isinstance(t, SampleTransform)):
            members = list(group)
            self._steps += members if ours else [composition(members, min_visible)]

    def __call__(self, sample: Sample, seed: int, around: Around | None = None) -> Sample:
        """The transformed Sample; the one given is left as it is. Equal seeds give equal results.

        around: what transforms may ask for beyond the picture; without it there are no other pictures to draw.
        Raises ConfigError when a transform cannot work on this picture, or does not leave uint8 pixels.
        """
        around = around or Around((sample.image.shape[0], sample.image.shape[1]), min_visible=self.min_visible)
        for place, step in enumerate(self._steps):
            sample = self._run(step, sample, mix(seed, place) if place else seed, around)
        return sample

    def _run(self, step: A.Compose | SampleTransform, sample: Sample, seed: int, around: Around) -> Sample:
        rng = np.random.default_rng(seed)
        try:
            if isinstance(step, SampleTransform):
                return step(sample, around, rng)
            # `set_random_seed` would give every transform the same stream: a flip would always come with the other flip
            step.set_random_state(rng, random.Random(seed))
            data = step(**self._inputs(sample))
        except AICoreError:
            raise
        except Exception as error:
            size = "x".join(str(side) for side in sample.image.shape[:2])
            what = f"failed on {sample.path} ({size} pixels): {type(error).__name__}: {error}"
            raise ConfigError(Problem(self.where, what)) from error
        return self._outputs(sample, data)

    @property
    def needs_original(self) -> bool:
        """Whether a transform must see pictures in their own resolution."""
        return any(getattr(transform, "needs_original", False) for transform in self.transforms)

    def without_augmentation(self) -> Pipeline | None:
        """What stays in a run's last epochs: transforms that prepare a picture rather than vary it."""
        prepare = [t for t in self.transforms if getattr(t, "prepares", False) and t.p == 1]
        return Pipeline(prepare, self.where, self.min_visible) if prepare else None

    def keeping(self, min_visible: float) -> Pipeline:
        """The same, dropping boxes of which a cut leaves a smaller share."""
        return Pipeline(self.transforms, self.where, min_visible)

    @staticmethod
    def _inputs(sample: Sample) -> dict[str, Any]:
        data: dict[str, Any] = {"image": sample.image}
        if sample.mask is not None:
            data["mask"] = sample.mask
        if sample.boxes_xyxy is not None:
            rows = np.arange(len(sample.boxes_xyxy), dtype=np.float32)[:, None]
            data["bboxes"] = np.concatenate([sample.boxes_xyxy.astype(np.float32), rows], axis=1)
        return data

    def _outputs(self, sample: Sample, data: dict[str, Any]) -> Sample:
        image: NDArray[Any] = data["image"]
        if image.dtype != np.uint8:
            what = f"leave {image.dtype} pixels, expected uint8; 'FromFloat' at the end turns them back"
            raise ConfigError(Problem(self.where, what))
        changed = replace(sample, image=image[:, :, None] if image.ndim == 2 else image)
        if sample.mask is not None:
            changed.mask = data["mask"]
        if sample.boxes_xyxy is not None:
            rows = np.asarray(data["bboxes"], np.float32).reshape(-1, 5)
            changed.boxes_xyxy = np.ascontiguousarray(rows[:, :4])
            if sample.box_labels is not None:
                changed.box_labels = sample.box_labels[rows[:, 4].round().astype(np.int64)]
        return changed


_register_albumentations()
