"""One process, many processes, many machines: from parsed arguments to `Trainer.run`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from dao.config import reading
from dao.config.merge import Raw, drop_delete_marks, override
from dao.errors import ConfigError, Problem, RunError
from dao.launch.placement import ProcessPlace, device_for, from_torchrun, place
from dao.processes import failures, signals

GROUP_TIMEOUT = timedelta(minutes=30)
SERVER_LOST = 255  # what multiprocessing says of a child whose fork server is gone


def launch(args: argparse.Namespace) -> int:
    """Read and validate the config, start the processes it takes, run; returns the exit code."""
    if args.num_machines > 1:  # torch warns of every address without a name, and a factory's network has no name server
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    signals.raise_on_stop()
    with naming_the_file(args.exp_file):
        return _launch(args)


def take_config_of_run(args: argparse.Namespace) -> None:
    """``--resume RUN`` without -c: the run folder holds its config, overrides and all.

    The modules that -m named then are not imported on the folder's word, which may come from anywhere: it is data.
    Raises ConfigError naming them where -m does not say them again.
    """
    from dao.files import run_folder

    path, modules = run_folder.config_of_run(args.resume)
    if modules and not args.cus_file:
        message = f"the run was started with -m {modules}, which is code: say -m again if you trust it"
        raise ConfigError(Problem("-m", message), str(path))
    args.exp_file = str(path)


@contextlib.contextmanager
def naming_the_file(source: str) -> Iterator[None]:
    """A component that refuses its settings knows their place in the config, and this knows the config's file."""
    try:
        yield
    except ConfigError as error:
        raise error if error.source else ConfigError(error.problems, source) from error


def _launch(args: argparse.Namespace) -> int:
    if (
        args.device == "cpu"
        and args.devices not in ("1", "auto")
        and not (args.check or args.verify_resume or from_torchrun())
    ):
        start_method("cpu")  # while the server imports, this process does too
    raw = apply_flags(reading.load_marked(args.exp_file, args.override), args)
    from dao.loggers import logger as log

    log.to_terminal(args.detail)
    raw = prepare(raw, args)
    if args.check:
        from dao.commands.check import check

        return check(raw, device_for(args, 0))
    if args.verify_resume is not None:
        from dao.commands.verify_resume import verify

        return verify(args, raw)
    placements = place(args)
    refuse_useless_processes(raw["trainer"]["type"], placements[0].world_size)
    if len(placements) == 1 or from_torchrun():
        return run_process(placements[0], raw, args.detail)
    return _spawn(placements, raw, args)


def apply_flags(raw: Raw, args: argparse.Namespace) -> Raw:
    """Flags of the command line are config values: set them, so that the saved config says what was run."""
    flags = {
        "trainer.kwargs.seed": args.seed,
        "trainer.kwargs.amp": args.amp or None,
        "trainer.kwargs.ema": args.ema or None,
        "trainer.kwargs.resume": args.resume,
    }
    if args.cache and "dataloader" in raw:
        flags["dataloader.kwargs.cache"] = True
    given = [f"{path}={json.dumps(value)}" for path, value in flags.items() if value is not None]
    return override(raw, given)


def prepare(raw: Raw, args: argparse.Namespace) -> Raw:
    """Import every component, let the stage fill in what its checkpoint knows, validate all of it.

    raw: as `dao.config.reading.load_marked` gives it, so that what it replaces of its checkpoint's config is known.
    Raises ConfigError with every problem of the file.
    """
    from dao.config import limits
    from dao.config.schema import validate
    from dao.register import CUSTOM_MODULES, Registers, import_all_modules_for_register

    import_all_modules_for_register(CUSTOM_MODULES, args.cus_file)
    plain = drop_delete_marks(raw)
    trainer = plain.get("trainer", {})
    name = trainer.get("type") if isinstance(trainer, dict) else None
    if isinstance(name, str) and name in Registers.trainers:
        # of the stage's own section first: it names the checkpoint that the rest may come from
        problems = [p for p in validate(plain) if p.where.startswith("trainer.")]
        if problems:
            raise ConfigError(validate(plain), args.exp_file)
        plain = drop_delete_marks(Registers.trainers.get(name).complete(raw))  # type: ignore[attr-defined]
    problems = validate(plain)
    if problems:
        raise ConfigError(problems, args.exp_file)
    limits.apply(plain.get("limits"))
    return plain


def refuse_useless_processes(stage: str, world_size: int) -> None:
    """A stage that cannot share its work would do it once per process, each over the other's files."""
    from dao.register import Registers

    if world_size > 1 and not Registers.trainers.get(stage).many_processes:  # type: ignore[attr-defined]
        raise ConfigError(Problem("--devices", f"{stage} runs in one process, {world_size} were asked for"))


# -- running ---------------------------------------------------------------------------------------------------------


