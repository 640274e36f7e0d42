"""Every message that crosses a process, and the frames that carry them.

One file, so that the protocol can be read in one sitting and changed in one place. Messages are msgspec Structs encoded
as arrays (a tag and the fields), and a *body* is a msgpack array of messages. A *frame* is a 20-byte header (length of
the body, destination, source) and the body. Raylets route frames by the header and do not decode bodies that are not
for them. Everything carries the attempt, incarnation or request it belongs to, by which a late message is known.

JSON and pickle were rejected: JSON cannot hold bytes, and neither head nor raylet may ever unpickle.
"""

from __future__ import annotations

import struct
from typing import Any, Final, Literal, Union

import msgspec

from hpc.core.causes import ActorErrorName, FetchCause, FinalCause, LostCause
from hpc.core.ids import Address

WIRE_VERSION = 2
HEADER = struct.Struct("<IIIII")
HEADER_BYTES = HEADER.size
#: The one limit of the wire. A larger body is refused: its sender is broken or hostile. Senders split by it
#: (`net.frames`), and a link between nodes takes whatever fits into such a frame.
MAX_FRAME_BYTES = 64 << 20
#: The values in one message take at most so much together: results beyond are stored, arguments beyond are left to the
#: receiver to ask for (AT_OWNER), and errors are shortened to it.
MAX_VALUES_BYTES = MAX_FRAME_BYTES // 8

# Kinds of a Result: a value in the message, an object in arenas, a pickled exception, an error of the runtime's own (a
# msgpack map with "type" and "why": machines never pickle), and, among arguments only, a small value of ``size`` bytes
# for which this message had no room: its owner is asked for it.
INLINE, STORED, ERROR, SYSTEM, AT_OWNER = 0, 1, 2, 3, 4

# In place of a number of return values: a generator's items are told one by one, or are the value of one reference.
STREAMING, DYNAMIC = -1, -2
#: Ids that a generator's task reserves: its own and those of its items.
STREAM_IDS = 1 << 32

#: The value None and the arguments of a call without any, as they travel: pickled once, by hand (the tests compare).
NONE = b"\x80\x05N."
NO_ARGUMENTS = b"\x80\x05\x95\x06\0\0\0\0\0\0\0)}\x94\x86\x94."


class Message(msgspec.Struct, array_like=True, gc=False, frozen=False):
    """Base of all messages."""


# ---------------------------------------------------------------- process <-> its raylet

#: What a process is to its raylet.
ProcessKind = Literal["driver", "worker"]


class Register(Message, tag=1):
    """A process introduces itself to its raylet. ``proc`` is 0 for drivers, which are given a number."""

    kind: ProcessKind
    proc: int
    pid: int
    version: int
    job: bytes = b""


class Registered(Message, tag=2):
    """The raylet's answer; with it travel (SCM_RIGHTS) descriptors of the arena and, if it has one, its overflow."""

    node: int
    proc: int
    slot: int
    arena_bytes: int
    session: str
    config: dict[str, Any]
    overflow_bytes: int = 0
    ending: NodeTime | None = None


class LeaseRequest(Message, tag=3):
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


class LeaseGrant(Message, tag=5):
    """A worker is the submitter's until it returns the lease. ``path`` is the worker's socket if on the same node."""

    req: int
    lease: int
    worker: Address
    path: str
    instances: dict[str, list[str]]


class LeaseInfeasible(Message, tag=6):
    """No node that exists could ever satisfy the request; it keeps waiting (nodes may join), but where it is final."""

    req: int
    why: str
    final: FinalCause = ""


class LeaseFailed(Message, tag=130):
    """A worker for the request could not be made: its runtime environment could not be set up. The demand is void."""

    req: int
    why: str


class LeaseReturn(Message, tag=7):
    """The submitter is done with a lease. ``retire``: the worker must not be used again."""

    lease: int
    retire: bool = False


