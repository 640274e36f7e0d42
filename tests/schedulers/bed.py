"""What the promises of test_promises.py need of a real scheduler: a small cluster, and a few words in its language.

A bed is a module beside this one (slurm_bed.py is the first) with a class that has the methods of `Bed`, a
`reason_to_skip()`, and a fixture in conftest.py. What all of them do alike they have from `MadeBed`. A bed speaks to
the scheduler by itself, not through launchers/, whose answers are what is tested. What a scheduler has not, `lacks`
says: the promise is then skipped with that reason.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from netbed import BedError, NetBed, wait_for


class Bed(Protocol):
    """A cluster of at least four equal nodes, with nobody else on it."""

    #: The value of --scheduler.
    scheduler: str
    #: The nodes, in the order in which the scheduler gives them to a job.
    hosts: list[str]
    #: CPUs of each node.
    cpus: int
    #: A folder that all nodes see; "work" in it is everybody's.
    scratch: Path
    #: The environment of the login node.
    env: dict[str, str]
    #: Processes (as ps names them) that a node has though no job is on it.
    daemons: frozenset[str]
    #: Promises that cannot be kept here, and why: "requeue", "own script", "signal", "crash", "first node",
    #: "ordinary user", "order" (nodes come as they come), "look" (into a session from outside of it), "codes" (the
    #: scheduler says how a job ended), "estimates" (of a job that would be refused), "cheap" (jobs
    #: that start at once).
    lacks: Mapping[str, str]
    #: The shortest time limit that the scheduler takes, in seconds.
    shortest_s: int
    #: Options of hpc-launch for a job that may run twice.
    may_run_twice: Sequence[str]

    def run(
        self, argv: Sequence[str] | str, *, timeout_s: float = 60.0, check: bool = False, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """A command at the login node, as the user of the tests. Keyword arguments as of subprocess.run."""

    def login(self, argv: Sequence[str]) -> list[str]:
        """The command line for a command at the login node, for who starts it without `run`."""

    def as_user(self) -> dict[str, Any]:
        """The user as subprocess wants it: {} or user=, group=."""

    def pids(self, host: str) -> list[int]:
        """All processes on a node."""

    def submit(self, script: Path, nodes: int, out: Path) -> str:
        """The user's own job script, on so many whole nodes, with its output in a file: the job's id."""

    def phase(self, job_id: str) -> str:
        """queued, running or ended, and what a job that the scheduler does not know has: ended."""

    def nodes_of(self, job_id: str) -> list[str]:
        """The nodes of a job that runs, in the scheduler's order."""

    def exit_code(self, job_id: str) -> int:
        """What the scheduler says a job that has ended ended with."""

    def record(self, job_id: str) -> str:
        """All that the scheduler shows of a job to those who may look at it."""

    def end(self, job_id: str) -> None:
        """The scheduler's own command to end a job; does not wait."""

    def requeue(self, job_id: str) -> None:
        """Back into the queue with a job that runs."""

    def crash(self, host: str) -> None:
        """A node loses its power (NetBed.power_off), and the scheduler is told, where somebody can tell it."""

    def repair(self, host: str) -> None:
        """The node is back, and empty."""

    def full(self) -> AbstractContextManager[None]:
        """All nodes are busy with somebody else's job, so that a job of ours waits."""

    def aside(self) -> AbstractContextManager[Bed]:
        """A place for one job that goes on while other tests have all nodes."""

    def cancel_all(self, timeout_s: float = 90.0) -> None:
        """End every job, and wait until the nodes are idle."""


Made = TypeVar("Made", bound="MadeBed")


@dataclass
class MadeBed:
    """A bed on a NetBed: the entrance, the end, and commands at the login node.

    A subclass makes `net`, and has `why_not()`, `_configure()` (files and `env`) and `_start()` (daemons). It has a
    `close()` where more than the daemons has to end.
    """

    look_s: ClassVar[float] = 0.1  # between two looks at what is awaited

    net: NetBed = field(init=False)
    env: dict[str, str] = field(init=False, default_factory=dict)

    def why_not(self) -> str | None:
        """Why it cannot be made here, in words, or None."""
        raise NotImplementedError

    def _configure(self) -> None:
        raise NotImplementedError

    def _start(self) -> None:
        raise NotImplementedError

    def __enter__(self: Made) -> Made:
        why = self.why_not()
        if why:
            raise BedError(why)
        self.net.__enter__()
        try:
            (self.scratch / "work").mkdir()
            (self.scratch / "work").chmod(0o1777)
            self._configure()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End daemons and namespaces; safe to call twice."""
        self.net.close()

    @property
    def scratch(self) -> Path:
        return self.net.scratch

    @property
    def control_host(self) -> str:
        """The host name of daemons that run on this machine."""
        return f"bed{self.net.slot}-ctl"

    def await_(self, what: str, check: Callable[[], object], timeout_s: float) -> None:
        """Wait, bounded, until `check` says yes; BedError with a daemon's last words if one of them ends."""

        def look() -> bool:
            self.net.check_daemons()
            return bool(check())

        wait_for(what, look, timeout_s, self.look_s)

    # -------------------------------------------------------------- what the promises ask of all alike

    def login(self, argv: Sequence[str]) -> list[str]:
        return self.net.login(argv)

    def as_user(self) -> dict[str, Any]:
        return {}

    def pids(self, host: str) -> list[int]:
        return self.net.pids(host)

    def run(
        self, argv: Sequence[str] | str, *, timeout_s: float = 60.0, check: bool = False, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command at the login node."""
        argv = shlex.split(argv) if isinstance(argv, str) else list(argv)
        env = {**self.env, **more.pop("env", {})}
        done = subprocess.run(
            self.login(argv), env=env, cwd=more.pop("cwd", self.scratch / "work"), capture_output=True, text=True,
            errors="replace", timeout=timeout_s, stdin=subprocess.DEVNULL, **more,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise BedError(f"{shlex.join(argv)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done


def by_hand(make: Callable[..., MadeBed], doc: str | None, numbers: Mapping[str, int]) -> int:
    """A bed for a command of one's own (a shell, without one), with these options and their defaults: its exit code."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    for name, default in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- CMD ARGS...")
    options = vars(parser.parse_args())
    command = options.pop("command")
    bed = make(**options)
    why = bed.why_not()
    if why:
        print(why, file=sys.stderr)
        return 77
    started = time.monotonic()
    with bed:
        print(f"the bed is ready after {time.monotonic() - started:.2f} s", file=sys.stderr)
        argv = command[1:] if command[:1] == ["--"] else command
        try:
            return subprocess.run(bed.login(argv or ["bash"]), env=bed.env, cwd=bed.scratch / "work").returncode
        except KeyboardInterrupt:
            return 130
