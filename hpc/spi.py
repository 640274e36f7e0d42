"""The public names for libraries that are built on hpc: what a library needs of the runtime beside Ray's names.

A library of this project (train, and those to come) uses `hpc`'s names and these, and nothing below. All of them
connect to a session first where there is none, and raise SessionLostError where it is gone.

* `whoami`: which process this is. `begin_none`: the thread that calls it connects to no session from then on.
* `kv_put`, `kv_get`, `kv_delete`, `kv_keys`: small values that the head keeps; `watch`: wait for their changes.
* `places`: where objects lie, and how large they are.
* `allocate`: fill an object in the node's shared memory without a copy; `view`: read one; `private`: write to what was
  read, without changing the object. `PlacedTable`: a table of pyarrow whose columns are made in the node's shared
  memory.
* `listen`, `connect`: channels, by which two processes send each other messages in order.
* `rooms`: what is free on each node; `why_no_room`: whether a placement group would fit; `may_grow`: whether further
  nodes may join. `awaits_environment`: whether a worker for this process makes its environment first. `memory_use`:
  what memory each node has left.
* `show_devices`: which accelerators libraries of this process see; `tpu_here`: the chips and the slice of this machine.
* `arrivals`: what comes of many references and generators, told one by one to one thread.
* `share_fate`: actors that live and die together; `has_begun`, `has_place`: whether an actor has a process yet.
* `latch`: a reference that gets its value by hand.
* `when_ready`: call a function when an answer is there, in the thread that has read it. `answer_of`: what is known of
  it without loading it. `send_now`: have what waits to be sent go out. `read_now`: have what has come be read.
* `Recorder`, `look_at`, `GroupRow`: what a rank is at, asked inside of its process and from outside.
* `find_hang`, `describe_hang`, `rank_numbers`: for whom ranks wait. `FailedRank`, `failures_in_order`: which of them
  failed first.
* `pickled_error`, `unpickled_error`, `traceback_text`, `said`: exceptions of users on their way; none of
  these fails, whatever the exception's class does.
* `pickles_plainly`: a class whose values are sent by pickle alone.
* `flush_printed`: wait until what workers have printed is shown; `without_marks`: what is in a worker's log file, for
  people.
* `PmiRank`: how the ranks of an MPI program find each other; `interface_of`: the name of a network interface.
* `tell_metrics`: numbers of this process that are brought together with those of all others. `tell_run`: how a run of
  a library stands, for people who look; `bulletins` has the forms of it. `tell_work`: what code belongs to that runs
  in no task.
* `own_directory`: the directory of this machine's node, which only its user can enter.
* `NAME_LOOKUPS`: variables with which a question to a name server ends soon.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from hpc.api.actors import ActorHandle
from hpc.api.connection import begin_none, ensure_client
from hpc.api.objects import get
from hpc.core import serialization
from hpc.core.accelerators.ranks import numbers_of, show_to_rank
from hpc.core.arrow import PlacedTable
from hpc.core.exceptions import ChannelEnded, HpcError
from hpc.core.failures import pickled_error, said, traceback_text, unpickled_error
from hpc.core.ids import Address
from hpc.core.idtypes import ActorID, JobID, NodeID, TaskID, WorkerID
from hpc.core.metrics.sample import COUNTER, GAUGE, HISTOGRAM, Sample
from hpc.core.metrics.tally import sources
from hpc.core.net.pmi import PmiRank
from hpc.core.node.address import interface_with
from hpc.core.node.marks import without as without_marks
from hpc.core.node.rank_recorder import Recorder, look_at
from hpc.core.node.settings import text
from hpc.core.owner.generator import ObjectRefGenerator
from hpc.core.owner.places import PENDING, UNKNOWN
from hpc.core.owner.ref import ObjectRef
from hpc.core.owner.shell import arrivals as arriving
from hpc.core.owner.shell import own_work
from hpc.core.owner.shell.answers import answer_of as answer_of
from hpc.core.owner.shell.answers import read_now as read_now
from hpc.core.owner.shell.answers import send_now as send_now
from hpc.core.owner.shell.answers import when_ready as when_ready
from hpc.core.owner.shell.buffers import Buffer
from hpc.core.owner.shell.fates import SharedFate
from hpc.core.owner.shell.latch import Latch
from hpc.core.owner.shell.locating import locate
from hpc.core.owner.shell.messaging import MAX_MESSAGE_BYTES, Mailbox
from hpc.core.owner.shell.messaging import MessageChannel as Channel
from hpc.core.owner.shell.messaging import connect as _connect
from hpc.core.owner.shell.watching import KeyWatch
from hpc.core.policy.fabric import NAME_LOOKUPS
from hpc.core.policy.first_failure import FailedRank
from hpc.core.policy.first_failure import in_order as failures_in_order
from hpc.core.policy.hangs import MOST_STACKS, GroupRow, Hang, Sighting, find_hang
from hpc.core.policy.hangs import numbers as rank_numbers
from hpc.core.policy.hangs import report as describe_hang
from hpc.core.process.context import current_task, process
from hpc.core.process.current import current
from hpc.core.wire import INLINE, MAX_VALUES_BYTES, STORED, Answer, KvDelete, KvGet, KvKeys, KvPut
from hpc.state import bulletins
from hpc.state.bulletins import Brief, ToldRun
from hpc.state.memory_use import MemoryUse, memory_use
from hpc.state.overview import own_directory
from hpc.state.room import NodeRoom, awaits_environment, idle, may_grow, rooms, why_no_room

if TYPE_CHECKING:
    import numpy as np

#: The largest value of a key. What is larger is an object (`hpc.put`), and the key has what leads to it.
MAX_VALUE_BYTES = MAX_VALUES_BYTES
#: What the head keeps for libraries stands in namespaces that begin so, apart from its own.
_SPACE = "spi:"
#: How long owners of objects may take to say where those lie.
PLACES_TIMEOUT_S = 10.0


# ---------------------------------------------------------------- identity


class Identity(NamedTuple):
    """Which process this is. ``process`` is its address, unique in the session and never used again: node number and
    number on the node. ``actor`` and ``task`` are None outside of actors and tasks; a method's call is a task."""

    session: str
    kind: Literal["driver", "worker"]
    process: Address
    node: NodeID
    worker: WorkerID
    job: JobID
    actor: ActorID | None
    task: TaskID | None


