"""What an owner remembers: entries of objects, tasks on their way, leases, actors.

Records have no behaviour of their own; the transitions are in objects, tasks and actors. Records of single tasks are
msgspec Structs, which cost a third of a class with slots to make. They are no business of the garbage collector: what
they refer to is cut loose when the task ends. collector: what they refer to is cut loose when the task ends.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from hpc.core.causes import ActorErrorName
from hpc.core.exceptions import PendingCallsLimitExceeded
from hpc.core.ids import Address
from hpc.core.wire import ActorPhase, Call, Calls, CreateActor, Message, Result, Task

if TYPE_CHECKING:
    import threading

#: Tasks that may be queued at one worker, however short they are.
MAX_DEPTH = 512
#: Roughly what a remembered task takes beside the task itself, in bytes.
RECORD_BYTES = 500


class Waiter:
    """Somebody who waits until ``needed`` more objects have a value. ``callback`` runs outside the machine; without
    one the shell wakes the thread that sleeps on ``lock``."""

    __slots__ = ("callback", "lock", "needed")

    def __init__(self, needed: int, callback: Callable[[], None] | None = None) -> None:
        self.needed = needed
        self.callback = callback
        self.lock: threading.Lock | None = None


class SharedError:
    """One error that stands for several return values of a task. ``left``: how many of them have references; ``seen``:
    somebody has got it by one of them."""

    __slots__ = ("left", "seen")

    def __init__(self, left: int) -> None:
        self.left = left
        self.seen = False


class Needs(NamedTuple):
    """What a wait without a time limit needs: the objects, whose ids are given when asked for, all but ``spare``."""

    idents: Callable[[], list[bytes]]
    spare: int = 0


class ErrorWatch:
    """A thread that waits for many objects, and no longer once one of them is an error (``failed``): its waiter needs
    nothing then. Which objects these are is only worked out when something has failed."""

    __slots__ = ("_among", "_idents", "failed", "waiter")

    def __init__(self, waiter: Waiter, idents: Callable[[], set[bytes]]) -> None:
        self.waiter = waiter
        self.failed = False
        self._idents = idents
        self._among: set[bytes] | None = None

    def concerns(self, ident: bytes) -> bool:
        """Whether the object is one of those."""
        if self._among is None:
            self._among = self._idents()
        return ident in self._among


class Entry(msgspec.Struct, gc=False, eq=False):
    """One object as this process knows it: its value when there is one, and who keeps it alive.

    ``count`` are the holds of this process: Python references, tasks in flight, values that contain it. ``nodes`` are
    the nodes that told the owner that they hold it. ``plain``: the object is ours, and its value came in a message.
    When nobody holds it, it is forgotten, and nothing else has to be done.
    """

    ident: bytes
    owned: bool
    count: int = 0
    result: Result | None = None
    nodes: set[int] | None = None
    waiters: list[Any] | None = None
    inner: list[bytes] | None = None
    asked: bool = False
    dead: bool = False
    pinned: bool = False
    plain: bool = False
    on_ack: list[Callable[[], None]] | None = None


class TaskRec(msgspec.Struct, gc=False, eq=False):
    """A task that was submitted and is not finished."""

    msg: Task
    shape: Shape
    retries: int
    retry_exceptions: bool
    holds: Sequence[bytes]
    size: int
    parent: bytes = b""
    unresolved: int = 0
    lease: LeasedWorker | None = None
    order: int = 0
    cancelled: bool = False


class CallRec(msgspec.Struct, gc=False, eq=False):
    """A call to an actor that was submitted and is not finished."""

    msg: Call
    client: ActorClient
    retries: int
    holds: Sequence[bytes]
    size: int
    parent: bytes = b""
    unresolved: int = 0
    numbered: bool = False
    sent: bool = False
    cancelled: bool = False


class TaskKind(msgspec.Struct, eq=False):
    """One function with its options, as its tasks are made. ``fn`` is the id of its code; ``window``: so many items of
    a generator may wait to be taken (0: any number)."""

    fn: bytes
    name: str
    shape: Shape
    num_returns: int
    retries: int
    retry_exceptions: bool
    window: int


class CallKind(msgspec.Struct, eq=False):
    """One method of one handle with its options, as its calls are made.

    Those of a kind that may (``joins``) travel as a run, ``open`` while more may join it. ``rest``: so many calls are
    yet made one by one, because one of the last ended in a way that ends a run. ``most_pending``: so many calls of this
    process to the actor may be unfinished (-1: any number). ``name``: the one that the caller gave to such calls.
    """

    method: str
    retries: int
    retry_exceptions: bool
    num_returns: int = 1
    group: str = ""
    window: int = 0
    out_of_order: bool = False
    most_pending: int = -1
    actor_class: str = ""
    joins: bool = True
    name: str = ""
    open: CallRun | None = None
    rest: int = 0

    def check_pending(self, waiting: int, actor: str) -> None:
        """Raise PendingCallsLimitExceeded where so many calls to the actor are unfinished that it takes no more."""
        if waiting >= self.most_pending:
            raise PendingCallsLimitExceeded(
                f"{waiting} calls of this process to Actor({self.actor_class}, {actor}) are not finished, and its "
                f"max_pending_calls is {self.most_pending}: get some of their results first"
            )


class CallRun:
    """Calls of one kind, one right after the other, to an actor that is there: sent and answered together.

    ``entries`` are their values, in order; those of the first ``done`` have come. ``following`` is the counter of the
    last one's id. A call that has the next id may join while ``msg`` is the last in its ``box``, if no box was sent
    since (``turn``). The first ``counted`` count in the client's numbers.
    """

    __slots__ = (
        "args", "box", "client", "counted", "done", "entries", "following", "kind", "msg", "parent", "size", "turn",
    )  # fmt: skip

    def __init__(
        self,
        first: Entry,
        msg: Calls,
        client: ActorClient,
        kind: CallKind,
        parent: bytes,
        box: list[Message],
        turn: int,
    ) -> None:
        self.msg = msg
        self.args = msg.args
        self.client = client
        self.kind = kind
        self.parent = parent
        self.box = box
        self.turn = turn
        self.entries = [first]
        self.done = self.following = 0
        self.size = len(msg.args[0])
        self.counted = 0


class ItemStream:
    """The items of one generator. ``told`` of the ``taken`` items are known to the worker that makes them. ``made``
    were told by ``attempt``, the latest of its task; ``marks`` are of those that another attempt may have to repeat.
    ``changed``: it did not, and this is the error that says so."""

    __slots__ = (
        "attempt", "changed", "ended", "made", "marks", "received", "taken", "told", "window", "worker",
    )  # fmt: skip

    def __init__(self, window: int) -> None:
        self.attempt = -1
        self.made = 0
        self.marks = array("q")
        self.changed: Result | None = None
        self.ended = False
        self.window = window
        self.received = 0
        self.taken = 0
        self.told = 0
        self.worker: Address | None = None


class Origin:
    """A finished task that may have to run again. ``live`` of its values exist, ``users`` are remembered tasks that
    had some of them as arguments."""

    __slots__ = ("borrowed", "kept", "live", "made", "rec", "size", "users", "uses")

    def __init__(self, rec: TaskRec | CallRec, made: list[bytes]) -> None:
        self.rec = rec
        self.made = made
        self.live = len(made)
        self.users = 0
        self.uses: list[Origin] = []
        self.kept: dict[bytes, Result] = {}
        self.borrowed: list[bytes] = []
        self.size = RECORD_BYTES + rec.size


class LeasedWorker:
    """A worker that is ours for a while, and the tasks on their way to it, in order. It begins them in the order in
    which they are ``given``; ``told`` is the last of those that it has run whose outcome has come."""

    __slots__ = (
        "actor",
        "given",
        "ident",
        "idle_since",
        "inflight",
        "instances",
        "leaving",
        "listed",
        "recalled",
        "shape",
        "told",
        "worker",
    )

    def __init__(self, ident: int, worker: Address, shape: Shape, instances: dict[str, list[str]]) -> None:
        self.ident = ident
        self.worker = worker
        self.shape = shape
        self.instances = instances
        self.inflight: dict[bytes, TaskRec] = {}
        self.given = self.told = 0
        self.listed = False
        self.recalled = False
        self.leaving = False
        self.idle_since = 0.0
        self.actor: OwnedActor | None = None


class Shape:
    """Tasks that can use each other's workers: same resources, strategy and environment. One demand at the raylet."""

    __slots__ = (
        "actor", "actors", "depth", "driver", "env", "gone", "held", "idle", "infeasible", "job", "leases", "level",
        "max_depth", "mean_us", "near", "placement", "queue", "req", "seen", "strategy", "time_s", "void", "want",
    )  # fmt: skip

    def __init__(
        self,
        held: dict[str, int],
        placement: dict[str, int],
        strategy: Any,
        env: dict[str, str],
        actor: bool,
        time_s: float = 0.0,
    ) -> None:
        self.held = held
        self.placement = placement
        self.strategy = strategy
        self.env = env
        self.actor = actor
        self.time_s = time_s
        self.req = 0
        self.queue: deque[TaskRec] = deque()
        self.actors: deque[OwnedActor] = deque()
        self.leases: dict[int, LeasedWorker] = {}
        self.idle: list[LeasedWorker] = []
        self.want = 0
        self.seen = 0
        self.depth = 1
        self.mean_us = 0.0
        self.level = 0
        self.infeasible = ""
        #: Why nothing of it runs any more: its placement group was removed.
        self.gone = ""
        #: Tasks in the queue that were cancelled there, about: they are taken out when it is worth it.
        self.void = 0
        #: The driver whose work it is, where that is not this process's own.
        self.job: bytes | None = None
        self.driver: Address | None = None
        self.near: dict[int, Shape] | None = None
        #: tasks that may be queued behind one another at one worker; what is to be spread is never queued
        self.max_depth = 1 if strategy == "SPREAD" else MAX_DEPTH


