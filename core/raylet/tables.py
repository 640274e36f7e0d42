"""What a raylet remembers of its node: processes, demands, leases, objects in the arena, pulls."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from hpc.core.causes import LostCause
from hpc.core.ids import Address
from hpc.core.resources import Amounts, Grant, NodeResources
from hpc.core.wire import ProcessKind, Pull

NOBODY = Address(0, 0)
ProcState = Literal["starting", "idle", "leased", "driver"]


class Proc(Struct):
    """A driver or worker of this node. ``state`` is "starting", "idle", "leased" or "driver". One that is ``doomed`` is
    being killed: it is not leased again. ``ending`` is a lease that is over. What it held is free once nothing is left
    of the process, or of what was started below it. ``used``: it has been leased. ``exit_cause`` and ``exit_why`` are
    known beforehand where it ends by its own will or that of others. Where the process itself said what went wrong only
    ``exit_why`` is known."""

    proc: int
    kind: ProcessKind
    state: ProcState
    pid: int = 0
    path: str = ""
    env: tuple[tuple[str, str], ...] = ()
    lease: Lease | None = None
    ending: Lease | None = None
    idle_since: float = 0.0
    started: float = 0.0
    exposed: bool = False
    used: bool = False
    retired: bool = False
    blocked: bool = False
    doomed: bool = False
    exit_cause: LostCause | Literal[""] = ""
    exit_why: str = ""
    job: bytes = b""
    #: The driver whose work it does, or did last.
    driver: Address = NOBODY


class Bundle(Struct):
    """One reserved bundle: what it took from the node, and what of that is free."""

    group: bytes
    index: int
    attempt: int
    grant: Grant
    pool: NodeResources
    committed: bool = False
    returned: bool = False
    leases: set[int] = field(default_factory=set)


class Lease(Struct):
    """A worker and resources that are a submitter's. ``worker`` is None while its process is still starting. ``pool``
    is what the grant came from: the node, or a bundle of a placement group. ``recalled_at``: others wait for it."""

    ident: int
    owner: Address
    req: int
    grant: Grant
    actor: bool
    env: tuple[tuple[str, str], ...]
    driver: Address
    pool: NodeResources
    worker: Proc | None = None
    reclaim_asked: bool = False
    since: float = 0.0
    recalled_at: float = -1.0
    bundle: Bundle | None = None


class Demand(Struct):
    """What one submitter wants of one shape: ``want`` more workers; ``sent`` were granted or forwarded so far, of
    ``target`` that it has ever wanted. One of another node that waits here, ``until`` then, has an ``asker``. The node
    has to last ``time_s``."""

    owner: Address
    req: int
    shape: int
    held: Amounts
    placement: Amounts
    strategy: Any
    env: tuple[tuple[str, str], ...]
    actor: bool
    driver: Address
    depth: int = 0
    target: int = 0
    want: int = 0
    sent: int = 0
    here: int = 0
    told_head: int = 0
    told_at: float = 0.0
    tickets_seen: int = 0
    since: float = 0.0
    served: int = 0
    asker: Address | None = None
    until: float = 0.0
    time_s: float = 0.0


class Piece(Struct):
    """Where an object lies on disk: in which file, and where in it."""

    file: int
    at: int
    size: int


class Stored(Struct):
    """An object that this node keeps: in the arena (``offset`` is not -1), on disk (``disk``), or both. ``busy`` is
    "spilling" or "restoring" meanwhile. ``pins`` counts by process; it can go when freed and not pinned. ``writer`` is
    the process that wrote it last, 0 for a copy."""

    ident: bytes
    offset: int
    size: int
    copy: bool = False
    freed: bool = False
    pins: dict[int, int] = field(default_factory=dict)
    disk: Piece | None = None
    busy: Literal["", "spilling", "restoring"] = ""
    origin: int = 0
    writer: int = 0


class Wanted(Struct, eq=False):
    """Somebody waits for room to write an object."""

    src: Address
    req: int
    size: int
    ident: bytes
    since: float
    ahead: int = 0


class FetchSet(Struct, eq=False):
    """Objects that a process (or, with ``pull``, another node) wants to read, all or none. ``held`` are those that are
    pinned for it already while it waits for the others. With a ``keeper``, a node that leaves, it is one object that
    is to be kept here. ``round``: after which round of questions it is known that what should be here is not
    (`UnsealedRoom.ask_all`); -1 before that was doubted."""

    src: Address
    req: int
    items: dict[bytes, tuple[int, list[int]]]
    since: float
    alone: bool = False
    pull: tuple[int, Pull] | None = None
    keeper: int = 0
    held: list[Stored] = field(default_factory=list)
    round: int = -1


class Incoming(Struct):
    """An object on its way to this node from ``source``. ``received`` bytes are there, up to ``asked`` were asked for.
    ``readers`` are other nodes that read it from here as it comes: node to (next byte, chunks that it may be sent)."""

    ident: bytes
    size: int
    offset: int
    sources: list[int]
    received: int = 0
    asked: int = 0
    source: int = 0
    origin: int = 0
    whole: bool = False
    moved_at: float = 0.0
    others: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    readers: dict[int, tuple[int, int]] = field(default_factory=dict)


class Borrowed(Struct):
    """The processes of this node that hold references to an object owned elsewhere, each with the number of the word by
    which it said so."""

    procs: dict[int, int] = field(default_factory=dict)
    acked: bool = False
