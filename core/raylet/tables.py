"""What a raylet remembers of its node: processes, demands, leases, objects in the arena, pulls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpc.core.ids import Address
from hpc.core.resources import Amounts, Grant, NodeResources

if TYPE_CHECKING:
    from hpc.core.raylet.bundles import Bundle

NOBODY = Address(0, 0)


@dataclass
class Proc:
    """A driver or worker of this node. ``state`` is "starting", "idle", "leased" or "driver". One that is ``doomed`` is
    being killed: it is not leased again."""

    proc: int
    kind: str
    state: str
    pid: int = 0
    path: str = ""
    env: tuple[tuple[str, str], ...] = ()
    lease: Lease | None = None
    idle_since: float = 0.0
    started: float = 0.0
    exposed: bool = False
    retired: bool = False
    doomed: bool = False
    exit_why: str = ""
    exit_intended: bool = False
    job: bytes = b""
    #: Whose work it does, or did last.
    driver: Address = NOBODY


@dataclass
class Lease:
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
    recalled_at: float = -1.0
    bundle: Bundle | None = None


@dataclass
class Demand:
    """What one submitter wants of one shape: ``want`` more workers; ``sent`` were granted or forwarded so far, of
    ``target`` that it has ever wanted."""

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


@dataclass
class Stored:
    """An object in this node's arena. ``pins`` counts by process; it can go when freed and not pinned."""

    ident: bytes
    offset: int
    size: int
    copy: bool = False
    freed: bool = False
    pins: dict[int, int] = field(default_factory=dict)


@dataclass
class Incoming:
    """An object on its way to this node, and who waits for it."""

    ident: bytes
    size: int
    offset: int
    sources: list[int]
    waiters: list[int] = field(default_factory=list)
    received: int = 0
    asked: int = 0
    source: int = 0
    failed: list[int] = field(default_factory=list)


@dataclass
class Hold:
    """The processes of this node that hold references to an object owned elsewhere."""

    procs: set[int] = field(default_factory=set)
    acked: bool = False
