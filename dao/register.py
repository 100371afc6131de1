"""Every component by name.

A component is a class or a function, registered once, beside its definition::

    @Registers.losses.register("FocalLoss", "focal")
    class FocalLoss(nn.Module):
        def __init__(self, gamma: float = 2.0, num_classes: int = 2) -> None: ...

A config names it: ``{"type": "FocalLoss", "kwargs": {"gamma": 1.5}}``. The signature is the schema: validation,
``main.py --schema`` and ``main.py --list`` read it and nothing else. Parameters whose names are in the register's
``context`` (here ``num_classes``) are handed over by the core when the signature asks for them.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dao.config import modules
from dao.config.signature import Component, check_kwargs
from dao.errors import ConfigError, Problem, nearest

CUSTOM_MODULES = "custom_modules"  # what main.py imports of the working directory
# packages of dao/ whose modules register components
ROOMS = (
    "tasks",
    "models",
    "losses",
    "optimizers",
    "schedulers",
    "dataloaders",
    "evaluators",
    "calibrators",
    "exporters",
    "loggers",
    "trainers",
)


class Register:
    """The components of one kind.

    kind: how messages call one of them ("loss"); context: parameter names the core supplies, so a config need not.
    """

    def __init__(self, kind: str, context: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.context = context
        self._components: dict[str, Component] = {}

    def register(self, *names: str) -> Callable[[Component], Component]:
        """Decorator: file a class or function under ``names``, or under its own name when none is given.

        Raises ValueError when a name is taken, naming both modules.
        """

        def decorate(component: Component) -> Component:
            for name in names or (component.__name__,):
                self._add(name, component)
            return component

        return decorate

    def _add(self, name: str, component: Component) -> None:
        taken = self._components.get(name)
        if taken is not None and taken is not component:
            raise ValueError(
                f"{self.kind} '{name}' is registered twice: in {taken.__module__} and in {component.__module__}"
            )
        self._components[name] = component

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._components

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._components))

    def get(self, name: str, where: str = "type") -> Component:
        """The component called ``name``; raises ConfigError with the nearest names when there is none."""
        try:
            return self._components[name]
        except KeyError:
            raise ConfigError(Problem(where, self.unknown(name))) from None

    def unknown(self, name: object) -> str:
        """What to tell a user whose ``name`` is not registered here."""
        article = "an" if self.kind[0] in "aeiou" else "a"
        return f"'{name}' is not {article} {self.kind}. {nearest(str(name), list(self))}"

    def build(self, section: Mapping[str, Any], where: str = "", **context: Any) -> Any:
        """Build what ``section`` = {"type": ..., "kwargs": {...}} names.

        ``context`` values go to the parameters that ask for them by name; what the config sets wins.
        Raises ConfigError for an unknown type or unfitting keywords. Errors raised inside pass through untouched.
        """
        prefix = f"{where}." if where else ""
        component = self.get(section["type"], f"{prefix}type")
        kwargs = to_plain(section.get("kwargs") or {})
        problems = self.check_kwargs(component, kwargs, f"{prefix}kwargs")
        if problems:
            raise ConfigError(problems)
        parameters = inspect.signature(component).parameters
        supplied = {k: v for k, v in context.items() if k in parameters and k not in kwargs}
        return component(**supplied, **kwargs)

    def check_kwargs(self, component: Component, kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Everything wrong with ``kwargs`` for ``component``: its signature's word, then its own ``check_config``'s."""
        problems = check_kwargs(component, kwargs, where, self.context)
        own_rules = getattr(component, "check_config", None)
        return problems or (list(own_rules(kwargs, where)) if callable(own_rules) else [])


class _Suggesting(type):
    """So that a misspelt register names the nearest."""

    def __getattr__(cls, name: str) -> Any:
        known = [key for key, value in vars(cls).items() if isinstance(value, Register)]
        raise AttributeError(f"there is no Registers.{name}. {nearest(name, known)}")


class Registers(metaclass=_Suggesting):
    """The central list of registers. A new kind of component is one line here."""

    tasks = Register("task", context=("config", "classes", "loss", "in_chans"))
    backbones = Register("backbone", context=("in_chans",))
    cls_models = Register("cls_model", context=("num_classes", "in_chans"))
    seg_models = Register("seg_model", context=("num_classes", "in_chans"))
    det_models = Register("det_model", context=("num_classes", "in_chans"))
    anomaly_models = Register("anomaly_model", context=("num_classes", "in_chans"))
    datasets = Register("dataset", context=("classes",))
    dataloaders = Register("dataloader", context=("dataset", "transforms", "preprocess", "training", "seed"))
    transforms = Register("transform")
    losses = Register("loss", context=("num_classes", "class_counts", "class_total", "multi_label"))
    optimizers = Register("optimizer", context=("model",))
    schedulers = Register("scheduler", context=("total_iters", "iters_per_epoch", "no_aug_iters"))
    evaluators = Register("evaluator", context=("classes",))
    trainers = Register("trainer", context=("config", "options"))
    hooks = Register("hook")
    calibrators = Register("calibrator")
    exporters = Register("exporter")
    loggers = Register("logger", context=("run_dir",))

    @classmethod
    def all(cls) -> dict[str, Register]:
        """Every register by its attribute name, in the order written above."""
        return {name: value for name, value in vars(cls).items() if isinstance(value, Register)}


def to_plain(value: Any) -> Any:
    """The plain dict/list form of a config node (DotMap included), so that components never see DotMaps."""
    if isinstance(value, Mapping) or hasattr(value, "toDict"):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    return value


def import_all_modules_for_register(
    custom_dir: str | Path | None = None, cus_file: str | Path | None = None, ours: bool = True
) -> None:
    """Import every module that registers something: all of dao/, all of custom_dir, and what cus_file names.

    custom_dir: a user's folder; None for none. Only main.py takes the working directory's `CUSTOM_MODULES`: whoever
    uses this package from elsewhere does not run what happens to lie there.
    cus_file: JSON list of module names or .py paths, or {"modules": [...]}. ours: import dao/'s modules first; a PC
    without torch cannot.
    Raises ConfigError naming the module when a user's module cannot be imported.
    """
    import dao

    for room in ROOMS if ours else ():
        paths = [str(Path(folder) / room) for folder in dao.__path__]
        for module in pkgutil.walk_packages(paths, f"dao.{room}."):
            importlib.import_module(module.name)
    modules.named_file = str(cus_file) if cus_file else None
    if custom_dir is not None:
        folder = Path(custom_dir)
        if not folder.is_dir() and custom_dir != CUSTOM_MODULES:
            raise ConfigError(Problem("custom_modules", f"{folder} is no folder (working directory: {Path.cwd()})"))
        modules.import_folder(folder)
    for entry in _read_cus_file(Path(cus_file)) if cus_file else []:
        modules.import_file(Path(entry)) if entry.endswith(".py") else modules.import_name(entry)


def _read_cus_file(path: Path) -> list[str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(Problem("--cus_file", f"{path} does not exist")) from None
    except json.JSONDecodeError as error:
        raise ConfigError(Problem("--cus_file", f"{path} is not JSON: {error}")) from None
    names = content.get("modules", content) if isinstance(content, dict) else content
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(Problem("--cus_file", f'{path}: expected a list of modules or {{"modules": [...]}}'))
    return names