class LeaseReclaim(Message, tag=8):
    """The raylet asks a submitter to return leases that it does not use. Those named in ``leases`` follow as soon as
    what is queued at them is done, even if it has more to do."""

    node: int
    leases: list[int] = []


class LeaseLost(Message, tag=9):
    """The worker of a lease is gone. ``task`` and ``attempt`` say what it was running, for people; empty: nothing."""

    lease: int
    worker: Address
    cause: LostCause
    why: str
    task: bytes = b""
    attempt: int = 0


class LeaseRefused(Message, tag=10):
    """A raylet that got a forwarded request has no room after all; back to the raylet that asked."""

    req: int
    owner: Address
    ticket: int
    count: int


class Blocked(Message, tag=11):
    """A worker is about to wait in get or wait: its CPU can be used by others meanwhile."""


class Unblocked(Message, tag=12):
    """The worker goes on; it does not wait for its CPU."""


class KillWorker(Message, tag=13):
    """The owner of a lease (or of an actor) wants its worker ended now."""

    worker: Address
    lease: int
    why: str


class Exiting(Message, tag=14):
    """A worker says that it will end by intention (``exit_actor``, last handle gone), and why."""

    why: str
    intended: bool = True


class Alloc(Message, tag=15):
    """Ask for space in the node's arena, for the object ``ident``, and for a span of ``ahead`` bytes for those that
    follow it."""

    req: int
    size: int
    ident: bytes
    ahead: int = 0


class Allocated(Message, tag=16):
    """Space was found, at ``offset``; ``offset`` is -1 where there is none, and ``why`` says so. Beside it, the process
    may place objects by itself in the ``ahead`` bytes at ``span``."""

    req: int
    offset: int
    why: str = ""
    span: int = -1
    ahead: int = 0


class Seal(Message, tag=17):
    """The object at ``offset`` is complete: in space that was allocated for it, or in the sealer's span. With ``keep``
    the sealer keeps a pin on it."""

    ident: bytes
    offset: int
    size: int
    keep: bool = True


class Abandon(Message, tag=18):
    """Space that was allocated will not be used after all; of a span, the ``size`` bytes that begin there."""

    offset: int
    size: int = 0


class AskSealed(Message, tag=38):
    """To a process that has a span: say when all that it has sealed so far is on its way."""

    round: int


class AllSealed(Message, tag=39):
    """The answer; the process's Seals went before it."""

    round: int


class Unpin(Message, tag=19):
    """The process has neither views of, nor further use for, these objects' memory."""

    idents: list[bytes]


class Free(Message, tag=20):
    """The owner says that nobody holds these objects any more. With ``writer``, a process of the node that has ended,
    it means only what that one has written. The owner has not heard of it, and another process may write them again."""

    idents: list[bytes]
    writer: int = 0


class Fetch(Message, tag=21):
    """Make an object readable on this node: pin it, pulling it from one of ``nodes`` first where needed."""

    ident: bytes
    size: int
    nodes: list[int]


class Fetched(Message, tag=22):
    """The answer to Fetch: where it lies; ``offset`` is -1 where it could not be had, because of ``cause``."""

    ident: bytes
    offset: int
    size: int
    cause: FetchCause = ""
    why: str = ""
    lost: list[int] = []


class LocationAdded(Message, tag=23):
    """A raylet tells the owner that its node has a copy now."""

    ident: bytes
    node: int


class BorrowAdd(Message, tag=24):
    """This process holds references to objects that it does not own: its ``number``-th word of this kind."""

    idents: list[bytes]
    number: int


class BorrowDrop(Message, tag=25):
    """This process holds them no more."""

    idents: list[bytes]


class BorrowAcked(Message, tag=26):
    """The owners know that this node holds the objects (``dead``: their owner is gone). ``numbers`` are those of the
    words that are answered: an object may have been let go and taken again since."""

    idents: list[bytes]
    numbers: list[int]
    dead: bool = False


