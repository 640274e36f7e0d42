"""A process and its raylet: coming, waiting, leaving."""

from __future__ import annotations

from typing import Any, Literal

from hpc.core.ids import Address
from hpc.core.wire.base import Message
from hpc.core.wire.nodes import NodeTime

#: The tags of the messages of this file.
TAGS = range(2, 16)
#: What a process is to its raylet.
ProcessKind = Literal["driver", "worker"]


class Register(Message, tag=2):
    """A process introduces itself to its raylet. ``proc`` is 0 for drivers, which are given a number."""

    kind: ProcessKind
    proc: int
    pid: int
    version: int
    job: bytes = b""


class Registered(Message, tag=3):
    """The raylet's answer; with it travel (SCM_RIGHTS) descriptors of the arena and, if it has one, its overflow."""

    node: int
    proc: int
    slot: int
    arena_bytes: int
    session: str
    config: dict[str, Any]
    overflow_bytes: int = 0
    ending: NodeTime | None = None


class Blocked(Message, tag=4):
    """A worker is about to wait in get or wait: its CPU can be used by others meanwhile."""


class Unblocked(Message, tag=5):
    """The worker goes on; it does not wait for its CPU."""


class Exiting(Message, tag=6):
    """A worker says that it will end by intention (``exit_actor``, last handle gone), and why."""

    why: str
    intended: bool = True


class Retire(Message, tag=7):
    """A worker is not needed: it ends its programs, answers `Cleared`, and ends once nobody needs its objects."""


class Cleared(Message, tag=8):
    """Worker to raylet: nothing runs below it any more."""


class ToldToEnd(Message, tag=9):
    """A worker tells its raylet that it was sent a SIGTERM: it ends by that, unless all processes were sent one."""


class HeadRestarted(Message, tag=10):
    """Raylet to its processes: another head works now. What was asked of the one before is asked again."""


class ProcessGone(Message, tag=11):
    """A driver or worker has ended: who depends on it as an owner can let go."""

    addr: Address
    why: str


class Unroutable(Message, tag=12):
    """The destination does not exist (any more): sent back to the source of a frame."""

    dst: Address


class Shutdown(Message, tag=13):
    """Raylet to a process of its node: its session has ended."""

    why: str
