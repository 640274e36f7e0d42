"""What `--help` prints: how a command is called, and its options. Each command's file says both: USAGE and TABLE."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from hpc.settings.options import Option


def help_text(usage: str, table: Sequence[Option]) -> str:
    """The text for people."""
    lines = [f"usage: {usage}"]
    if table:
        lines += ["", *(f"  {flags(option):<30} {option.help}" for option in table)]
    return "\n".join(lines) + "\n"


def flags(option: Option) -> str:
    """`-n, --tail LINES`."""
    return f"{', '.join(option.flags)} {option.metavar}".strip()


def usage_and_table(command: str) -> tuple[str, tuple[Option, ...]]:
    """What the file of a command says of it."""
    module = importlib.import_module(f"hpc.cli.{command}")
    return module.USAGE, getattr(module, "TABLE", ())


def command_help(command: str) -> str:
    """`hpc COMMAND --help`."""
    return help_text(*usage_and_table(command))
