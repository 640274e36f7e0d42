"""What the promises of test_promises.py need of a real scheduler: a small cluster, and a few words in its language.

A bed is a module beside this one (slurm_bed.py is the first) with a class that has these methods, a `reason_to_skip()`,
and a fixture in conftest.py. It speaks to the scheduler by itself, not through launchers/, whose answers are
what is tested. What a scheduler has not, `lacks` says: the promise is then skipped with that reason.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol


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
    #: "ordinary user", "order" (nodes come as they come), "look" (into a session from outside of it), "cheap" (jobs
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

    def cancel_all(self, timeout_s: float = 30.0) -> None:
        """End every job, and wait until the nodes are idle."""
