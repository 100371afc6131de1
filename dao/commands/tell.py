"""What ``--schema`` and ``--list`` print."""

from __future__ import annotations

import json
import re
import textwrap

from dao.config.schema import json_schema
from dao.config.signature import Component, describe_parameters
from dao.errors import ConfigError, Problem, nearest
from dao.register import CUSTOM_MODULES, Register, Registers, import_all_modules_for_register

WIDTH = 110
METRICS = "metrics"  # which have no register: evaluators say them
DIRECTIONS = {"maximised": "better high", "minimised": "better low", "descriptive": "neither"}


def schema(cus_file: str | None = None) -> str:
    """JSON Schema of a config, with the user's own components in it."""
    import_all_modules_for_register(CUSTOM_MODULES, cus_file)
    return json.dumps(json_schema(), indent=1)


def components(kind: str, cus_file: str | None = None) -> str:
    """Every component of a kind ("losses", "loss"), or of all kinds: what it does, and what a config may set. For
    "metrics" what the evaluators report."""
    import_all_modules_for_register(CUSTOM_MODULES, cus_file)
    if kind in (METRICS, "metric"):
        return metrics()
    registers = Registers.all()
    wanted = {name: r for name, r in registers.items() if kind in ("all", name, r.kind)}
    if not wanted:
        known = [*registers, METRICS]
        raise ConfigError(Problem("--list", f"'{kind}' is not a kind of component. {nearest(kind, known)}"))
    return "\n\n".join(_section(name, register) for name, register in wanted.items())


def _section(title: str, register: Register) -> str:
    rows = [_row(name, register.get(name), register.context) for name in register]
    return "\n".join([f"{title} ({len(rows)})", *rows])


def _row(name: str, component: Component, context: tuple[str, ...]) -> str:
    does = first_words(component)
    takes = describe_parameters(component, skip=context)
    return "\n".join(
        [*_wrapped(f"{name}: {does}" if does else name, "  ", "    "), *_wrapped(takes, "      ", "      ")]
    )


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def first_words(component: Component) -> str:
    """The first sentence of a component's own docstring, whatever it inherits; "" where it has none."""
    paragraph = textwrap.dedent(component.__doc__ or "").strip().split("\n\n")[0]
    text = " ".join(paragraph.split())
    end = re.search(r"(?<!e\.g)(?<!i\.e)(?<!cf)(?<!et al)[.:;](?=\s)", text)
    return (text[: end.start()] if end else text).rstrip(".")


def metrics() -> str:
    """What each evaluator reports, by whether it is better high or low."""
    return "\n\n".join(_metrics_of(name, Registers.evaluators.get(name)) for name in Registers.evaluators)


def _metrics_of(name: str, evaluator: Component) -> str:
    rows = [f"{name}"]
    for attribute, word in DIRECTIONS.items():
        names = ", ".join(getattr(evaluator, attribute, ()))
        rows += _wrapped(f"{word}: {names}", "  ", "    ") if names else []
    return "\n".join(rows)
