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
ABOUT = "Good, bad or review: a verdict a picture, by a model that AICore trained or exported; of .onnx files without torch."
EPILOG = "Exit code: 0; 1 where some pictures have no answer; 2 where none has or something given is wrong."
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
    parser = argparse.ArgumentParser(
        prog="python -m dao.runtime", usage="%(prog)s MODEL PICTURES [options]", description=ABOUT, epilog=EPILOG,
    )  # fmt: skip
    parser.add_argument(
        "model", metavar="MODEL", help="an .onnx file; with torch also .pt2, .safetensors, .ckpt or a run folder"
    )
    parser.add_argument(
        "pictures", metavar="PICTURES", help="a folder, a pattern in quotes ('line3/*.png') or a picture"
    )
    add = parser.add_argument
    add("--out", metavar="FOLDER", help="write drawn pictures, a contact sheet and results.json into this folder; beside it, as "
        "FOLDER-2, where it holds something already (default: write nothing)")  # fmt: skip
    add("--set", action="append", default=[], metavar="NAME=VALUE",
        help="another operating point than the model's own: threshold=0.37 (anomaly: a raw score), bad_classes=dent,scratch; "
        "may be given several times")  # fmt: skip
    add("--recursive", action="store_true", help="take the pictures of the folder's folders as well")
    add(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:1, ... (default: %(default)s, a GPU where one can be used)",
    )
    add("--sheet", type=int, default=24, metavar="N", help="show at most N pictures on the contact sheet, 0: no sheet (default: "
        "%(default)s)")  # fmt: skip
    add("--threads", type=int, default=2, metavar="N", help="read pictures ahead in N threads (default: %(default)s)")
    add("--trust", action="store_true", help="read a .pt2 file too, which can run code of whoever made it")
    add("--custom-modules", metavar="FOLDER", help="import your own modules that the model needs from this folder")
    return parser


if __name__ == "__main__":
    sys.exit(command())
