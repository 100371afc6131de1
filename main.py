"""AICore: train, evaluate, demo or export a vision model, as one JSON file says.

python main.py -c config.json
python main.py -c config.json --devices 2
python main.py -c config.json --devices 8 --num_machines 2 --machine_rank 0 --dist-url tcp://10.0.0.1:29500
"""

from __future__ import annotations

import argparse
import os
import sys


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line. Imports nothing heavy, so that --help is instant."""
    parser = argparse.ArgumentParser(
        prog="main.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "-c",
        "--exp_file",
        metavar="FILE",
        help="config: .json or .yaml, which are data; or .py, which is run (here alone: no other file can name one)",
    )
    add("-o", "--override", metavar="a.b.c=value", nargs="+", action="extend", default=[],
        help="set config values; a value is JSON, or text where it is not JSON")  # fmt: skip
    add(
        "-m",
        "--cus_file",
        metavar="FILE",
        help="JSON list of extra modules to import and so to run; main.py imports ./custom_modules/ always",
    )

    where = parser.add_argument_group("where it runs")
    where.add_argument(
        "--device", choices=("auto", "cuda", "cpu"), default="auto", help="default: auto, cuda when there is one"
    )
    where.add_argument(
        "--devices", metavar="N|auto", default="1", help="processes on this machine, one a device; default 1"
    )
    where.add_argument("--gpu", type=int, metavar="ID", help="use this GPU")
    where.add_argument("--num_machines", type=int, default=1, metavar="M")
    where.add_argument("--machine_rank", type=int, default=0, metavar="R", help="this machine's number, from 0")
    where.add_argument(
        "--dist-url", default="auto", metavar="tcp://HOST:PORT", help="machine 0's address; auto on one machine"
    )
    where.add_argument("--dist-backend", choices=("auto", "nccl", "gloo"), default="auto")

    how = parser.add_argument_group("how it runs (each sets a config value)")
    how.add_argument("--seed", type=int, metavar="N")
    how.add_argument("--amp", action="store_true", help="mixed precision")
    how.add_argument("--ema", action="store_true", help="average the weights")
    how.add_argument("--cache", action="store_true", help="keep decoded pictures in memory")
    how.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="RUN|CKPT",
        help="go on with the newest run of this name (with -c), or the one given, which knows its config",
    )
    how.add_argument("--detail", action="store_true", help="say more: model summary, resolved config")

    tell = parser.add_argument_group("instead of running")
    tell.add_argument("--check", action="store_true", help="read every picture and label, try one batch, train nothing")
    tell.add_argument("--verify-resume", type=int, nargs="?", const=20, metavar="N",
        help="prove on this config and machine that a run stopped inside its first N (20) iterations loses nothing")  # fmt: skip
    tell.add_argument(
        "--schema", action="store_true", help="JSON Schema of a config, for editors (imports custom_modules/)"
    )
    tell.add_argument("--list", nargs="?", const="all", metavar="KIND",
        help="components: what each does and takes (imports custom_modules/); metrics: what evaluators report")  # fmt: skip
    tell.add_argument("--version", action="store_true")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 (failed proof), 2 (user's mistake), 128 + n (signal n)."""
    args = parse_args(argv)
    # threads that spin at every barrier for one whose core another program holds made a step ten times slower on a busy PC
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):  # a file name whose bytes are no text is shown escaped
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if args.version:
        from dao import __version__

        print(f"aicore {__version__}")
        return 0

    from loguru import logger

    from dao.errors import AICoreError
    from dao.processes import failures, signals

    logger.remove()  # whose own handler would show a message twice; the launcher sets up the run's
    try:
        return run(args)
    except AICoreError as error:
        logger.debug("{}", error)  # into the run's log.txt, where there is one
        print(f"\n{shown(error)}", file=sys.stderr)
        return error.exit_code
    except signals.Terminated as stopped:
        print(f"\n{shown(stopped)}", file=sys.stderr)
        return 128 + stopped.number
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except Exception as error:
        explained = failures.told(error)
        if explained is None:  # a bug of ours keeps its traceback
            raise
        print(f"\n{shown(explained)}", file=sys.stderr)
        return explained.exit_code


def shown(error: BaseException) -> str:
    """A message as a terminal may have it: names of files can hold what it would obey, and values what is secret."""
    from dao.config.secret_values import hidden
    from dao.words.printable import printable

    return printable(hidden(str(error)))


def run(args: argparse.Namespace) -> int:
    """Do what the arguments ask for."""
    from dao.launch import launch

    if args.schema or args.list:
        from dao.commands import tell

        print(tell.schema(args.cus_file) if args.schema else tell.components(args.list, args.cus_file))
        return 0
    if not args.exp_file and args.resume not in (None, "auto"):
        launch.take_config_of_run(args)
    if not args.exp_file:
        print("nothing to do: give a config with -c FILE, or see --help", file=sys.stderr)
        return 2
    return launch.launch(args)


if __name__ == "__main__":
    from dao.files.pipes import until_closed

    sys.exit(until_closed(main))
