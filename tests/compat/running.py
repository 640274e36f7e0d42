"""The programs that are run under Ray and under this package: finding them, running one, comparing what it printed.

A program is written for this package (``import hpc as ray``). For Ray the word ``hpc`` is replaced in its import
statements, and nowhere else, so that both run the same lines. What is compared is its standard output, line by line,
and its end: the exit status and the line of the exception that ended it. Texts that cannot agree (addresses,
process ids, the two names of one class) are replaced in both by `without_chance`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
RECORDED = HERE / "recorded"
DIFFERS = HERE / "differs"

#: An import statement of this package, up to its name.
IMPORT = re.compile(r"^(\s*(?:import|from)\s+)hpc\b", re.MULTILINE)
#: What is different in each run, and the names that one thing has here and there.
CHANCE: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"\b0x[0-9a-f]+\b", "0x<address>"),
        (r"\b[0-9a-f]{16,}\b", "<id>"),
        (r"\bpid=\d+", "pid=<pid>"),
        (r"\bip=[\d.]+", "ip=<ip>"),
        (r"\bRay(TaskError|ActorError)\b", r"\1"),
        (r"\bhpc\b", "ray"),
    )
)


#: What Ray's services say on the standard output of a driver is no line of the program.
SERVICE = re.compile(r"^(\x1b\[\d+m)?\((raylet|autoscaler|gcs_server)\b")


@dataclass(frozen=True)
class Difference:
    """A line that is another one here, on purpose."""

    program: str
    ray: str
    hpc: str
    name: str
    why: str


def names() -> list[str]:
    """The names of all programs."""
    return sorted(path.stem for path in PROGRAMS.glob("*.py"))


def without_chance(line: str) -> str:
    """The line without what differs between two runs of the same program."""
    for pattern, text in CHANCE:
        line = pattern.sub(text, line)
    return line.rstrip()


def run(name: str, python: str, ray: bool, timeout_s: float) -> list[str]:
    """Run a program in an empty directory; returns its lines and, as the last one, how it ended."""
    source = (PROGRAMS / f"{name}.py").read_text()
    with tempfile.TemporaryDirectory(prefix="compat-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / f"{name}.py"
        path.write_text(IMPORT.sub(r"\1ray", source) if ray else source)
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if ray:
            env["RAY_TMPDIR"] = folder  # another cluster of this machine would be joined
        try:
            done = subprocess.run(
                [python, str(path)], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=timeout_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            out = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else ""
            return [*_lines(out), f"ended: not within {timeout_s:.0f} s"]
    ended = f"ended: {done.returncode}"
    if done.returncode == 1 and done.stderr.strip():
        ended += f", {done.stderr.strip().splitlines()[-1]}"
    elif done.returncode and not ray:
        print(done.stderr[-4000:], file=sys.stderr)
    return [line.replace(folder, "<folder>") for line in [*_lines(done.stdout), without_chance(ended)]]


def _lines(text: str) -> list[str]:
    return [without_chance(line) for line in text.splitlines() if not SERVICE.match(line)]


def recorded(name: str) -> list[str]:
    """What the program printed under Ray."""
    return (RECORDED / f"{name}.txt").read_text().splitlines()


def differences() -> list[Difference]:
    """All that differs on purpose."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    found = []
    for path in sorted(DIFFERS.glob("*.toml")):
        for program, rows in tomllib.loads(path.read_text()).items():
            found += [Difference(program, row["ray"], row["hpc"], row["name"], row["why"]) for row in rows]
    return found


def expected(name: str) -> list[str]:
    """What the program must print here: what it printed under Ray, but for what differs on purpose."""
    lines = recorded(name)
    for row in differences():
        if row.program != name:
            continue
        if row.ray not in lines:
            raise AssertionError(f"{name}: Ray did not print {row.ray!r}: differs/ has an entry too many")
        at = lines.index(row.ray)
        lines[at : at + 1] = row.hpc.splitlines()
    return lines
