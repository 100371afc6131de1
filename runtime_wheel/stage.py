"""Copy what `dao.runtime` imports, and nothing else of the tree, into a folder that a wheel is built from."""

from __future__ import annotations

import ast
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENTRIES = ("dao.runtime.__main__", "dao.predictor")
# imported by name where a card asks for them, which no import statement shows
BY_NAME = ("dao.answers.anomaly", "dao.answers.classification", "dao.answers.detection", "dao.answers.segmentation",
           "dao.runtime.onnx_backend")  # fmt: skip


def modules() -> list[str]:
    """Names of all modules that the entries need, and of the packages they lie in."""
    waiting, found = [*ENTRIES, *BY_NAME], set()
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += [name.rpartition(".")[0]] if "." in name else []
        waiting += imported_by(name)
    return sorted(found)


def file_of(name: str) -> Path | None:
    """The file of a module of ours; None where there is none (a name inside a module)."""
    path = ROOT.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imported_by(name: str) -> Iterator[str]:
    """Modules of ours that one imports anywhere but for its annotations alone."""
    tree = ast.parse(file_of(name).read_text(encoding="utf-8"))
    for node in _walk(tree):
        if isinstance(node, ast.Import):
            given = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            given = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (one for one in given if one.split(".")[0] == "dao" and file_of(one))


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _walk(child)


def main(folder: str) -> None:
    target = Path(folder)
    for file in [file_of(name) for name in modules()]:
        place = target / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    for file in (Path(__file__).with_name("pyproject.toml"), Path(__file__).with_name("README.md"), ROOT / "LICENSE"):
        shutil.copyfile(file, target / file.name)


if __name__ == "__main__":
    main(sys.argv[1])
