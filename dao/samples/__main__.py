"""``python -m dao.samples --out data/samples``: write the sample set, or say that it is already there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dao.errors import AICoreError
from dao.files.pipes import until_closed
from dao.samples.write import PER_CLASS, SIZE, write_samples


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (2 for a user's mistake)."""
    parser = argparse.ArgumentParser(prog="python -m dao.samples", description="Write a set of sample pictures.")
    parser.add_argument("--out", type=Path, default=Path("data/samples"), help="folder to write (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other pictures (default %(default)s)")
    parser.add_argument("--size", type=int, default=SIZE, help="pixels to a side (default %(default)s)")
    parser.add_argument(
        "--per-class", type=int, default=PER_CLASS, help="pictures of each class, train and val (default %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        write_samples(options.out, options.seed, options.size, options.per_class)
    except AICoreError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(until_closed(main))
