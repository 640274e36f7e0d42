"""Work: a submitter and a worker, for tasks and calls of actors."""

from __future__ import annotations

from typing import Any

from hpc.core.ids import Address
from hpc.core.wire.base import Message
from hpc.core.wire.values import Result

#: The tags of the messages of this file.
TAGS = range(32, 64)
# In place of a number of return values: a generator's items are told one by one, or are the value of one reference.
STREAMING, DYNAMIC = -1, -2
#: Ids that a generator's task reserves: its own and those of its items.
STREAM_IDS = 1 << 32


class DefineFunction(Message, tag=32):
    """A pickled function or class, by the hash of its bytes; sent once to each worker before its first use."""

    fn: bytes
    blob: bytes


class LeaseBegin(Message, tag=33):
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


class Task(Message, tag=34):
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


class Call(Message, tag=35):
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


class Calls(Message, tag=36):
    """A run of calls: one method of one actor, called again and again, in order, each once only; ids and numbers go up
    by one. ``args`` are the arguments of each, which refer to nothing; each returns one value."""

    task: bytes
    actor: bytes
    incarnation: int
    seq: int
    method: str
    args: list[bytes]
    retry_exceptions: bool = False


class CallsDone(Message, tag=37):
    """Calls of the run that begins with ``task`` are finished, from number ``at`` of it on. Each has its value, small,
    or the error that it raised. What ends otherwise has a Done of its own."""

    task: bytes
    at: int
    results: list[Result]


class Skip(Message, tag=38):
    """The call with this sequence number will never come (its argument failed, it was cancelled)."""

    actor: bytes
    incarnation: int
    seq: int
    group: str = ""


class CreateActor(Message, tag=39):
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


class Done(Message, tag=40):
    """A task or call is finished; its code ran for ``run_us``. One that failed has one result for all return values."""

    task: bytes
    attempt: int
    results: list[Result]
    run_us: int = 0
    retryable: bool = False
    exiting: bool = False


class GivenBack(Message, tag=41):
    """Tasks that the worker had queued but not started; the submitter sends them elsewhere."""

    lease: int
    tasks: list[bytes]


class Release(Message, tag=42):
    """The receiver of a result with references inside has registered them: the sender's pins can go."""

    task: bytes
    attempt: int


class Cancel(Message, tag=43):
    """Cancel one attempt of a task or call."""

    task: bytes
    attempt: int
    force: bool = False
    recursive: bool = True


class CancelObject(Message, tag=44):
    """To an object's owner: cancel what makes it. The answer (where ``req`` is not 0) says why it cannot be."""

    req: int
    ident: bytes
    force: bool = False
    recursive: bool = True


class EndActor(Message, tag=45):
    """Finish the calls received so far, then end (the last handle is gone)."""

    actor: bytes
    incarnation: int
    why: str = "all handles are out of scope"


class Yielded(Message, tag=46):
    """Item number ``index`` of a task or call that is a generator."""

    task: bytes
    attempt: int
    index: int
    result: Result


class Consumed(Message, tag=47):
    """``count`` items of a generator have been taken: it may go on."""

    task: bytes
    attempt: int
    count: int


class CallRefused(Message, tag=48):
    """A call for an incarnation of an actor that this worker does not host."""

    task: bytes
    attempt: int
    why: str
