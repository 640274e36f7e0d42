"""Runs one measurement in a process of its own, bounded in time, and sees to it that nothing of it is left.

A measurement that leaves processes behind would disturb the next one: this process is a subreaper, so that orphans
come to it, are ended and reported. Rejected: measuring in this process (imports, threads and memory of one peer would
be the next one's burden).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc.core.node.process import become_subreaper
from hpc.core.node.reap import descendants, is_running, reap_ended, signal_all

PROBES = Path(__file__).resolve().parent / "probes"
MARK = "@bench "
LEFTOVERS_S = 5.0
TAIL_LINES = 3


class MeasureError(Exception):
    """A measurement failed; the text says how."""


@dataclass
class Outcome:
    """What a measurement said."""

    records: list[dict[str, Any]]
    started_at: float  # time.monotonic(), which all processes of a machine share
    ended_at: float
    problems: list[str] = field(default_factory=list)


def parse(output: str) -> list[dict[str, Any]]:
    """The records among a measurement's lines, where a rank's may stand behind its name; other lines are noise."""
    found = (re.match(rf"(?:\[rank \d+\] )?{MARK}(.*)", text) for text in output.splitlines())
    return [json.loads(record[1]) for record in found if record]


class Children:
    """Where measurements run: a folder of their own for all that they make."""

    def __init__(self) -> None:
        become_subreaper()
        self._folder = tempfile.TemporaryDirectory(prefix="hpcb-", dir="/tmp", ignore_cleanup_errors=True)
        self.folder = self._folder.name
        gone = ("HPC_", "RAY_", "SLURM_", "SBATCH_", "SALLOC_", "PYTHON")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(gone)}
        self.env |= {
            "HPC_TMPDIR": self.folder,
            "RAY_TMPDIR": self.folder,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }

    def close(self) -> None:
        self.end_leftovers()
        self._folder.cleanup()

    def run(self, argv: Sequence[str], timeout_s: float, env: Mapping[str, str] | None = None) -> Outcome:
        """Run a command; raises MeasureError when it fails, hangs or says nothing."""
        started = time.monotonic()
        process = subprocess.Popen(
            list(argv), env={**self.env, **(env or {})}, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            self.end_leftovers()
            raise MeasureError(f"not done within {timeout_s:g} s{_tail(output)}") from None
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
        ended = time.monotonic()
        left = self.end_leftovers()
        records = parse(output)
        if process.returncode != 0 or not records:
            raise MeasureError(f"exit code {process.returncode}{_tail(output)}")
        return Outcome(records, started, ended, [f"left behind: {name}" for name in left])

    def probe(
        self, python: str, name: str, *args: str, timeout_s: float, env: Mapping[str, str] | None = None
    ) -> Outcome:
        """Run a script of probes/ under an interpreter."""
        return self.run([python, str(PROBES / name), *args], timeout_s, env)

    def end_leftovers(self) -> list[str]:
        """Wait for what a measurement started to end; end what does not, and name it."""
        deadline = time.monotonic() + LEFTOVERS_S
        while True:
            reap_ended()
            alive = [pid for pid in descendants(os.getpid()) if is_running(pid)]
            if not alive:
                return []
            if time.monotonic() >= deadline:
                break
            time.sleep(0.02)
        names = [_command(pid) for pid in alive]
        signal_all(alive, signal.SIGKILL)
        return names


def _tail(output: str) -> str:
    last = [text for text in output.strip().splitlines() if text.strip()][-TAIL_LINES:]
    return ": " + " | ".join(last) if last else ""


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:80]
    except OSError:
        return str(pid)


def hpc_launch() -> list[str]:
    """The command that starts hpc-launch of this environment."""
    beside = Path(sys.executable).with_name("hpc-launch")
    if not beside.exists():
        raise MeasureError(f"there is no {beside}: is hpc installed in this environment?")
    return [str(beside)]
