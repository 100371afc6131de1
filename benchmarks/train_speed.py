"""Training speed: our whole trainer against a bare loop (the ceiling) and against a peer, in one run.

    python benchmarks/train_speed.py cls
    python benchmarks/train_speed.py seg --only step

What is compared is said at the top of cls_speed.py, seg_speed.py and det_speed.py. Rounds alternate, so that a machine
whose speed drifts treats all alike; the medians' ratio is what is quoted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
TASKS = ("cls", "seg", "det")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="?", choices=TASKS, default="cls")
    parser.add_argument("--data", type=Path, help="real pictures; by default the task's own in ../shared/data")
    parser.add_argument("--model")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--size", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iters", type=int, default=8, help="iterations of one round of the step comparison")
    parser.add_argument("--only", help="one part, e.g. step or end_to_end")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    os.chdir(ROOT)
    import torch
    from speed_common import settings

    bench = importlib.import_module(f"{args.task}_speed")
    for name, value in bench.DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, ROOT.parent / "shared/data" / value if name == "data" else value)
    names = {part.__name__: title for title, part in bench.PARTS.items()}
    if args.only not in (None, *names):
        parser.error(f"--only {args.only}: expected one of {', '.join(names)}")
    torch.set_num_threads(args.threads)
    figures = {title: part(args) for title, part in bench.PARTS.items() if args.only in (None, part.__name__)}
    text = json.dumps({"settings": settings(args), **figures}, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