def whoami() -> Identity:
    """The identity of this process, and the task that runs in this thread."""
    client = ensure_client()
    context = current_task.get()
    session = client.registered.session
    return Identity(
        session,
        "driver" if client.kind == "driver" else "worker",
        client.addr,
        NodeID.from_hex(str(client.addr.node)),
        WorkerID.from_hex(str(client.addr)),
        JobID.from_hex(session),
        ActorID(process.actor) if process.actor else None,
        TaskID(context.task) if context is not None else None,
    )


# ---------------------------------------------------------------- keys and their changes


def kv_put(namespace: str, key: str, value: bytes, *, overwrite: bool = True) -> int:
    """Set a key. Returns its version: a number that each change of any key raises. 0 where ``overwrite`` is False and
    the key has a value, which stays then. All keys outlive a restart of the head, and end with the session.

    Raises ValueError for a value of more than `MAX_VALUE_BYTES` (8 MiB), and TypeError for what is no bytes. Raises
    HpcError when the head has no room for it (256 MiB for all)."""
    data, space = bytes(memoryview(value)), _space(namespace)
    if len(data) > MAX_VALUE_BYTES:
        raise ValueError(
            f"the value of key {key!r} has {len(data)} bytes, more than {MAX_VALUE_BYTES}: put it into the object store"
        )
    return int(_ask(lambda req: KvPut(req, space, key.encode(), data, overwrite)).data)


def kv_get(namespace: str, key: str) -> bytes | None:
    """The value of a key; None if there is none."""
    space = _space(namespace)
    answer = ensure_client().conversation.ask_head(lambda req: KvGet(req, space, key.encode()))
    return answer.data if answer.ok else None