def run_process(placement: ProcessPlace, raw: Raw, detail: bool) -> int:
    """One process of a run, from joining the group to its exit code."""
    import torch

    from dao.dataloaders.loader import is_lost_worker, lost_worker
    from dao.launch.preflight import check_same_everywhere
    from dao.loggers import logger as log
    from dao.processes import dist
    from dao.register import Registers
    from dao.trainers.base import Options

    device = torch.device(placement.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if placement.world_size > 1:
        os.environ["LOCAL_RANK"] = str(placement.local_rank)
        os.environ["LOCAL_WORLD_SIZE"] = str(placement.local_world_size)
        dist.join(placement.backend, placement.init_method, placement.world_size, placement.rank, GROUP_TIMEOUT)
    log.to_terminal(detail)
    trainer: Any = None
    try:
        check_same_everywhere(raw)
        frozen = reading.freeze(raw)
        trainer = Registers.trainers.build(raw["trainer"], "trainer", config=frozen, options=Options(device, detail))
        trainer.run()
    except BaseException as error:
        broken = dist.connection_broke(error)
        dist.leave(failure_of(error))
        if is_lost_worker(error):
            raise lost_worker(error) from error
        if broken:
            said = re.sub(r"^\[[^]]*\] ", "", str(error).splitlines()[0]).split(". ")[
                0
            ]  # without torch's file and advice
            raise RunError(
                "the connection to another process broke: it was killed, or its machine is gone, and its own terminal may "
                f"say why. The run ends here; go on from its last checkpoint with --resume ({said})"
            ) from None
        if isinstance(error, signals.Terminated) and trainer is not None:
            error.left = error.left or trainer.unfinished()
        explained = failures.told(error, getattr(trainer, "run_dir", None), device)
        if explained is not None:
            raise explained from error
        raise
    dist.leave()
    return 128 + trainer.signal if trainer.stopping else 0


def failure_of(error: BaseException) -> str:
    """What the other machines read of it: our own errors speak for themselves, others need their place."""
    from dao.errors import AICoreError

    return str(error) if isinstance(error, AICoreError) else "".join(traceback.format_exception(error))


def _spawn(placements: list[ProcessPlace], raw: Raw, args: argparse.Namespace) -> int:
    import torch
    from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, get_context, start_processes

    method = start_method(placements[0].device)
    # the way a run ended travels here, not in exit codes: torch ends the peers of a process that leaves with one
    outcome = get_context(method).Value("i", 0)
    settings = {
        "environ": dict(os.environ),  # a fork server keeps that of its own start
        "exp_file": args.exp_file,
        "cus_file": args.cus_file,
        "detail": args.detail,
        "threads": max(1, torch.get_num_threads() // len(placements)),
    }
    children = start_processes(
        _child,
        args=([asdict(p) for p in placements], raw, settings, outcome),
        nprocs=len(placements),
        join=False,
        start_method=method,
    )
    _forward_signals(children.pids())
    try:
        while not children.join():
            pass
    except ProcessExitedException as ended:
        if ended.exit_code > 0 and ended.exit_code != SERVER_LOST:  # the child has said why
            return ended.exit_code
        lost = ended.exit_code == SERVER_LOST
        name = signal.Signals(-ended.exit_code).name if not lost else ""
        who = f"rank {placements[ended.error_index].rank} was ended by {name}" if not lost else "their server was ended"
        sys.stderr.write(
            f"\n{who} from outside, and the other processes with it. Was memory short (dmesg names what the system took)? Go "
            "on from the last checkpoint with --resume\n"
        )
        return 128 + signal.SIGKILL if lost else 128 - ended.exit_code
    except ProcessRaisedException as raised:
        raise RuntimeError(str(raised)) from None
    return outcome.value


def start_method(device: str) -> str:
    """How the processes of this machine begin: forked, on Linux, from a server that has imported torch and all of ours.

    Importing takes seconds and hundreds of megabytes, of every process where it is "spawn". The server runs no
    operation, so what it forks is as fresh as a new interpreter. Training on GPUs is spawned: a library that looked for
    one while it was imported would leave a driver in the server that its forks cannot use.
    """
    if sys.platform != "linux" or device != "cpu":
        return "spawn"
    from multiprocessing import forkserver, set_forkserver_preload

    set_forkserver_preload(["dao.launch.imports"])
    before = os.environ.get("PYTHONPATH")
    # the server imports by its own path, which begins where the user stands
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), *([before] if before else [])])
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
    return "forkserver"


def _forward_signals(pids: list[int]) -> None:
    """Who stops this process means the run: pass it on, and stay until the children have saved."""

    def forward(number: int, frame: Any) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    signals.on_stop(forward)


def _child(index: int, placements: list[dict[str, Any]], raw: Raw, settings: dict[str, Any], outcome: Any) -> None:
    """What a spawned process does: what `launch` did, without reading the config again."""
    os.environ.clear()
    os.environ.update(settings["environ"])
    import torch

    from dao.config.secret_values import hidden
    from dao.errors import AICoreError
    from dao.register import CUSTOM_MODULES, import_all_modules_for_register
    from dao.words.printable import printable

    signals.raise_on_stop()
    torch.set_num_threads(settings["threads"])
    import_all_modules_for_register(CUSTOM_MODULES, settings["cus_file"])
    try:
        with naming_the_file(settings["exp_file"]):
            code = run_process(ProcessPlace(**placements[index]), raw, settings["detail"])
    except signals.Terminated as stopped:
        sys.stderr.write(f"\n[rank {placements[index]['rank']}] {stopped}\n")
        sys.stderr.flush()
        os._exit(128 + stopped.number)
    except AICoreError as error:
        sys.stderr.write(f"\n[rank {placements[index]['rank']}] {printable(hidden(str(error)))}\n")
        sys.stderr.flush()
        os._exit(error.exit_code)  # the group may hang in its own exit while a peer waits for us
    outcome.value = max(outcome.value, code)
