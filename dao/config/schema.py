"""What a config may say: the sections, which register each draws from, and the signatures as the schema.

One tree (`SECTIONS`) serves the two readers: `validate` finds every problem of a config before anything is built,
`json_schema` tells an editor the same.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dao.config.limits import Limits
from dao.config.reading import ENV_REFERENCE, Raw
from dao.config.signature import check_kwargs, check_type, config_parameters, type_adapter
from dao.errors import Problem, nearest
from dao.preprocess.settings import PreprocessSettings
from dao.register import Register, Registers


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for components in a config.

    register: attribute of `Registers`, or "" where the config's ``type`` decides (models).
    form: "one", "list", or "either" (one component, or a list of them).
    children: sections that stand beside ``type`` and ``kwargs``; extra: plain keys there, with their types.
    needs: those of the children that cannot be left out.
    """

    register: str
    form: str = "one"
    children: Mapping[str, Slot] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


DATASET = Slot("datasets", children={"transforms": Slot("transforms", "list")})
DATALOADER = Slot("dataloaders", children={"dataset": DATASET}, needs=("dataset",))
SECTIONS: dict[str, Slot] = {
    "trainer": Slot("trainers"),
    "model": Slot(""),
    "loss": Slot("losses", "either", extra={"weight": float, "name": str}),
    "optimizer": Slot("optimizers"),
    "lr_scheduler": Slot("schedulers"),
    "dataloader": DATALOADER,
    "evaluator": Slot("evaluators", children={"dataloader": DATALOADER}),
    "calibration": Slot("calibrators", children={"dataloader": DATALOADER}),
    "images": Slot("datasets"),
    "export": Slot("exporters", "either"),
    "hooks": Slot("hooks", "list"),
    "loggers": Slot("loggers", "list"),
}
FROM_ENVIRONMENT = ("integer", "number", "boolean")  # JSON's types that a reference to the environment may stand for
ENVIRONMENT = {"$ref": "#/$defs/environment"}
PLAIN_SECTIONS: dict[str, type[Any]] = {"preprocess": PreprocessSettings, "limits": Limits}  # settings, no component
PLAIN_KEYS: dict[str, Any] = {"name": str, "type": str, "fullName": str}


def validate(raw: Raw) -> list[Problem]:
    """Every problem of a config: unknown and missing sections, unknown components, unfitting keywords, wrong types."""
    problems: list[Problem] = []
    for key, value in raw.items():
        if key in PLAIN_KEYS:
            problems += check_type(PLAIN_KEYS[key], value, key)
            problems += _name_problems(value) if key == "name" and isinstance(value, str) else []
        elif key in PLAIN_SECTIONS:
            problems += _validate_plain(key, PLAIN_SECTIONS[key], value)
        elif key in SECTIONS:
            problems += _validate_slot(_resolve(SECTIONS[key], key, raw), value, key)
        else:
            known = [*PLAIN_KEYS, *PLAIN_SECTIONS, *SECTIONS]
            problems.append(Problem(key, f"is not a section of a config. {nearest(key, known)}"))
    if isinstance(raw.get("type"), str) and raw["type"] not in Registers.tasks:
        problems.append(Problem("type", Registers.tasks.unknown(raw["type"])))
    return problems + _missing_sections(raw) + _unlabelled_training(raw) + _moved_judges(raw)


def _name_problems(name: str) -> list[Problem]:
    """A run's name is the name of one folder inside ``log_dir``: with more in it, it would lie somewhere else."""
    if re.search(r"[/\\\x00-\x1f]", name) or name.strip() in ("", ".", "..") or name != name.strip():
        message = (
            f"expected the name of one folder, without slashes, got {name!r}; trainer.kwargs.log_dir says where it lies"
        )
        return [Problem("name", message)]
    return []


def section_problems(key: str, value: Any, where: str) -> list[Problem]:
    """What is wrong with a section ``key`` that stands somewhere else, ``where``: a loss inside a hook."""
    return _validate_slot(SECTIONS[key], value, where)


def _moved_judges(raw: Raw) -> list[Problem]:
    """Transforms that move pixels, where pictures are judged or tell a threshold."""
    from dao.dataloaders.transforms import moving_problems, sections_problems

    problems = []
    for name in ("evaluator", "calibration"):
        node: Any = raw.get(name)
        for key in ("dataloader", "dataset", "transforms"):
            node = node.get(key) if isinstance(node, dict) else None
        where = f"{name}.dataloader.dataset.transforms"
        if isinstance(node, list) and node and not sections_problems(node, where):
            problems += moving_problems(node, where)
    return problems


def _unlabelled_training(raw: Raw) -> list[Problem]:
    """Pictures without labels, where a model is to learn from labels."""
    loader = raw.get("dataloader")
    section = loader.get("dataset") if isinstance(loader, dict) else None
    name = section.get("type") if isinstance(section, dict) else None
    if name not in Registers.datasets or getattr(Registers.datasets.get(name), "labelled", True):
        return []
    message = f"{name} has no labels to learn from; it is for demo ('images')"
    return [Problem("dataloader.dataset.type", message)]


