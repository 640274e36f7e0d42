"""What the parts of a client need of each other, and of the process around it: the interfaces, without the client.

`Client` has all that is asked for here. References, memory and questions name what they use of it, so that each can be
read, and tried, without the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hpc.core.ids import Address
from hpc.core.owner.tables import CallKind, Needs, Waiter
from hpc.core.wire import Message, ProcessKind, Registered, Result

if TYPE_CHECKING:
    import threading

    from hpc.core.net.stream import Stream
    from hpc.core.owner.machine import OwnerMachine
    from hpc.core.owner.shell.callbacks import Callbacks
    from hpc.core.owner.shell.polling import PollLock
    from hpc.core.owner.shell.sockets import Sockets
    from hpc.core.process.ending import Ending
    from hpc.core.store.arena import Arena

T = TypeVar("T")
#: Ids of objects.
Ids = tuple[bytes, ...]
#: A process's knowledge of one thing, for people.
Row = dict[str, Any]


class Hooks(Protocol):
    """What a process has done beside being an owner. A worker is told of frames and waits; a driver needs none."""

    def on_frame(self) -> None:
        """A frame of messages has been taken. The client's lock is held."""

    def before_wait(self, needs: Needs | None) -> Callable[[], None] | None:
        """User code is about to wait: for ``needs``, if that is known and the wait has no limit. May raise
        DeadlockError; what it returns is called after the wait."""

    def on_background(self) -> None:
        """The background thread has looked after timers."""

    def on_timers(self, now: float) -> None:
        """Timers are looked after, ten times a second where the process does anything. The client's lock is held."""

    @property
    def has_news(self) -> bool:
        """Whether there is something to tell when timers are looked after."""

    def more_state(self, what: str, limit: int) -> list[Row]:
        """Rows that this process has beside those of an owner."""


class NoHooks:
    """The hooks of a process that is an owner only."""

    def on_frame(self) -> None:
        """Nothing to do."""

    def before_wait(self, needs: Needs | None) -> None:
        """Nothing to do."""

    def on_background(self) -> None:
        """Nothing to do."""

    def on_timers(self, now: float) -> None:
        """Nothing to do."""

    @property
    def has_news(self) -> bool:
        """Nothing."""
        return False

    def more_state(self, what: str, limit: int) -> list[Row]:
        """No rows."""
        return []


class Line(Protocol):
    """What those who send, wait and are woken need of the client: memory, fetching, questions, output."""

    addr: Address
    lock: threading.Lock
    lost: str
    machine: OwnerMachine

    def check_lost(self) -> None:
        """SessionLostError if the session is gone."""

    def flush(self) -> None:
        """Send everything that waits to be sent."""

    def step(self, do: Callable[[], T], everything: bool = False) -> T:
        """Have the machine take a step, send what it leaves, and wake the threads that can go on."""

    def send_left(self, everything: bool = False) -> None:
        """Send what the machine left (the lock is held)."""

    def send_now(self, dst: Address, messages: list[Message]) -> None:
        """Send to a process, directly or by the raylet (the lock is held)."""

    def wait_for(
        self, waiter: Waiter, timeout_s: float | None, for_others: bool = False, needs: Needs | None = None
    ) -> bool:
        """Until the waiter needs nothing more; False after the timeout."""

    def warn(self, text: str) -> None:
        """Show a warning of the runtime to the user."""


class Gets(Protocol):
    """Values by reference: what references, generators and arguments need of a client's values."""

    def adopt(self, ident: bytes) -> Any:
        """A reference that has come from elsewhere."""

    def call_when_ready(self, ident: bytes, callback: Callable[[], None]) -> None:
        """Call ``callback`` once the object has a value."""

    def get(self, refs: Sequence[Any], timeout_s: float | None) -> list[Any]:
        """The values of the references, in order."""

    def hold_for_good(self, ident: bytes) -> None:
        """From now on the object lives as long as this process is in the session."""

    def put(self, value: Any) -> Any:
        """A reference to a value that is stored."""

    def result_of(self, ident: bytes) -> Result | None:
        """What an object that this process holds has for a value, if it has one."""

    def wait(
        self, refs: Sequence[Any], num_returns: int, timeout_s: float | None, fetch_local: bool = True
    ) -> tuple[list[Any], list[Any]]:
        """The references with a value, and the rest."""

    def wait_for_entry(self, ident: bytes, timeout_s: float | None) -> bool:
        """Until an object that this process holds has a value; False after the timeout."""


class Holder(Protocol):
    """What references, and handles and generators that have one, need of the client that they came to."""

    #: The ends of references, of any thread, until the machine takes them.
    dropped: deque[bytes]

    @property
    def registered(self) -> Registered:
        """What the raylet has said of this process and its session."""

    @property
    def values(self) -> Gets:
        """The values that this process can get."""

    def call(self, kind: CallKind, actor: Reference, data: bytes, refs: Ids, holds: Ids, parent: bytes) -> bytes:
        """Call a method of an actor. Returns the call's id, an object that is held once."""

    def cancel(self, ident: bytes, force: bool, recursive: bool) -> None:
        """Cancel the task or call that makes this object."""

    def free(self, idents: list[bytes]) -> None:
        """Give up the values of these objects, although they are held."""

    def kill(self, actor: bytes, no_restart: bool) -> None:
        """End an actor."""

    def later(self, what: Callable[[], object]) -> None:
        """Do what a finalizer wants on a thread that holds nothing."""

    def take_item(self, task: bytes, ident: bytes) -> bool:
        """Take the next item of a generator, which is there; False if that is its end."""


class Reference(Protocol):
    """A reference, as far as it matters what it refers to and to which client it came."""

    @property
    def _id(self) -> bytes: ...

    @property
    def _client(self) -> Holder: ...

    def hex(self) -> str:
        """Its id in hexadecimal."""


class ThisProcess(Holder, Protocol):
    """What anything in this process may ask of its client."""

    addr: Address
    arena: Arena
    #: What is known of the end of the node.
    ending: Ending
    kind: ProcessKind
    node_dir: str

    def close(self) -> None:
        """Leave the session."""

    def flush_waiting(self) -> None:
        """Send what waits, if anything does."""

    def look(self) -> None:
        """Read what has come, without waiting."""


class Shell(Line, Protocol):
    """What those need who cut connections, end the session, or do something on another thread."""

    callbacks: Callbacks
    kind: ProcessKind
    polling: PollLock
    sockets: Sockets

    def closed(self, stream: Stream) -> None:
        """The other end of a connection is gone."""

    def lose(self, why: str) -> None:
        """The session is gone (the lock is held)."""

    def wake_done(self) -> None:
        """Outside the lock: wake those who wait for what is there now."""


class Home(Holder, Line, Protocol):
    """What values need: they are waited for, and references to them are made."""

    hooks: Hooks
    polling: PollLock

    def check_closing(self) -> None:
        """SessionLostError if this process leaves the session."""

    def wake_done(self) -> None:
        """Outside the lock: wake those who wait for what is there now."""
