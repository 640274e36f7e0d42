"""The worker to end when memory runs out: a pure choice, and the words that the user will read.

The newest task goes first, for it has done the least work, and tasks that will be tried again before those that will
not. Actors are last: their state is lost with them. Drivers are never ended. Ending the largest process was rejected:
that is often the oldest, and with it the work of hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

GIB = 1 << 30
#: Ending a process that has less of its own does not help; it is spared where another has more.
WORTH_BYTES = 32 << 20


class Candidate(Struct, frozen=True):
    """A worker. ``since`` is when its task began, or its lease; ``what`` is what it has."""

    proc: int
    pid: int
    what: Literal["task", "actor", "idle"]
    since: float
    retriable: bool
    private_bytes: int


def choose(candidates: Sequence[Candidate]) -> Candidate | None:
    """The worker to end, or None if there is nobody."""
    large = [c for c in candidates if c.private_bytes >= WORTH_BYTES]

    def rank(one: Candidate) -> tuple[int, float]:
        kind = (
            3 if one.what == "task" and one.retriable else 2 if one.what == "task" else 1 if one.what == "idle" else 0
        )
        return kind, one.since

    return max(large or candidates, key=rank, default=None)


def explain(
    victim: Candidate, used_bytes: int, limit_bytes: int, where: str, threshold: float, others: Sequence[Candidate]
) -> str:
    """Why the worker was ended, and who else uses memory."""
    top = sorted(others, key=lambda c: -c.private_bytes)[:4]
    listed = ", ".join(f"pid {c.pid} ({c.what}) {c.private_bytes / GIB:.2f} GiB" for c in top)
    return (
        f"the node was running out of memory, so the newest work was ended: worker pid {victim.pid} used "
        f"{victim.private_bytes / GIB:.2f} GiB; {used_bytes / GIB:.2f} of {limit_bytes / GIB:.2f} GiB ({where}) were "
        f"in use, above the threshold of {threshold:.0%}. Most used: {listed}. Ask for more memory, run fewer tasks at "
        "a time (num_cpus=, memory=), or make each use less; HPC_MEMORY_USAGE_THRESHOLD sets the threshold, 0 is off"
    )