class HoldAdd(Message, tag=27):
    """Raylet to owner: a process of this node holds references to these objects (idempotent)."""

    idents: list[bytes]
    node: int


class HoldDrop(Message, tag=28):
    """Raylet to owner: no process of this node holds them any more."""

    idents: list[bytes]
    node: int


class HoldAcked(Message, tag=29):
    """Owner to raylet: the holds are on record."""

    idents: list[bytes]


class Unroutable(Message, tag=30):
    """The destination does not exist (any more): sent back to the source of a frame."""

    dst: Address


class LogLines(Message, tag=32):
    """What a worker wrote: for the terminal of the driver whose work it does. ``size`` bytes of its file are in it."""

    node: int
    pid: int
    name: str
    lines: list[str]
    is_err: bool
    size: int = 0


class LogsSeen(Message, tag=35):
    """Driver to raylet: so many bytes of `LogLines` were shown, and more may come."""

    size: int


class FlushLogs(Message, tag=33):
    """To a raylet: the driver leaves: send it what its workers have printed, then an Answer. To a worker: write out
    what was printed without an end of line, then an Answer: the nodes where the workers had something done."""

    req: int


class Retire(Message, tag=34):
    """A worker is not needed: it ends its programs, answers `Cleared`, and ends once nobody needs its objects."""


class Cleared(Message, tag=36):
    """Worker to raylet: nothing runs below it any more."""


class ToldToEnd(Message, tag=37):
    """A worker tells its raylet that it was sent a SIGTERM: it ends by that, unless all processes were sent one."""


# ---------------------------------------------------------------- submitter <-> worker


class DefineFunction(Message, tag=40):
    """A pickled function or class, by the hash of its bytes; sent once to each worker before its first use."""

    fn: bytes
    blob: bytes


class LeaseBegin(Message, tag=41):
    """First message to a leased worker: for whom it works, with which accelerator instances. ``group`` is (placement
    group, whether its tasks' children belong there too), or empty; ``driver`` is the one whose work it is."""

    lease: int
    owner: Address
    instances: dict[str, list[str]]
    job: bytes
    env: dict[str, str]
    resources: dict[str, int] = {}
    group: list[Any] = []
    driver: Address = Address(0, 0)


class Result(Message, tag=42):
    """One value: bytes in the message (INLINE, ERROR, SYSTEM) or an object in arenas (STORED), with its references."""

    kind: int
    data: bytes
    size: int = 0
    nodes: tuple[int, ...] = ()
    inner: tuple[bytes, ...] = ()


class Task(Message, tag=43):
    """A task to run. ``args`` is a serialized (args, kwargs). ``refs`` are the top-level references in their order of
    appearance, ``values`` what they resolved to, and ``holds`` are references nested deeper. ``num_returns`` may be
    STREAMING or DYNAMIC; ``window`` is how many items of a generator may wait to be taken (0: any number). ``attempt``
    tells one sending from another; ``ran`` is how often it has begun before, which people know as its attempt."""

    task: bytes
    attempt: int
    fn: bytes
    name: str
    args: bytes
    num_returns: int
    values: tuple[Result, ...] = ()
    refs: tuple[bytes, ...] = ()
    holds: tuple[bytes, ...] = ()
    lease: int = 0
    depth: int = 0
    retry_exceptions: bool = False
    window: int = 0
    retriable: bool = True
    ran: int = 0


class Call(Message, tag=44):
    """A method call on an actor. ``seq`` orders the calls of one caller incarnation to one actor incarnation and
    concurrency group; it is negative where no order was asked for. ``name`` is empty unless its caller gave it one.
    ``attempt`` and ``ran`` are as in `Task`."""

    task: bytes
    attempt: int
    actor: bytes
    incarnation: int
    seq: int
    method: str
    args: bytes
    num_returns: int
    values: tuple[Result, ...] = ()
    refs: tuple[bytes, ...] = ()
    holds: tuple[bytes, ...] = ()
    group: str = ""
    retry_exceptions: bool = False
    window: int = 0
    name: str = ""
    ran: int = 0