def _missing_sections(raw: Raw) -> list[Problem]:
    trainer = raw.get("trainer")
    if not isinstance(trainer, dict):
        return [Problem("trainer", f"the section is missing; types: {', '.join(Registers.trainers)}")]
    if trainer.get("type") not in Registers.trainers:
        return []  # reported as an unknown component already
    stage: Any = Registers.trainers.get(trainer["type"])
    missing = [
        Problem(key, f"the section is missing; {trainer['type']} needs it") for key in stage.needs if key not in raw
    ]
    task: Any = Registers.tasks.get(raw["type"]) if raw.get("type") in Registers.tasks else None
    if task is not None and stage.trains:
        why = f"the section is missing; training a {raw['type']} model needs it"
        brought = _brought_by_model(raw, task)
        missing += [Problem(key, why) for key in task.training_needs if key not in raw and key not in brought]
        missing += [
            Problem(key, f"{raw['model']['type']} brings its own; leave the section out")
            for key in brought
            if key in raw
        ]
    return missing


def _brought_by_model(raw: Raw, task: Any) -> tuple[str, ...]:
    """Sections that a model makes needless: a component with ``brings = ("loss",)`` computes its own losses."""
    register, model = getattr(Registers, task.models), raw.get("model")
    name = model.get("type") if isinstance(model, dict) else None
    return tuple(getattr(register.get(name), "brings", ())) if isinstance(name, str) and name in register else ()


def _resolve(slot: Slot, key: str, raw: Raw) -> Slot:
    """The slot with its register known: which models there are to choose from depends on the config's ``type``."""
    if slot.register:
        return slot
    task = raw.get("type")
    if not isinstance(task, str) or task not in Registers.tasks:
        return slot
    return Slot(Registers.tasks.get(task).models, slot.form, slot.children, slot.extra)


def _validate_plain(key: str, settings_class: type[Any], value: Any) -> list[Problem]:
    if not isinstance(value, dict):
        return [_not_an_object(key, value)]
    problems = check_kwargs(settings_class, value, key)
    if problems:
        return problems
    settings = settings_class(**{k: tuple(v) if isinstance(v, list) else v for k, v in value.items()})
    return list(settings.problems())


def _validate_slot(slot: Slot, value: Any, where: str) -> list[Problem]:
    if slot.form == "list" or (slot.form == "either" and isinstance(value, list)):
        if not isinstance(value, list):
            return [Problem(where, f"expected a list of components, got {type(value).__name__}")]
        if slot.form == "either" and not value:
            return [Problem(where, "the list is empty; expected a component, or a list of them")]
        return [p for i, item in enumerate(value) for p in _validate_component(slot, item, f"{where}.{i}")]
    return _validate_component(slot, value, where)


def _validate_component(slot: Slot, section: Any, where: str) -> list[Problem]:
    if not isinstance(section, dict):
        return [_not_an_object(where, section)]
    problems = [Problem(f"{where}.{key}", "the section is missing") for key in slot.needs if key not in section]
    allowed = ["type", "kwargs", *slot.children, *slot.extra]
    for key, value in section.items():
        if key in slot.children:
            problems += _validate_slot(slot.children[key], value, f"{where}.{key}")
        elif key in slot.extra:
            problems += check_type(slot.extra[key], value, f"{where}.{key}")
        elif key not in allowed:
            problems.append(Problem(f"{where}.{key}", _misplaced(slot, section, key, allowed)))
    if not slot.register:
        return problems  # the config's type is unknown, which is reported on its own
    return problems + _validate_type_and_kwargs(getattr(Registers, slot.register), section, where)


def _misplaced(slot: Slot, section: Raw, key: str, allowed: list[str]) -> str:
    """Tell a keyword that stands one level too high from a name nobody knows."""
    name = section.get("type")
    known = slot.register and name in getattr(Registers, slot.register)
    if known and key in config_parameters(getattr(Registers, slot.register).get(name)):
        return f"belongs into kwargs: {{'type': '{name}', 'kwargs': {{'{key}': ...}}}}"
    return f"is not a key here. {nearest(key, allowed)}"


def _validate_type_and_kwargs(register: Register, section: Raw, where: str) -> list[Problem]:
    name, kwargs = section.get("type"), section.get("kwargs", {})
    if not isinstance(name, str):
        got = "nothing" if name is None else repr(name)
        return [
            Problem(
                f"{where}.type", f"expected the name of a {register.kind}, got {got}. {nearest('', list(register))}"
            )
        ]
    if name not in register:
        return [Problem(f"{where}.type", register.unknown(name))]
    if not isinstance(kwargs, dict):
        return [_not_an_object(f"{where}.kwargs", kwargs)]
    return register.check_kwargs(register.get(name), kwargs, f"{where}.kwargs")


def _not_an_object(where: str, value: Any) -> Problem:
    return Problem(where, f'expected an object such as {{"type": ..., "kwargs": {{...}}}}, got {type(value).__name__}')


