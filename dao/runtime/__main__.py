"""``python -m dao.runtime model.onnx pictures/ --out results/``: verdicts of a folder of pictures, without torch."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dao.errors import AICoreError, ConfigError, DataError, Problem
from dao.files.pipes import until_closed
from dao.processes import signals
from dao.runtime.predictor import Predictor
from dao.structures import Prediction
from dao.words.printable import one_line, printable

if TYPE_CHECKING:
    from dao.runtime.results import ResultFolder

WIDTHS = (8, 9)  # letters of the columns before the picture's name
NOT_ALL = "what is printed above was answered, the pictures behind it were not"


def command() -> int:
    """`main` as a program: what asks to stop ends it with its results written, a reader that leaves ends it in silence."""
    signals.raise_on_stop()
    return until_closed(main)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, 2 where nothing could be answered, or 128 and the number of the signal that ended it."""
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
    results = _results(options, predictor) if options.out else None
    verdicts: Counter[str] = Counter()
    unreadable: dict[str, str] = {}
    try:
        _answer(options, predictor, results, verdicts, unreadable)
    except (KeyboardInterrupt, signals.Terminated):  # those that are answered have their files
        _end(options, results, verdicts, unreadable)
        raise
    _end(options, results, verdicts, unreadable)
    if verdicts.total() == len(unreadable):
        raise DataError(f"not one of {len(unreadable)} pictures could be read and answered")
    return 0


def _answer(
    options: argparse.Namespace,
    predictor: Predictor,
    results: ResultFolder | None,
    verdicts: Counter[str],
    unreadable: dict[str, str],
) -> None:
    """Fill ``verdicts``, and ``unreadable`` with what has no answer and why."""
    answers = predictor.folder_with_pixels(options.pictures, options.recursive, options.threads)
    print(f"{'verdict':<{WIDTHS[0]}}{'score':>{WIDTHS[1]}}  picture")
    for number, (one, image) in enumerate(answers):
        told = one.to_dict()
        print(_line(told, one), flush=True)
        if one.error:
            unreadable[one.path] = one.error
        elif results is not None:
            results.add(number, image, one)
        verdicts[told["verdict"]] += 1


def _end(
    options: argparse.Namespace, results: ResultFolder | None, verdicts: Counter[str], unreadable: dict[str, str]
) -> None:
    if results is not None:
        results.finish(options.model, unreadable)
    counts = [f"{count} {verdict}" for verdict, count in sorted(verdicts.items())]
    print(", ".join(counts) or "no picture was answered")
    if results is not None:
        print(f"drawn pictures and results.json in {results.folder}")


def _line(told: dict[str, Any], one: Prediction) -> str:
    score = f"{told['score']:.3f}" if told["score"] is not None else "-"
    why = f"  ({one_line(one.error)})" if one.error else ""
    return f"{told['verdict']:<{WIDTHS[0]}}{score:>{WIDTHS[1]}}  {one_line(one.path)}{why}"


def _results(options: argparse.Namespace, predictor: Predictor) -> ResultFolder:
    from dao.files.output import fresh
    from dao.runtime.results import ResultFolder

    out = Path(options.out)
    empty = out.is_dir() and not any(out.iterdir())
    return ResultFolder(out if empty else fresh(out.parent, out.name), predictor, options.sheet)


def _fact(text: str) -> tuple[str, Any]:
    """threshold=0.37 -> ("threshold", 0.37)."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(Problem("--set", f"expected NAME=VALUE, as threshold=0.37; got {text!r}"))
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


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
