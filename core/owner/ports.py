"""What the files below a client need of it, as types. A `Client` is all of these; none of them imports it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from hpc.core.ids import Address
from hpc.core.wire import Message, Registered

if TYPE_CHECKING:
    import threading

    from hpc.core.net.stream import Stream
    from hpc.core.owner.callbacks import Callbacks
    from hpc.core.owner.machine import OwnerMachine
    from hpc.core.owner.polling import PollLock
    from hpc.core.owner.tables import Needs, Waiter
    from hpc.core.store.arena import Arena


class Holder(Protocol):
    """What a reference needs of the process that holds it."""

    @property
    def registered(self) -> Registered: ...

    @property
    def machine(self) -> OwnerMachine: ...

    def get(self, refs: Sequence[Any], timeout_s: float | None) -> list[Any]: ...

    def call_when_ready(self, ident: bytes, callback: Callable[[], None]) -> None: ...

    def hold_for_good(self, ident: bytes) -> None: ...

    def adopt(self, ident: bytes) -> Any: ...


class Reference(Protocol):
    """A reference, as far as it matters who holds it."""

    @property
    def _client(self) -> Holder: ...

    def hex(self) -> str: ...


class Process(Holder, Protocol):
    """What anything in this process may ask of its client."""

    @property
    def addr(self) -> Address: ...

    @property
    def arena(self) -> Arena: ...

    @property
    def kind(self) -> str: ...

    @property
    def node_dir(self) -> str: ...

    def close(self) -> None: ...


class Waits(Protocol):
    """What is needed to wait for entries of the machine."""

    @property
    def lock(self) -> threading.Lock: ...

    @property
    def machine(self) -> OwnerMachine: ...

    def check_lost(self) -> None: ...

    def wait_for(
        self, waiter: Waiter, timeout_s: float | None, for_others: bool = False, needs: Needs | None = None
    ) -> bool: ...

    def _flush(self, everything: bool = False) -> None: ...


class Collected(Protocol):
    """What is needed to let finalizers use the session: the client's attribute ``lock`` is changed meanwhile."""

    @property
    def lock(self) -> threading.Lock: ...

    @property
    def callbacks(self) -> Callbacks: ...

    def _kick(self) -> None: ...


class Line(Waits, Protocol):
    """What is needed to ask and to tell others, and to end all that: the connection to the session."""

    lost: str

    @property
    def addr(self) -> Address: ...

    @property
    def kind(self) -> str: ...

    @property
    def polling(self) -> PollLock: ...

    @property
    def raylet(self) -> Stream: ...

    #: Questions that have no answer yet, by their number, and the last number.
    replies: dict[int, list[Any]]
    _reqs: int

    def send_now(self, dst: Address, messages: list[Message]) -> None: ...

    def request(self, build: Callable[[int], tuple[Address, Message]], timeout_s: float | None = None) -> Any: ...

    def flush(self) -> None: ...

    def lose(self, why: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def _after(self) -> None: ...

    def _closed(self, stream: Stream) -> None: ...

    def _reply(self, req: int, msg: Message) -> None: ...