class Calls(Message, tag=53):
    """A run of calls: one method of one actor, called again and again, in order, each once only; ids and numbers go up
    by one. ``args`` are the arguments of each, which refer to nothing; each returns one value."""

    task: bytes
    actor: bytes
    incarnation: int
    seq: int
    method: str
    args: list[bytes]
    retry_exceptions: bool = False


class CallsDone(Message, tag=54):
    """Calls of the run that begins with ``task`` are finished, from number ``at`` of it on. Each has its value, small,
    or the error that it raised. What ends otherwise has a Done of its own."""

    task: bytes
    at: int
    results: list[Result]


class Skip(Message, tag=45):
    """The call with this sequence number will never come (its argument failed, it was cancelled)."""

    actor: bytes
    incarnation: int
    seq: int
    group: str = ""


class CreateActor(Message, tag=46):
    """Make the leased worker the actor. The Done of ``actor`` (its creation task) says that it is ready."""

    actor: bytes
    incarnation: int
    fn: bytes
    name: str
    args: bytes
    options: dict[str, Any]
    values: tuple[Result, ...] = ()
    refs: tuple[bytes, ...] = ()
    holds: tuple[bytes, ...] = ()
    lease: int = 0


class Done(Message, tag=47):
    """A task or call is finished; its code ran for ``run_us``. One that failed has one result for all return values."""

    task: bytes
    attempt: int
    results: list[Result]
    run_us: int = 0
    retryable: bool = False
    exiting: bool = False


class GivenBack(Message, tag=48):
    """Tasks that the worker had queued but not started; the submitter sends them elsewhere."""

    lease: int
    tasks: list[bytes]


class Release(Message, tag=49):
    """The receiver of a result with references inside has registered them: the sender's pins can go."""

    task: bytes
    attempt: int


class Cancel(Message, tag=50):
    """Cancel one attempt of a task or call."""

    task: bytes
    attempt: int
    force: bool = False
    recursive: bool = True


class CancelObject(Message, tag=190):
    """To an object's owner: cancel what makes it. The answer (where ``req`` is not 0) says why it cannot be."""

    req: int
    ident: bytes
    force: bool = False
    recursive: bool = True


class EndActor(Message, tag=51):
    """Finish the calls received so far, then end (the last handle is gone)."""

    actor: bytes
    incarnation: int
    why: str = "all handles are out of scope"


class Yielded(Message, tag=140):
    """Item number ``index`` of a task or call that is a generator."""

    task: bytes
    attempt: int
    index: int
    result: Result


class Consumed(Message, tag=141):
    """``count`` items of a generator have been taken: it may go on."""

    task: bytes
    attempt: int
    count: int


class CallRefused(Message, tag=52):
    """A call for an incarnation of an actor that this worker does not host."""

    task: bytes
    attempt: int
    why: str


# ---------------------------------------------------------------- holder of a reference <-> its owner


class GetObject(Message, tag=60):
    """Tell me this object's value or places as soon as it has one. ``asker`` also names who asks."""

    ident: bytes


class ObjectValue(Message, tag=61):
    """The answer to GetObject."""

    ident: bytes
    result: Result


class ObjectMissing(Message, tag=62):
    """Owner's answer: there is no such object (any more)."""

    ident: bytes
    why: str


class WatchActor(Message, tag=63):
    """Keep me informed about the actor (asked by a holder of a handle; answered at once and on each change)."""

    actor: bytes


#: Where an actor is in its life, as its owner tells it.
ActorPhase = Literal["pending", "alive", "restarting", "dead"]


class ActorState(Message, tag=64):
    """Where an actor is. Calls to a dead one get the ``error``. If not ``charged`` a restart costs calls no retry."""

    actor: bytes
    state: ActorPhase
    incarnation: int
    worker: Address
    why: str = ""
    path: str = ""
    cause: bytes = b""
    error: ActorErrorName = "ActorDiedError"
    charged: bool = True
    rank: int = -1  # of a gang that has ended: which was the first


