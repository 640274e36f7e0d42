"""`hpc-launch [options] script.py [args]`: the same command on a laptop, on a login node and inside an allocation."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hpc.cli.ends import told
from hpc.launch.begin import begin
from hpc.settings.options import load

USAGE = "hpc-launch [options] SCRIPT [ARGS ...]"


def main(argv: Sequence[str] | None = None) -> int:
    """Run hpc-launch; returns its exit code, and prints every error that the user can do something about."""
    return told(lambda: launch(sys.argv[1:] if argv is None else list(argv)))


def run(words: list[str]) -> int:
    """`hpc launch ...`, the same; returns the exit code."""
    return launch(words[1:])


def launch(argv: Sequence[str]) -> int:
    """The same, raising CliError."""
    settings = load(argv, submits=True)
    if settings["help"]:
        from hpc.cli.manual import help_text

        sys.stdout.write(help_text())
        return 0
    if settings["version"]:
        from hpc._version import __version__

        print(f"hpc {__version__}")
        return 0
    return begin(settings)


if __name__ == "__main__":
    sys.exit(main())
