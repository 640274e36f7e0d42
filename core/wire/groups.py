"""Placement groups: their creator, the head, raylets."""

from __future__ import annotations

from typing import Any, Final, Literal

from hpc.core.ids import Address
from hpc.core.wire.base import Message

#: The tags of the messages of this file.
TAGS = range(160, 176)


class PgCreate(Message, tag=160):
    """Make a placement group. ``selectors`` has the label selector of each bundle (or is empty). ``topology`` has
    (label, strategy over its values), ``strategy`` is that over nodes. ``creator`` is the process whose end removes the
    group unless it is ``detached``. Answered at once; PgWait tells when it is there."""

    req: int
    group: bytes
    name: str
    namespace: str
    strategy: str
    bundles: list[dict[str, int]]
    selectors: list[Any]
    detached: bool
    creator: Address
    topology: list[list[str]] = []


class PgRemove(Message, tag=161):
    """Remove a group: what runs in it is ended. Removing it again, or one that never was, changes nothing."""

    req: int
    group: bytes


class PgTable(Message, tag=162):
    """Ask for one group (by id, or by namespace and name), or for all; the answer's data is JSON."""

    req: int
    group: bytes = b""
    namespace: str = ""
    name: str = ""


class PgWait(Message, tag=163):
    """Answered when the group is reserved completely, or is removed (not ok). Without a number: say its state now."""

    req: int
    group: bytes


class BundlePrepare(Message, tag=164):
    """Head to raylet, phase one: take these (index, amounts), all or none. If ``patient`` wait until they are free."""

    group: bytes
    attempt: int
    ticket: int
    bundles: list[tuple[int, dict[str, int]]]
    patient: bool = False


class BundlePrepared(Message, tag=165):
    """The raylet's answer. Nothing was taken unless ``ok``."""

    group: bytes
    attempt: int
    ok: bool
    why: str = ""


class BundleCommit(Message, tag=166):
    """Phase two: all nodes have said yes, the bundles of this attempt can be used."""

    group: bytes
    attempt: int


class BundleReturn(Message, tag=167):
    """Give the group's bundles back; what runs in them is ended. ``attempt`` 0: whichever there are. ``removed``: the
    group is; else only this attempt to reserve was given up."""

    group: bytes
    attempt: int
    removed: bool
    why: str


class BundlesHeld(Message, tag=168):
    """A raylet that registers (again) says which bundles it holds: (group, index, attempt, committed)."""

    bundles: list[tuple[bytes, int, int, bool]]


class PgWarning(Message, tag=169):
    """To the creator: why the group cannot be placed on any set of nodes that exists."""

    group: bytes
    why: str


#: What the maker of a placement group is told of it: it is there, it is gone, or it waits ("").
GroupNews = Literal["", "CREATED", "REMOVED"]
GROUP_CREATED: Final = "CREATED"
GROUP_REMOVED: Final = "REMOVED"


class PgState(Message, tag=170):
    """To the process that made a group, when it has changed: it is CREATED, or not (any more), or REMOVED and why."""

    group: bytes
    state: GroupNews
    why: str = ""
