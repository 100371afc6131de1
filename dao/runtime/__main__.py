"""``python -m dao.runtime model.onnx pictures/ --out results/``: verdicts of a folder of pictures, without torch."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dao.errors import AICoreError, ConfigError, DataError, Problem
from dao.files.pipes import until_closed
from dao.processes import signals
from dao.runtime.backends import Image
from dao.runtime.predictor import Predictor
from dao.runtime.table import Table
from dao.structures import Prediction
from dao.words.printable import printable

if TYPE_CHECKING:
    from dao.runtime.results import ResultFolder

LISTS = ("bad_classes", "positive")  # facts that are lists of names, written a,b as well
NOT_ALL = "what is printed above was answered, the pictures behind it were not"


def command() -> int:
    """`main` as a program: what asks to stop ends it with its results written, a reader that leaves ends it in silence."""
    signals.raise_on_stop()
    return until_closed(main)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 where some pictures have no answer, 2 where none has, or 128 and the number of the signal that
    ended it."""
    options = _parser().parse_args(arguments)
    try:
        return run(options)
    except AICoreError as error:
        print(printable(str(error)), file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, signals.Terminated) as stopped:
        print(f"stopped; {NOT_ALL}", file=sys.stderr)
        return 128 + getattr(stopped, "number", signal.SIGINT)


def run(options: argparse.Namespace) -> int:
    """Answer every picture, print a line for each, and leave the files of a demo in ``--out``."""
    facts = dict(map(_fact, options.set))
    predictor = Predictor(options.model, options.device, facts or None, options.trust, options.custom_modules)
    answers = predictor.folder_with_pixels(options.pictures, options.recursive, options.threads)
    results = _results(options, predictor) if options.out else None
    table = Table(predictor.card)
    try:
        _answer(answers, table, results)
    except (KeyboardInterrupt, signals.Terminated):  # those that are answered have their files
        _end(options, table, results)
        raise
    _end(options, table, results)
    if not table.verdicts:
        raise DataError(f"not one of {len(table.unreadable)} pictures could be read and answered")
    return 1 if table.unreadable else 0


def _answer(answers: Iterable[tuple[Prediction, Image | None]], table: Table, results: ResultFolder | None) -> None:
    print(table.head())
    for number, (one, image) in enumerate(answers):
        print(table.line(one), flush=True)
        if results is not None and image is not None and not one.error:
            results.add(number, image, one)


def _end(options: argparse.Namespace, table: Table, results: ResultFolder | None) -> None:
    if results is not None:
        results.finish(options.model, table.unreadable)
    print(table.total())
    if results is not None:
        print(f"drawn pictures and results.json in {results.folder}")


def _results(options: argparse.Namespace, predictor: Predictor) -> ResultFolder:
    from dao.files.output import fresh
    from dao.runtime.results import ResultFolder

    out = Path(options.out)
    empty = out.is_dir() and not any(out.iterdir())
    return ResultFolder(out if empty else fresh(out.parent, out.name), predictor, options.sheet)


def _fact(text: str) -> tuple[str, Any]:
    """threshold=0.37 -> ("threshold", 0.37); bad_classes=dent,scratch -> ("bad_classes", ["dent", "scratch"])."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(Problem("--set", f"expected NAME=VALUE, as threshold=0.37; got {text!r}"))
    try:
        found = json.loads(value)
    except ValueError:
        found = value
    return name, value.split(",") if name in LISTS and not isinstance(found, list) else found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dao.runtime", description=__doc__)
    parser.add_argument("model", help="an exported file (.onnx); with torch also a checkpoint or a run folder")
    parser.add_argument("pictures", help="a folder, a glob or a picture")
    parser.add_argument(
        "--out", help="a folder for drawn pictures, contact sheet and results.json; one that exists stays"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="another operating point, as threshold=0.37; several times for several")  # fmt: skip
    parser.add_argument("--recursive", action="store_true", help="the folder's folders as well")
    parser.add_argument("--threads", type=int, default=2, help="that read pictures ahead")
    parser.add_argument("--sheet", type=int, default=24, help="pictures on the contact sheet, at most")
    parser.add_argument("--trust", action="store_true", help="read a file that can run code (.pt2) as well")
    parser.add_argument("--custom-modules", help="a folder of your own modules that the file needs")
    return parser


if __name__ == "__main__":
    sys.exit(command())