class KillActor(Message, tag=65):
    """To an actor's owner: end it by force. Where it may restart, only the ``incarnation`` that is meant (-1: any)."""

    actor: bytes
    no_restart: bool = True
    incarnation: int = -1


class CopyLost(Message, tag=66):
    """To an owner: the object's copies on these nodes could not be reached."""

    ident: bytes
    nodes: list[int]


class StateQuery(Message, tag=120):
    """To a raylet or a process: tell what you know of ``what`` ("tasks", "workers", ...), at most ``limit`` rows."""

    req: int
    what: str
    limit: int


class StateAnswer(Message, tag=121):
    """Rows, as a msgpack list of maps. ``left_out`` more had no room in the message."""

    req: int
    data: bytes
    left_out: int = 0


class LogQuery(Message, tag=155):
    """To a raylet: at most ``size`` bytes of one of its node's log files, from ``at`` on (below 0: from so far before
    its end). The Answer is msgpack, see raylet/logfiles."""

    req: int
    file: str
    at: int
    size: int


class LastRows(Message, tag=156):
    """A worker that is about to end tells its raylet what it ran last: rows, as StateAnswer has them."""

    data: bytes


class FreeValues(Message, tag=145):
    """To an owner: give up the values of these objects, whoever holds them (``internal.free``)."""

    idents: list[bytes]


class NewActor(Message, tag=143):
    """To the head: an id for a detached actor (the answer's data)."""

    req: int


class KeepActor(Message, tag=144):
    """To the head: make this actor, and own it. ``code`` is its class; ``job``, ``driver``: whose work it is."""

    req: int
    create: CreateActor
    held: dict[str, int]
    placement: dict[str, int]
    strategy: Any
    env: dict[str, str]
    restarts: int
    code: bytes
    job: bytes
    driver: Address


class HeadLeases(Message, tag=172):
    """A raylet tells a head that has taken the place of another which (lease, process) it keeps for it."""

    leases: list[tuple[int, int]]


# ---------------------------------------------------------------- raylet <-> raylet: bulk


class Pull(Message, tag=70):
    """Send me the object in chunks, from ``offset`` on; at most ``window`` chunks without an answer. ``whole``: only a
    node that has all of it may serve this, and must."""

    ident: bytes
    offset: int
    window: int
    whole: bool = False


class Chunk(Message, tag=71):
    """A piece of an object."""

    ident: bytes
    offset: int
    data: memoryview
    total: int


class PullFailed(Message, tag=72):
    """This node does not have the object."""

    ident: bytes
    why: str


# ---------------------------------------------------------------- raylet, process <-> head


class NodeInfo(Message, tag=80):
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


class NodeRegister(Message, tag=81):
    """A raylet joins. ``version`` is the wire version."""

    info: NodeInfo
    version: int


class NodeTable(Message, tag=82):
    """The head tells a raylet of nodes: all of them on registration, later what changed."""

    epoch: int
    nodes: list[NodeInfo]


class NodeDied(Message, tag=83):
    """A node is gone for good; its number will not come back. If it ``drained``, its end costs nobody a retry."""

    node: int
    why: str
    drained: bool = False


#: How much a node is in use: by leases, bundles or drivers; not; not, and its workers end because it was vacated; and
#: none of them is left.
Vacancy = Literal["used", "idle", "leaving", "empty"]


class Heartbeat(Message, tag=84):
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


class HeartbeatAck(Message, tag=85):
    """The head has heard number ``beat``."""

    epoch: int
    beat: int = 0


class Vacate(Message, tag=210):
    """Head to raylet: if nobody uses the node, take nothing new from now on, and let its workers end. Not ``on``: take
    it back into use."""

    on: bool


