"""Importing a user's modules, so that each file is one module, by whatever names they import each other.

A file of custom_modules/ is called ``custom_modules.losses`` by one of its neighbours and ``losses`` by another; loaded
once for each name, its components would be registered twice.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from dao.errors import ConfigError, Problem

named_file: str | None = None  # what -m named in this process: a run that goes on needs it again


class OneModuleAFile(MetaPathFinder):
    """Answers an import of a user's file that is loaded already, under another name, with that module.

    folders: where users' files lie; imports from elsewhere go on as ever.
    """

    def __init__(self) -> None:
        self.folders: set[str] = set()

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.origin is None or not self._is_a_users(spec.origin):
            return None
        loaded = loaded_from(spec.origin)
        return None if loaded is None else ModuleSpec(name, AlreadyLoaded(loaded), origin=spec.origin)

    def _is_a_users(self, file: str) -> bool:
        real = os.path.realpath(file)
        return any(real.startswith(folder + os.sep) for folder in self.folders)


class AlreadyLoaded(Loader):
    """Hands out a module that exists."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """See importlib.abc.Loader."""
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        """It has been run; only its own name, which the import has just overwritten, is put back."""
        module.__spec__ = self.spec


FINDER = OneModuleAFile()


def loaded_from(file: str | Path) -> ModuleType | None:
    """The module that a file was loaded as, or is being loaded as; None when it is not."""
    real = os.path.realpath(file)
    end = Path(real).name
    for module in list(sys.modules.values()):
        known = getattr(module, "__file__", None)
        if isinstance(known, str) and known.endswith(end) and os.path.realpath(known) == real:
            return module
    return None


def import_folder(folder: Path) -> None:
    """Import every .py file under a folder, as ``folder.name.of.file`` where that can be imported."""
    for path in sorted(folder.glob("**/*.py")) if folder.is_dir() else []:
        import_file(path, folder.resolve())


def import_file(path: Path, folder: Path | None = None) -> None:
    """Import a file once; its neighbours may import it as ``name``, those in ``folder`` also as ``folder.name``.

    Raises ConfigError naming the file when it cannot be imported.
    """
    resolved = path.resolve()
    if loaded_from(resolved) is None:
        _guard(str(path), lambda: _load(resolved, folder or resolved.parent))


def import_name(name: str) -> None:
    """Import a module by its name. Raises ConfigError naming it when that fails."""
    _guard(name, lambda: importlib.import_module(name))


def _watch(folder: Path) -> None:
    """From here on, files of the folder are one module each, and can import each other."""
    if FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)
    FINDER.folders.add(str(folder))
    for place in (str(folder.parent), str(folder)):
        if place not in sys.path:
            sys.path.append(place)  # at the end: a user's file hides no installed package
    importlib.invalidate_caches()


def _load(path: Path, folder: Path) -> None:
    if not path.is_file():
        raise ImportError(f"{path} does not exist")
    _watch(folder)
    name = _name_of(path, folder)
    if _finds(name, path):  # as its neighbours' imports would
        importlib.import_module(name)
        return
    # an installed module has that name, or it is no name at all ("my-loss.py")
    name = f"{path.stem.replace('-', '_')}_{hashlib.sha1(str(path).encode(), usedforsecurity=False).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise


def _name_of(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _finds(name: str, path: Path) -> bool:
    """Whether importing ``name`` would give this very file."""
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):  # its parent is no package, or another module
        return False
    return spec is not None and spec.origin is not None and os.path.realpath(spec.origin) == str(path)


def _guard(what: str, load: Callable[[], Any]) -> None:
    try:
        load()
    except ConfigError:
        raise
    except SystemExit as error:
        message = (
            f"ends the program while it is imported: sys.exit({error.code!r}) belongs under if __name__ == '__main__'"
        )
        raise ConfigError(Problem(what, message)) from error
    except Exception as error:
        message = f"cannot be imported: {type(error).__name__}: {error}"
        raise ConfigError(Problem(what, message)) from error
