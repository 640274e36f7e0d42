"""Leases: a submitter and the raylets, for workers."""

from __future__ import annotations

from typing import Any

from hpc.core.causes import FinalCause, LostCause
from hpc.core.ids import Address
from hpc.core.wire.base import Message

#: The tags of the messages of this file.
TAGS = range(16, 32)


class LeaseRequest(Message, tag=16):
    """A submitter wants ``count`` more workers of one resource shape, beyond the ``seen`` grants that it has received.
    The demand is absolute, so that repeating it or crossing a grant does no harm. ``held`` is kept while the lease
    lasts; ``placement`` only has to be free at the moment of placement, and the node must last ``time_s``. ``ticket``
    is non-zero where the head chose the node. One that is ``patient`` waits there for its share."""

    req: int
    owner: Address
    held: dict[str, int]
    placement: dict[str, int]
    count: int
    seen: int
    actor: bool
    strategy: Any
    env: dict[str, str]
    depth: int = 0
    ticket: int = 0
    driver: Address = Address(0, 0)
    patient: bool = False
    time_s: float = 0.0


class LeaseGrant(Message, tag=17):
    """A worker is the submitter's until it returns the lease. ``path`` is the worker's socket if on the same node."""

    req: int
    lease: int
    worker: Address
    path: str
    instances: dict[str, list[str]]


class LeaseInfeasible(Message, tag=18):
    """No node that exists could ever satisfy the request; it keeps waiting (nodes may join), but where it is final."""

    req: int
    why: str
    final: FinalCause = ""


class LeaseFailed(Message, tag=19):
    """A worker for the request could not be made: its runtime environment could not be set up. The demand is void."""

    req: int
    why: str


class LeaseReturn(Message, tag=20):
    """The submitter is done with a lease. ``retire``: the worker must not be used again."""

    lease: int
    retire: bool = False


class LeaseReclaim(Message, tag=21):
    """The raylet asks a submitter to return leases that it does not use. Those named in ``leases`` follow as soon as
    what is queued at them is done, even if it has more to do."""

    node: int
    leases: list[int] = []


class LeaseLost(Message, tag=22):
    """The worker of a lease is gone. ``task`` and ``attempt`` say what it was running, for people; empty: nothing."""

    lease: int
    worker: Address
    cause: LostCause
    why: str
    task: bytes = b""
    attempt: int = 0


class LeaseRefused(Message, tag=23):
    """A raylet that got a forwarded request has no room after all; back to the raylet that asked."""

    req: int
    owner: Address
    ticket: int
    count: int


class KillWorker(Message, tag=24):
    """The owner of a lease (or of an actor) wants its worker ended now."""

    worker: Address
    lease: int
    why: str


class HeadLeases(Message, tag=25):
    """A raylet tells a head that has taken the place of another which (lease, process) it keeps for it."""

    leases: list[tuple[int, int]]


class PrepareEnv(Message, tag=26):
    """Set up this environment of workers, before a task needs it. A driver asks the head, which answers and tells the
    raylets of all nodes that take work. One that fails does so again for the first task, which says why."""

    req: int
    env: dict[str, str]