class Fate:
    """What actors share that live and die together: the first of them that ends takes the others along.

    ``names`` are for people, in the order of the actors. ``first``: which one it was; -1 for none, or for all at once.
    ``ident`` is an object that has a value once it is over.
    """

    __slots__ = ("actors", "cause", "first", "ident", "names", "over", "why")

    def __init__(self, ident: bytes, actors: Sequence[bytes], names: Sequence[str]) -> None:
        self.ident = ident
        self.actors = list(actors)
        self.names = list(names)
        self.over = False
        self.first = -1
        self.why = ""
        self.cause = b""

    def end(self, first: int, where: str, why: str, cause: bytes) -> None:
        """The end of all begins, with this actor, or with none (-1)."""
        self.over, self.first, self.cause = True, first, cause
        self.why = f"{self.names[first]}{where}: {why}; its gang has ended with it" if first >= 0 else why


class OwnedActor:
    """An actor that this process created: the truth about where it is and whether it lives."""

    __slots__ = (
        "cause",
        "charged",
        "create",
        "detached",
        "ending",
        "error",
        "fate",
        "holds",
        "incarnation",
        "lease",
        "name",
        "namespace",
        "path",
        "restarts",
        "shape",
        "state",
        "unresolved",
        "watchers",
        "why",
        "worker",
    )  # fmt: skip

    def __init__(self, create: CreateActor, shape: Shape, restarts: int, holds: Sequence[bytes]) -> None:
        self.create = create
        self.shape = shape
        self.restarts = restarts
        #: Whether the last restart cost a retry of the calls that it interrupted.
        self.charged = True
        self.holds = holds
        self.unresolved = 0
        self.incarnation = 0
        self.state: ActorPhase = "pending"
        self.lease: LeasedWorker | None = None
        self.worker = Address(0, 0)
        self.path = ""
        self.watchers: dict[Address, None] = {}
        self.name = ""
        self.namespace = ""
        self.why = ""
        self.cause = b""
        #: What calls get once it is dead.
        self.error: ActorErrorName = "ActorDiedError"
        self.ending = False
        self.detached = False
        self.fate: Fate | None = None


class ActorClient:
    """An actor as a caller sees it: where it is and the calls that are not finished, in order."""

    __slots__ = (
        "actor", "calls", "cause", "error", "groups", "incarnation", "inflight", "rank", "runs", "seq", "state", "why",
        "worker",
    )  # fmt: skip

    def __init__(self, actor: bytes) -> None:
        self.actor = actor
        self.state: ActorPhase | Literal["unknown"] = "unknown"
        self.worker = Address(0, 0)
        self.incarnation = -1
        self.seq = 0
        self.groups: dict[str, int] = {}
        self.calls: dict[bytes, CallRec] = {}
        #: The runs that are not finished, by their first id: all of them behind all of ``calls``.
        self.runs: dict[bytes, CallRun] = {}
        self.inflight = 0
        self.why = ""
        self.cause = b""
        self.error: ActorErrorName = "ActorDiedError"
        #: Of an actor of a gang that has ended: which one was the first.
        self.rank = -1