class NodeTime(Message, tag=116):
    """Head to raylet to its processes: the node lasts ``left_s`` seconds from now on (-1: nothing limits it). With a
    ``why`` it drains: nothing new begins there. ``alone``: others go on, and its values move to them."""

    left_s: float
    why: str = ""
    alone: bool = False


class NodeDemand(Message, tag=86):
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


class Tickets(Message, tag=87):
    """The head's answer to NodeDemand: ``grants`` are (node, count, ticket). ``infeasible`` and ``final`` as in
    LeaseInfeasible. With ``patient`` the nodes are full, and the request is to wait there."""

    shape: int
    grants: list[tuple[int, int, int]]
    infeasible: str = ""
    final: FinalCause = ""
    patient: bool = False


class ProcessGone(Message, tag=88):
    """A driver or worker has ended: who depends on it as an owner can let go."""

    addr: Address
    why: str


class NameRegister(Message, tag=89):
    """Give an actor a name. Fails when the name is taken by a living actor."""

    req: int
    namespace: str
    name: str
    actor: bytes
    handle: bytes


class NameLookup(Message, tag=90):
    """Find an actor by its name; an empty name lists all of the namespace."""

    req: int
    namespace: str
    name: str


class NameRelease(Message, tag=91):
    """The actor is dead: its name can be used again."""

    namespace: str
    name: str
    actor: bytes


class Answer(Message, tag=92):
    """The head's answer to a question."""

    req: int
    ok: bool
    data: bytes = b""
    why: str = ""


class KvPut(Message, tag=93):
    """Set a key. The answer's data is its new version, as text, or b"0" where ``overwrite`` is false and it has one."""

    req: int
    namespace: str
    key: bytes
    value: bytes
    overwrite: bool = True


class KvGet(Message, tag=94):
    """Read a key; the answer is not ok where there is none."""

    req: int
    namespace: str
    key: bytes


class KvDelete(Message, tag=95):
    """Delete a key, or every key that begins with it; the answer's data is their number."""

    req: int
    namespace: str
    key: bytes
    prefix: bool = False


class KvKeys(Message, tag=96):
    """The keys that begin with ``key``, as a msgpack list of bytes."""

    req: int
    namespace: str
    key: bytes


class PrepareEnv(Message, tag=183):
    """Set up this environment of workers, before a task needs it. A driver asks the head, which answers and tells the
    raylets of all nodes that take work. One that fails does so again for the first task, which says why."""

    req: int
    env: dict[str, str]


class Locate(Message, tag=182):
    """To the owner of these objects: where are they? The answer's data is msgpack, for each (see `owner.places`): the
    kind of its value, its size, the nodes."""

    req: int
    idents: list[bytes]


class ChannelOpen(Message, tag=184):
    """A process opens a channel, under a number of its own, to another one that listens under this name, or will."""

    number: int
    name: str


class ChannelData(Message, tag=185):
    """The message number ``seq`` from 0 on. ``opener``: the sender is the process that opened the channel."""

    number: int
    opener: bool
    seq: int
    data: bytes


class ChannelTaken(Message, tag=186):
    """What the sender has taken of the channel in all, as `owner.channels` counts; the first says that it has accepted
    the channel."""

    number: int
    opener: bool
    taken: int


class ChannelEnd(Message, tag=187):
    """The sender has closed the channel, or refuses it (``why``); it has sent so many messages."""

    number: int
    opener: bool
    sent: int
    why: str


class KvWatch(Message, tag=180):
    """What has changed since version ``seen`` of the key, or with ``prefix`` of the keys that begin with it? Answered
    when something has, which may be never. ``seen`` 0: the asker knows of no key, and wants those that there are.

    The answer's data is msgpack. It has the version up to which the asker knows all now. Then come all keys that there
    are, or None where the asker is to know others no more. Last comes (key, version, value) of what has changed, the
    value None if it is gone."""

    req: int
    namespace: str
    key: bytes
    prefix: bool
    seen: int


