"""Nodes: raylet and head."""

from __future__ import annotations

from typing import Any, Literal

from hpc.core.causes import FinalCause
from hpc.core.wire.base import Message

#: The tags of the messages of this file.
TAGS = range(128, 144)


class NodeInfo(Message, tag=128):
    """All that others need to know of a node."""

    node: int
    host: str
    endpoint: str
    key: str
    totals: dict[str, int]
    labels: dict[str, str]
    gateway: bool
    pid: int
    dir: str
    alive: bool = True
    why: str = ""
    bulk: str = ""


class NodeRegister(Message, tag=129):
    """A raylet joins. ``version`` is the wire version."""

    info: NodeInfo
    version: int


class NodeTable(Message, tag=130):
    """The head tells a raylet of nodes: all of them on registration, later what changed."""

    epoch: int
    nodes: list[NodeInfo]


class NodeDied(Message, tag=131):
    """A node is gone for good; its number will not come back. If it ``drained``, its end costs nobody a retry."""

    node: int
    why: str
    drained: bool = False


#: How much a node is in use: by leases, bundles or drivers; not; not, and its workers end because it was vacated; and
#: none of them is left.
Vacancy = Literal["used", "idle", "leaving", "empty"]


class Heartbeat(Message, tag=132):
    """A raylet is alive. It says what it has free, how many requests wait there, and what is free in each bundle that
    it holds: (group, index, free). ``beat`` is its number. ``keeps``: of a node that is not used, whether it has
    objects that are not copies. ``pieces`` is what is free on each of its devices that is not full. ``bundle_pieces``
    is the same for the bundles, in their order. Both are empty where there are no devices."""

    node: int
    free: dict[str, int]
    workers: int
    waiting: int
    tickets: list[int] = []
    bundles: list[tuple[bytes, int, dict[str, int]]] = []
    beat: int = 0
    vacancy: Vacancy = "used"
    keeps: bool = False
    pieces: dict[str, list[int]] = {}
    bundle_pieces: list[dict[str, list[int]]] = []


class HeartbeatAck(Message, tag=133):
    """The head has heard number ``beat``."""

    epoch: int
    beat: int = 0


class Vacate(Message, tag=134):
    """Head to raylet: if nobody uses the node, take nothing new from now on, and let its workers end. Not ``on``: take
    it back into use."""

    on: bool


class NodeTime(Message, tag=135):
    """Head to raylet to its processes: the node lasts ``left_s`` seconds from now on (-1: nothing limits it). With a
    ``why`` it drains: nothing new begins there. ``alone``: others go on, and its values move to them."""

    left_s: float
    why: str = ""
    alone: bool = False


class NodeDemand(Message, tag=136):
    """A raylet's aggregated demand that it cannot serve itself, per shape. It is an absolute number beyond the ``seen``
    that it has had tickets for, so that repeating it or crossing an answer does no harm."""

    node: int
    shape: int
    held: dict[str, int]
    placement: dict[str, int]
    strategy: Any
    count: int
    seen: int = 0
    time_s: float = 0.0


class Tickets(Message, tag=137):
    """The head's answer to NodeDemand: ``grants`` are (node, count, ticket). ``infeasible`` and ``final`` as in
    LeaseInfeasible. With ``patient`` the nodes are full, and the request is to wait there."""

    shape: int
    grants: list[tuple[int, int, int]]
    infeasible: str = ""
    final: FinalCause = ""
    patient: bool = False
