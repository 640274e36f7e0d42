"""`hpc <command>`: each command is a file of this folder with its name, and its `run(words)`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

from hpc.cli.ends import told
from hpc.cli.names import COMMANDS
from hpc.settings.errors import CliError

#: Commands that look for --help themselves from this word on: what follows may be another command's.
LAST_OWN_WORD = {"launch": 1, "job": 2, "debug": 2, "serve": 2}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hpc`; returns the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    return told(lambda: _dispatch(words))


def _dispatch(words: list[str]) -> int:
    name = words[0] if words else "--help"
    if name in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0
    if name == "--version":
        from hpc._version import __version__

        print(f"hpc {__version__}")
        return 0
    if name not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(name, COMMANDS, 1)
        raise CliError("USAGE", f"no such command: hpc {name}", fix=f"hpc {near[0]}" if near else "hpc --help")
    last = LAST_OWN_WORD.get(name)
    if any(word in ("-h", "--help") for word in words[1:last]):
        from hpc.cli.helping import command_help

        sys.stdout.write(command_help(name))
        return 0
    run: Callable[[list[str]], int] = importlib.import_module(f"hpc.cli.{name}").run
    return run(words)


def _help() -> str:
    from hpc.cli.manual import COMMANDS as TEXTS

    lines = ["usage: hpc COMMAND ...", ""]
    lines += [f"  {command:<44} {text}" for command, text in TEXTS]
    return "\n".join([*lines, "", "JOB: a number of `hpc ps`, 1-3, last, all, or the scheduler's id.", ""])


if __name__ == "__main__":
    sys.exit(main())