class KvUnwatch(Message, tag=181):
    """The asker does not wait for the answer to a `KvWatch` any more."""

    req: int
    namespace: str


class ClusterQuery(Message, tag=97):
    """Ask the head for a view of the cluster, as JSON."""

    req: int
    what: Literal["nodes", "session"]


class Shutdown(Message, tag=98):
    """Raylet to a process of its node: its session has ended."""

    why: str


# ---------------------------------------------------------------- placement groups, fair shares


class PgCreate(Message, tag=100):
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


class PgRemove(Message, tag=101):
    """Remove a group: what runs in it is ended. Removing it again, or one that never was, changes nothing."""

    req: int
    group: bytes


class PgTable(Message, tag=102):
    """Ask for one group (by id, or by namespace and name), or for all; the answer's data is JSON."""

    req: int
    group: bytes = b""
    namespace: str = ""
    name: str = ""


class PgWait(Message, tag=103):
    """Answered when the group is reserved completely, or is removed (not ok). Without a number: say its state now."""

    req: int
    group: bytes


class BundlePrepare(Message, tag=104):
    """Head to raylet, phase one: take these (index, amounts), all or none. If ``patient`` wait until they are free."""

    group: bytes
    attempt: int
    ticket: int
    bundles: list[tuple[int, dict[str, int]]]
    patient: bool = False


class BundlePrepared(Message, tag=105):
    """The raylet's answer. Nothing was taken unless ``ok``."""

    group: bytes
    attempt: int
    ok: bool
    why: str = ""


class BundleCommit(Message, tag=106):
    """Phase two: all nodes have said yes, the bundles of this attempt can be used."""

    group: bytes
    attempt: int


class BundleReturn(Message, tag=107):
    """Give the group's bundles back; what runs in them is ended. ``attempt`` 0: whichever there are. ``removed``: the
    group is; else only this attempt to reserve was given up."""

    group: bytes
    attempt: int
    removed: bool
    why: str


class BundlesHeld(Message, tag=108):
    """A raylet that registers (again) says which bundles it holds: (group, index, attempt, committed)."""

    bundles: list[tuple[bytes, int, int, bool]]


class PgWarning(Message, tag=109):
    """To the creator: why the group cannot be placed on any set of nodes that exists."""

    group: bytes
    why: str


#: What the maker of a placement group is told of it: it is there, it is gone, or it waits ("").
GroupNews = Literal["", "CREATED", "REMOVED"]
GROUP_CREATED: Final = "CREATED"
GROUP_REMOVED: Final = "REMOVED"


class PgState(Message, tag=165):
    """To the process that made a group, when it has changed: it is CREATED, or not (any more), or REMOVED and why."""

    group: bytes
    state: GroupNews
    why: str = ""


# ---------------------------------------------------------------- the object store under pressure


class PleaseUnpin(Message, tag=110):
    """The raylet needs room: give back the pins that no view needs, with an Unpin (which may be empty)."""


class FetchAll(Message, tag=112):
    """Make a set of objects readable on this node, all or none: the arguments of one task."""

    req: int
    idents: list[bytes]
    sizes: list[int]
    nodes: list[list[int]]


class FetchedAll(Message, tag=113):
    """The answer to FetchAll: where they lie, each pinned once; or the ``cause`` why not, and the object to blame."""

    req: int
    idents: list[bytes]
    sizes: list[int]
    offsets: list[int]
    cause: FetchCause = ""
    why: str = ""
    bad: bytes = b""
    lost: list[int] = []


class PullBusy(Message, tag=114):
    """This node serves the object to enough others at the moment; ``others`` have it, or are getting it."""

    ident: bytes
    others: list[int]


class Leaving(Message, tag=200):
    """A raylet whose node leaves asks an owner: which of these objects, which lie here, have to be elsewhere before?"""

    idents: list[bytes]


