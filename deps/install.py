"""Install hpc, editable, with some of its extras, by the versions that CI has passed with.

`make` runs it with the Python of the environment: ``.venv/bin/python deps/install.py test demo``.

pyproject.toml says with which versions hpc should work; deps/constraints.txt says with which it was tried. A new
release of a dependency changes the one set and not the other, so it cannot break an installation.

* What this Python has already from elsewhere (a cluster's module that brings torch) stays as it is.
* Where the tried versions do not install (a Python that is newer than they are, a machine without a wheel of theirs),
  the newest that pyproject.toml allows are taken, and a line says so.
* With ``NEWEST=1`` the tried versions are not looked at. ``PIP_ARGS`` goes to pip.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "deps" / "constraints.txt"


def plain(name: str) -> str:
    """A package's name as the index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def from_elsewhere(prefix: str = sys.prefix) -> set[str]:
    """The packages that this Python sees, and that are not in the environment itself."""
    found = set()
    for one in importlib.metadata.distributions():
        place = os.path.realpath(str(one.locate_file("")))
        if not place.startswith(os.path.join(os.path.realpath(prefix), "")) and one.metadata["Name"]:
            found.add(plain(one.metadata["Name"]))
    return found


def pins_that_hold(lines: Iterable[str], there: set[str]) -> list[str]:
    """The constraints without those for packages that are there already."""
    return [line for line in lines if plain(line.partition("==")[0].strip()) not in there]


def holding_to(pins: Path) -> dict[str, str]:
    """The variables by which pip holds to a file of constraints, also when it makes what builds hpc: up to 25.2 by the
    first name, from then on by the second. A URL, because pip takes a space for the end of a file's name."""
    names = ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT")
    return {name: f"{os.environ.get(name, '')} {pins.as_uri()}".strip() for name in names}


def main(extras: list[str]) -> int:
    """Install; returns pip's exit status."""
    what = f".[{','.join(extras)}]" if extras else "."
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    command += [*shlex.split(os.environ.get("PIP_ARGS", "")), "-e", what]
    if not os.environ.get("NEWEST"):
        pins = Path(sys.prefix, "constraints.txt")
        pins.write_text("\n".join(pins_that_hold(PINS.read_text().splitlines(), from_elsewhere())) + "\n")
        if subprocess.run(command, cwd=ROOT, env={**os.environ, **holding_to(pins)}).returncode == 0:
            return 0
        print(
            f"The versions of deps/constraints.txt do not install here (Python {sys.version.split()[0]}); "
            "now with the newest that pyproject.toml allows.",
            file=sys.stderr,
            flush=True,
        )
    return subprocess.run(command, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
