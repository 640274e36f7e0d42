"""Runs the programs under Ray and keeps what they print: the one command that makes the data of this folder anew.

    python tests/compat/record.py --ray /opt/ray/bin/python            all programs
    python tests/compat/record.py --ray /opt/ray/bin/python wait_*     some
    python tests/compat/record.py --show wait_edges                    what one prints here, beside what was recorded

Each program runs twice; one whose two runs differ says nothing of Ray and is refused.
"""

from __future__ import annotations

import argparse
import fnmatch
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from compat import running

TIMEOUT_S = 240.0
VERSIONS = "import ray, sys; print('ray', ray.__version__); print('python', sys.version.split()[0])"


def record(name: str, python: str) -> str:
    """Keep what the program prints under Ray; returns what is wrong with it, or nothing."""
    first = running.run(name, python, ray=True, timeout_s=TIMEOUT_S)
    second = running.run(name, python, ray=True, timeout_s=TIMEOUT_S)
    if first != second:
        pairs = [f"  {a!r}\n  {b!r}" for a, b in zip(first, second) if a != b]
        return "two runs differ:\n" + "\n".join(pairs or [f"  {len(first)} and {len(second)} lines"])
    if "not within" in first[-1]:
        return first[-1]
    (running.RECORDED / f"{name}.txt").write_text("\n".join(first) + "\n")
    return ""


def show(name: str) -> None:
    """Print what the program prints here, each line that is not the expected one beside that."""
    want = running.expected(name) if (running.RECORDED / f"{name}.txt").exists() else []
    got = running.run(name, sys.executable, ray=False, timeout_s=TIMEOUT_S)
    for at in range(max(len(want), len(got))):
        wanted, here = (lines[at] if at < len(lines) else None for lines in (want, got))
        print(f"  {here}" if wanted == here else f"- {wanted}\n+ {here}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ray", metavar="PYTHON", help="the interpreter of an environment that has Ray")
    parser.add_argument("--show", action="store_true", help="run here and compare; keep nothing")
    parser.add_argument("names", nargs="*", default=["*"], help="programs, as patterns")
    chosen = parser.parse_args()
    names = [name for name in running.names() if any(fnmatch.fnmatch(name, p) for p in chosen.names)]
    if chosen.show:
        for name in names:
            print(f"{name}:")
            show(name)
        return 0
    if not chosen.ray:
        parser.error("--ray PYTHON is needed (an environment of its own: pip install 'ray==2.60.0')")
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's `&` has it ignored, and programs would show that
    versions = subprocess.run([chosen.ray, "-c", VERSIONS], capture_output=True, text=True, check=True).stdout
    if "*" in chosen.names:
        (running.RECORDED / "VERSIONS").write_text(versions)
    elif versions != (running.RECORDED / "VERSIONS").read_text():
        parser.error("another version than the one recorded: record all programs, or none")
    bad = 0
    for name in names:
        wrong = record(name, chosen.ray)
        bad += bool(wrong)
        print(f"{name}: {wrong or 'recorded'}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