class StillWanted(Message, tag=201):
    """The owner's answer: these, as far as it has heard of them. ``nodes`` has all their places that it knows of;
    ``again`` says whether a task would make them anew."""

    idents: list[bytes]
    nodes: list[list[int]]
    again: list[bool]


class Keep(Message, tag=202):
    """To another raylet: take this object from one of ``nodes``, and keep it as if it had been made there."""

    ident: bytes
    size: int
    nodes: list[int]


class Kept(Message, tag=203):
    """The answer to Keep: it is there, or not, and ``why``. ``never``: nothing else is taken there, either."""

    ident: bytes
    why: str = ""
    never: bool = False


class PlainAsk(Message, tag=170):
    """Where do you hand out the bytes of objects unencrypted? Of use where the user switched bulk encryption off."""


class PlainOffer(Message, tag=171):
    """At this address, to who shows this token, once and soon; the port answers with ``answer``. Port 0: nowhere."""

    host: str
    port: int
    token: bytes
    answer: bytes


class HeadRestarted(Message, tag=115):
    """Raylet to its processes: another head works now. What was asked of the one before is asked again."""


AnyMessage = Union[
    Register, Registered, LeaseRequest, LeaseGrant, LeaseInfeasible, LeaseReturn, LeaseReclaim, LeaseLost,
    LeaseRefused, Blocked, Unblocked, KillWorker, Exiting, Alloc, Allocated, Seal, Abandon, AskSealed, AllSealed,
    Unpin, Free, Fetch, Fetched, LocationAdded, BorrowAdd, BorrowDrop, BorrowAcked,
    HoldAdd, HoldDrop, HoldAcked, Unroutable, LogLines,
    LogsSeen, FlushLogs, Retire, Cleared, DefineFunction, LeaseBegin, Result, Task, Call, Calls, Skip, CreateActor,
    Done, CallsDone, GivenBack, Release, Cancel, EndActor, CallRefused, GetObject, ObjectValue, ObjectMissing,
    WatchActor, ActorState, KillActor, CopyLost, Pull, Chunk, PullFailed, NodeInfo, NodeRegister, NodeTable,
    NodeDied, Heartbeat, HeartbeatAck, NodeDemand, Tickets, ProcessGone, NameRegister, NameLookup, NameRelease,
    Answer, KvPut, KvGet, KvDelete, KvKeys, ClusterQuery, Shutdown, Yielded, Consumed, HeadLeases, NewActor,
    KeepActor, FreeValues, CancelObject, StateQuery, StateAnswer, PgCreate, PgRemove, PgTable, PgWait,
    BundlePrepare, BundlePrepared, BundleCommit, BundleReturn, BundlesHeld, PgWarning, PgState, PleaseUnpin,
    FetchAll, FetchedAll, PullBusy, LeaseFailed, HeadRestarted, LogQuery, LastRows, PlainAsk, PlainOffer, NodeTime,
    KvWatch, KvUnwatch, Locate, PrepareEnv, ChannelOpen, ChannelData, ChannelTaken, ChannelEnd,
    Leaving, StillWanted, Keep, Kept, Vacate, ToldToEnd,
]  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[AnyMessage])

encode_body = _encoder.encode
decode_body = _decoder.decode
DecodeError = msgspec.DecodeError


def system_error(kind: str, why: str, **more: Any) -> Result:
    """A result that is an error of the runtime's own; ``kind`` names the exception class."""
    return Result(SYSTEM, msgspec.msgpack.encode({"type": kind, "why": why, **more}))


def pack_cause(error: Result) -> bytes:
    """An error as a field of another one (``cause`` of a `system_error`)."""
    return msgspec.msgpack.encode([error.kind, error.data])


def encode_frame(dst: Address, src: Address, messages: list[Message]) -> bytes:
    """One frame with these messages, ready to be written to a stream."""
    body = encode_body(messages)
    return HEADER.pack(len(body), dst[0], dst[1], src[0], src[1]) + body