def kv_delete(namespace: str, key: str, *, prefix: bool = False) -> int:
    """Delete a key, or with ``prefix`` all that begin with it. Returns how many there were."""
    space = _space(namespace)
    return int(_ask(lambda req: KvDelete(req, space, key.encode(), prefix)).data)


def kv_keys(namespace: str, prefix: str = "") -> list[str]:
    """The keys that begin with ``prefix``, sorted."""
    space = _space(namespace)
    found: list[bytes] = msgspec.msgpack.decode(_ask(lambda req: KvKeys(req, space, prefix.encode())).data)
    return sorted(key.decode() for key in found)


class Change(NamedTuple):
    """A key that has changed: its value now, or None if it is deleted, and the version of that."""

    key: str
    value: bytes | None
    version: int


class Watch:
    """The changes of keys, without polling: the head answers when there is one, and heads may die meanwhile.

    A watch tells the state, not the history: of a key that was set five times since one looked, the last value. The
    first time it tells all keys that there are; where there are none it waits for one. One thread, or one coroutine,
    waits at a time::

        with spi.watch("serve", "config/", prefix=True) as watch:
            for changes in watch:
                ...

    ``async for`` waits without holding the event loop.
    """

    def __init__(self, namespace: str, key: str, prefix: bool) -> None:
        client = ensure_client()
        self._keys = KeyWatch(client, client.conversation, _space(namespace), key.encode(), prefix)

    def next(self, timeout_s: float | None = None) -> list[Change]:
        """What has changed since the last time, the oldest change first. [] if nothing does within ``timeout_s``
        seconds.

        Raises SessionLostError if the session is gone, ValueError if the watch is closed."""
        return [Change(key.decode(), value, version) for key, value, version in self._keys.next(timeout_s)]

    def when_changed(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when `take` has something: from a thread of the runtime, or at once. It must not
        wait."""
        self._keys.waiter(callback)

    def take(self) -> list[Change]:
        """What has come since the last time, without waiting. Raises what `next` raises."""
        return [Change(key.decode(), value, version) for key, value, version in self._keys.take()]

    async def next_async(self) -> list[Change]:
        """The same for coroutines, without a limit: see `asyncio.wait_for`. A wait that is cancelled loses nothing."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        while True:
            changed.clear()
            self._keys.waiter(lambda: _call_soon(loop, changed.set))
            await changed.wait()
            found = self._keys.take()
            if found:
                return [Change(key.decode(), value, version) for key, value, version in found]

    def close(self) -> None:
        """Watch no more. Closing again changes nothing."""
        self._keys.close()

    def __iter__(self) -> Iterator[list[Change]]:
        while True:
            yield self.next()

    async def __aiter__(self) -> AsyncIterator[list[Change]]:
        while True:
            yield await self.next_async()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def watch(namespace: str, key: str = "", *, prefix: bool = False) -> Watch:
    """Watch a key, or with ``prefix`` all that begin with it (all of the namespace with the empty one)."""
    return Watch(namespace, key, prefix)


def _call_soon(loop: asyncio.AbstractEventLoop, call: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)


def _space(namespace: str) -> str:
    if not isinstance(namespace, str) or not namespace:
        raise ValueError(f"the namespace must be a name, not {namespace!r}")
    return _SPACE + namespace


def _ask(build: Any) -> Answer:
    answer = ensure_client().conversation.ask_head(build)
    if not answer.ok:
        raise HpcError(answer.why)
    return answer


# ---------------------------------------------------------------- objects


class Place(NamedTuple):
    """Where an object is. ``state`` is "pending" (no value yet), "inline" (small: with its owner, and wherever it is
    used) or "stored" (in memory, or on disk, of ``nodes``). Or it is "failed" (its value is an error) or "unknown" (its
    owner has ended, or did not answer). ``size_bytes``: of the value as it lies or travels; 0 where there is none."""

    state: Literal["pending", "inline", "stored", "failed", "unknown"]
    size_bytes: int
    nodes: tuple[NodeID, ...]


def places(refs: Sequence[ObjectRef[Any]], timeout_s: float = PLACES_TIMEOUT_S) -> list[Place]:
    """Where these objects lie now, in their order. Objects of this process (what it has put, and what its tasks return)
    cost no message. Each other owner is asked once for all of its own. A hint: a copy may be made or lost at any time.

    Raises TypeError for what is no reference."""
    for ref in refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(f"places takes references, not {type(ref).__name__}")
    client = ensure_client()
    return [_place(*row) for row in locate(client, client.conversation, refs, timeout_s)]


def _place(kind: int, size: int, nodes: tuple[int, ...]) -> Place:
    if kind == STORED:
        return Place("stored", size, tuple(NodeID.from_hex(str(node)) for node in nodes))
    if kind == INLINE:
        return Place("inline", size, ())
    return Place("pending" if kind == PENDING else "unknown" if kind == UNKNOWN else "failed", 0, ())


def allocate(nbytes: int) -> Buffer:
    """Space for an object of so many bytes in this node's memory. It is filled through ``view`` and made an object by
    ``seal``, so that what is computed into its place is never copied. `hpc.get` of the object gives a read-only numpy
    array of bytes on whichever node, `view` a memoryview.

    Raises ObjectStoreFullError if there is no room and none becomes free, ValueError for a negative size."""
    if isinstance(nbytes, bool) or not isinstance(nbytes, int):
        raise TypeError(f"a buffer has a number of bytes, not {type(nbytes).__name__}")
    if nbytes < 0:
        raise ValueError(f"a buffer cannot have {nbytes} bytes")
    client = ensure_client()
    return Buffer(client, nbytes)


def view(ref: ObjectRef[Any], timeout_s: float | None = None) -> memoryview:
    """The bytes of an object that was a buffer: a read-only view of this node's memory, to which they are brought
    first. It keeps the object in place as long as it lives.

    Raises GetTimeoutError if they are not here within ``timeout_s`` seconds, TypeError for another kind of object, and
    what `hpc.get` raises."""
    import numpy as np

    value = get(ref, timeout=timeout_s)
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or value.ndim != 1:
        raise TypeError(f"the object is no buffer, but {type(value).__name__}")
    return memoryview(value)  # type: ignore[arg-type]


def private(array: np.ndarray) -> np.ndarray | None:
    """An array that lies in this node's memory, as one that may be written to. The pages are the same, and each is
    copied for this process when it is first written. None where it lies elsewhere, is not contiguous, or there is no
    session: it is to be copied then. What keeps the object in place keeps it as long as the new array lives."""
    client = current.client
    if client is None or not array.nbytes or not array.flags.c_contiguous:
        return None
    own = client.arena.private(array.reshape(-1).view("u1"), all_at_once=True)
    return None if own is None else own.view(array.dtype).reshape(array.shape)


# ---------------------------------------------------------------- channels


def listen(name: str) -> Mailbox:
    """Listen for channels that other processes open to this one under a name: see `Mailbox.accept`. Processes are told
    by their address (`whoami`), which travels as an argument or by a key.

    Raises ValueError if this process listens under the name already."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"the name of a mailbox must be a text, not {name!r}")
    return Mailbox(ensure_client(), name)


def connect(process: Address, name: str, timeout_s: float | None = 60.0) -> Channel:
    """Open a channel to a process that listens under this name, or will. Returns when that has accepted it.

    Raises GetTimeoutError if it does not within ``timeout_s`` seconds, and ChannelEnded if it refuses, has ended or
    ends meanwhile. Raises ValueError for what is no address of a process."""
    try:
        peer = Address(*process)
        is_process = peer.node > 0 and peer.proc > 0
    except TypeError:
        is_process = False
    if not is_process:
        raise ValueError(f"a channel goes to a process, by its address (`whoami().process`), not to {process!r}")
    return _connect(ensure_client(), peer, name, timeout_s)


# ---------------------------------------------------------------- actors that belong together


def share_fate(actors: Sequence[ActorHandle], names: Sequence[str]) -> SharedFate:
    """Tie actors of this process together: the first that ends, however it does, takes the others along. Their
    unfinished and later calls raise GangError, which says by its name (of ``names``, in their order) which was the
    first, where, and why. One that nobody has a handle to any more ends alone.

    Raises ValueError for actors that another process made, or that have ended and are forgotten, and unless each has a
    name. TypeError for what is no actor."""
    for actor in actors:
        if not isinstance(actor, ActorHandle):
            raise TypeError(f"share_fate takes handles of actors, not {type(actor).__name__}")
    if not actors or len(names) != len(actors):
        raise ValueError(f"share_fate needs a name for each actor: there are {len(actors)} and {len(names)} names")
    return SharedFate(ensure_client(), [actor._hpc_ref for actor in actors], names)


def has_place(what: ActorHandle | ObjectRefGenerator) -> bool:
    """Whether an actor or a streaming task that this process has made has a worker. Before an actor has begun, its
    constructor runs there; a task runs there soon, or has run.

    Raises TypeError for what is neither."""
    if isinstance(what, ObjectRefGenerator):
        return ensure_client().task_has_place(what._task)
    if not isinstance(what, ActorHandle):
        raise TypeError(f"has_place takes an actor's handle or a task's generator, not {type(what).__name__}")
    return ensure_client().has_place(what._hpc_ref._id)


def has_begun(actor: ActorHandle) -> bool:
    """Whether an actor had a process that had run ``__init__``, as far as this process knows. Before that, none of its
    calls was sent there: killing the actor breaks nothing off.

    Raises TypeError for what is no actor."""
    if not isinstance(actor, ActorHandle):
        raise TypeError(f"has_begun takes the handle of an actor, not {type(actor).__name__}")
    return ensure_client().has_begun(actor._hpc_ref._id)


def latch() -> Latch:
    """A new `Latch`: its ``ref`` has a value (None) once its ``open`` is called."""
    return Latch(ensure_client())


Arrivals = arriving.ArrivalKeys


def arrivals() -> Arrivals:
    """A new `Arrivals`: one thread waits for any number of references and generators, which come and go. It pays for
    those alone that have something new."""
    return Arrivals(ensure_client())


def pickles_plainly(cls: type) -> type:
    """A decorator: values of exactly this class hold no references and no large buffers, and pickle alone can do them.
    As values of tasks, and items of generators, they cost half then."""
    serialization.register_plain(cls)
    return cls


def flush_printed() -> None:
    """Wait until what the workers of this driver have printed is on its terminal: seconds at most."""
    ensure_client().printed.flush()


#: (name, kind, (tag, value) pairs, boundaries, numbers) of a metric that has changed.
MetricChange = tuple[
    str, Literal["counter", "gauge", "histogram"], Sequence[tuple[str, str]], Sequence[float], Sequence[float]
]


def tell_metrics(changes: Callable[[], Sequence[MetricChange]]) -> None:
    """Have ``changes`` asked every few seconds what has changed since it was asked last, in this process and under its
    lock: it must be quick. The numbers are what a counter has grown by, or the value of a gauge. Of a histogram they
    are the new values up to each boundary and above the last, then their sum. They come to the head, where
    `hpc metrics` and the dashboard find them. ``changes`` must not call anything of the runtime."""

    def samples() -> list[Sample]:
        return [_sample(*change) for change in changes()]

    sources.append(samples)


def tell_work(running: Callable[[], tuple[str, str] | None]) -> None:
    """Have `get_runtime_context` know of a library's own work in this process, which is no task or call. ``running``:
    what the code that asks belongs to, by a text that is unique in this process, and the name of it; None for none."""
    own_work.tell(ensure_client, running)


def tell_run(
    brief: Callable[[], Brief],
    detail: Callable[[], bulletins.Detail],
    rows: Mapping[str, bulletins.RowsOf] | None = None,
) -> ToldRun:
    """Have others know how a run of a library stands: `hpc list runs`, the dashboard's pages and the job's report. The
    functions are asked every two seconds, and in detail every half minute, until the `end` of what is returned. One
    small message at most follows where something has changed. See `hpc.state.bulletins.ToldRun`."""
    return ToldRun(ensure_client(), brief, detail, rows)


def _sample(name: str, kind: str, tags: Any, bounds: Sequence[float], numbers: Sequence[float]) -> Sample:
    """Of plain types, for others cannot be sent: a number of NumPy's would end the session of its process."""
    name, labels = _plain(name), tuple(_plain(word) for tag in tags for word in tag)
    total = float(numbers[-1])
    if kind == "counter":
        return Sample(name, COUNTER, labels, total)
    if kind == "gauge":
        return Sample(name, GAUGE, labels, total, 1, total, total)
    bins = [int(number) for number in numbers[:-1]]
    return Sample(name, HISTOGRAM, labels, total, sum(bins), bins=bins, bounds=tuple(map(float, bounds)))


def _plain(word: str) -> str:
    """The same as a str and no subclass of it, with a question mark for each character that UTF-8 does not have."""
    return word.encode("utf-8", "replace").decode()


def show_devices(resource: str, ids: Sequence[str]) -> tuple[int, ...]:
    """Make these accelerators of the node visible to the libraries of this process, in this order, and no others of
    their resource. This is for ranks that see the devices of their neighbours. Ids are as in `get_accelerator_ids`.
    Returns the numbers by which libraries know the process's own ones then.

    Libraries look once: call it before any of them does. An instance of a divided GPU (MIG) is visible alone, because
    CUDA takes no more than one. A variable that the user forbids or has set stays as it is, and the numbers are those
    of what it has. Raises ValueError if its own are not among them."""
    own = process.instances.get(resource, [])
    return numbers_of(own, show_to_rank(resource, ids, own, process.devices, os.environ, kept=process.env))


class TpuHere(NamedTuple):
    """What this machine is in a slice of TPUs. chips: that it has; name, pod_type ("v4-16") and topology are empty, and
    worker_id is None, where nobody says them."""

    chips: int
    name: str
    worker_id: int | None
    pod_type: str
    topology: str


def tpu_here() -> TpuHere:
    """The TPU chips of this machine, and their slice by the variables of GKE or Compute Engine's metadata server."""
    from hpc.core.accelerators import tpu
    from hpc.core.accelerators.face import Probe

    probe = Probe(os.environ, text("probe_root", {}, os.environ))
    there = tpu.chips(probe)
    part = tpu.find_slice(probe, ask=bool(there))
    return TpuHere(len(there), part.name, part.worker_id, part.pod_type, part.topology)


def interface_of(address: str) -> str | None:
    """The name of this machine's network interface that has the IPv4 address, as other libraries want to know it. None
    if none has it."""
    return interface_with(address) or None


__all__ = [
    "MAX_MESSAGE_BYTES",
    "MAX_VALUE_BYTES",
    "NAME_LOOKUPS",
    "MOST_STACKS",
    "Address",
    "Arrivals",
    "Buffer",
    "Change",
    "Channel",
    "ChannelEnded",
    "FailedRank",
    "GroupRow",
    "Hang",
    "Identity",
    "Latch",
    "Mailbox",
    "MemoryUse",
    "NodeRoom",
    "Place",
    "PlacedTable",
    "PmiRank",
    "Recorder",
    "SharedFate",
    "Sighting",
    "ToldRun",
    "TpuHere",
    "Watch",
    "allocate",
    "arrivals",
    "awaits_environment",
    "begin_none",
    "bulletins",
    "connect",
    "describe_hang",
    "failures_in_order",
    "find_hang",
    "flush_printed",
    "idle",
    "interface_of",
    "kv_delete",
    "kv_get",
    "kv_keys",
    "kv_put",
    "latch",
    "listen",
    "look_at",
    "may_grow",
    "memory_use",
    "own_directory",
    "pickled_error",
    "pickles_plainly",
    "places",
    "rank_numbers",
    "rooms",
    "said",
    "share_fate",
    "show_devices",
    "tell_run",
    "tell_work",
    "tpu_here",
    "traceback_text",
    "unpickled_error",
    "view",
    "watch",
    "whoami",
    "why_no_room",
    "without_marks",
]