# -- JSON Schema -----------------------------------------------------------------------------------------------------


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a config, for editors: completion, hover text, red underlines."""
    definitions: dict[str, Any] = {"dataset": _slot_schema(DATASET), "dataloader": _slot_schema(DATALOADER)}
    definitions["environment"] = {
        "description": "taken from the environment: ${NAME}, or ${NAME:default}",
        "type": "string",
        "pattern": f"^{ENV_REFERENCE.pattern}$",
    }
    for kind in FROM_ENVIRONMENT:
        definitions[kind] = {"anyOf": [{"type": kind}, ENVIRONMENT]}
    properties: dict[str, Any] = {
        "$schema": {"type": "string"},
        "_base_": {
            "description": "file(s) to inherit from, relative to this one",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        },
        **{key: {"type": "string"} for key in PLAIN_KEYS},
        **{key: _kwargs_schema(settings_class, ()) for key, settings_class in PLAIN_SECTIONS.items()},
    }
    properties["type"]["enum"] = list(Registers.tasks)
    for key, slot in SECTIONS.items():
        properties[key] = _slot_schema(slot) if slot.register else {"type": "object"}
    by_task = [
        {
            "if": {"properties": {"type": {"const": task}}, "required": ["type"]},
            "then": {"properties": {"model": _slot_schema(Slot(Registers.tasks.get(task).models))}},
        }
        for task in Registers.tasks
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "AICore config",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "allOf": by_task,
        "$defs": definitions,
    }


def _slot_schema(slot: Slot) -> dict[str, Any]:
    """One ``if type is X then its kwargs`` per component, so that an editor completes and underlines exactly."""
    register: Register = getattr(Registers, slot.register)
    children = {
        key: {"$ref": f"#/$defs/{key}"} if key in ("dataset", "dataloader") else _slot_schema(child)
        for key, child in slot.children.items()
    }
    # a section with a _base_ may leave its type to the base, so nothing is required here; main.py requires it
    one = {
        "type": "object",
        "properties": {
            "type": {"enum": list(register)},
            "kwargs": {"type": "object"},
            "_delete_": {"type": "boolean"},
            **children,
            **{
                key: or_environment({"type": "number" if kind is float else "string"})
                for key, kind in slot.extra.items()
            },
        },
        "additionalProperties": False,
        "allOf": [
            {
                "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                "then": {"properties": {"kwargs": _kwargs_schema(register.get(name), register.context)}},
            }
            for name in register
        ],
    }
    many = {"type": "array", "items": one}
    return {"one": one, "list": many, "either": {"anyOf": [one, many]}}[slot.form]


def _kwargs_schema(component: Any, context: tuple[str, ...]) -> dict[str, Any]:
    properties = {}
    for key, parameter in config_parameters(component).items():
        properties[key] = _value_schema(parameter)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(component).parameters.values())
    return {
        "type": "object",
        "description": (inspect.getdoc(component) or "").split("\n\n")[0],
        "properties": {**properties, "_delete_": {"type": "boolean"}},
        "additionalProperties": takes_any,
    }


def _value_schema(parameter: inspect.Parameter) -> dict[str, Any]:
    try:
        schema: dict[str, Any] = type_adapter(parameter.annotation).json_schema()
    except Exception:  # a type that JSON cannot describe: the component checks it itself
        schema = {}
    schema = or_environment(schema)
    default = parameter.default
    if default is not parameter.empty and isinstance(default, (str, int, float, bool, type(None))):
        schema = {**schema, "default": default}
    return schema


def or_environment(schema: dict[str, Any]) -> dict[str, Any]:
    """The same, and wherever it wants anything but free text, a reference to the environment: the loader makes a value
    of it. Numbers and booleans become named definitions, which keeps what an editor shows short."""
    kind = schema.get("type")
    if kind in FROM_ENVIRONMENT and schema.keys() == {"type"}:
        return {"$ref": f"#/$defs/{kind}"}
    inner = {key: _items_or_environment(value) for key, value in schema.items()}
    choices = inner.get("anyOf")
    if choices is not None:
        takes_text = any(choice in ({"type": "string"}, {}) or "$ref" in choice for choice in choices)
        return inner if takes_text else {**inner, "anyOf": [*choices, ENVIRONMENT]}
    closed = kind in ("array", "object", *FROM_ENVIRONMENT) or "enum" in schema or "const" in schema
    return {"anyOf": [inner, ENVIRONMENT]} if closed else inner


def _items_or_environment(value: Any) -> Any:
    """The schemas inside a schema: what a list holds, and what may be chosen between (which is offered a reference once)."""
    if isinstance(value, dict) and "type" in value:
        return or_environment(value)
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return [_plain_or_environment(item) for item in value]
    return value


def _plain_or_environment(schema: dict[str, Any]) -> dict[str, Any]:
    changed = or_environment(schema)
    several = changed.get("anyOf", [])
    return several[0] if len(several) == 2 and several[1] == ENVIRONMENT and "anyOf" not in schema else changed
