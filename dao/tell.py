"""What ``--schema`` and ``--list`` print."""

from __future__ import annotations

import json

from dao.errors import ConfigError, Problem, nearest
from dao.register import CUSTOM_MODULES, Register, Registers, import_all_modules_for_register
from dao.schema import json_schema
from dao.signature import describe_parameters


def schema(cus_file: str | None = None) -> str:
    """JSON Schema of a config, with the user's own components in it."""
    import_all_modules_for_register(CUSTOM_MODULES, cus_file)
    return json.dumps(json_schema(), indent=1)


def components(kind: str, cus_file: str | None = None) -> str:
    """Every component of a kind ("losses", "loss"), or of all kinds, with what a config may set."""
    import_all_modules_for_register(CUSTOM_MODULES, cus_file)
    registers = Registers.all()
    wanted = {name: r for name, r in registers.items() if kind in ("all", name, r.kind)}
    if not wanted:
        raise ConfigError(Problem("--list", f"'{kind}' is not a kind of component. {nearest(kind, list(registers))}"))
    return "\n\n".join(_section(name, register) for name, register in wanted.items())


def _section(title: str, register: Register) -> str:
    rows = [f"  {name}({describe_parameters(register.get(name), skip=register.context)})" for name in register]
    return "\n".join([f"{title} ({len(rows)})", *rows])
