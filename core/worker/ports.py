"""What the files below a worker need of it, as types: none of them imports the worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from hpc.core.ids import Address
from hpc.core.process.context import TaskContext
from hpc.core.wire import Call, Done, Result

if TYPE_CHECKING:
    from hpc.core.metrics.tally import Tally
    from hpc.core.owner.shell.client import Client
    from hpc.core.worker.executor import Executor
    from hpc.core.worker.interrupt import Interrupter
    from hpc.core.worker.loop import Loop
    from hpc.core.worker.packing import Packing
    from hpc.core.worker.record import Record
    from hpc.core.worker.title import Title


class Leaves(Protocol):
    """What is needed to end the process in order."""

    @property
    def client(self) -> Client: ...

    @property
    def record(self) -> Record: ...

    #: None: nothing is counted.
    @property
    def tally(self) -> Tally | None: ...

    @property
    def actor(self) -> object: ...


class Packs(Protocol):
    """What is needed to make results of values."""

    @property
    def client(self) -> Client: ...

    @property
    def interrupter(self) -> Interrupter: ...

    @property
    def packing(self) -> Packing: ...

    def failure(self, name: str, error: BaseException) -> list[Result]: ...


class Works(Packs, Leaves, Protocol):
    """What is needed to run the user's code, and to answer for it."""

    #: Called when something was read for the main thread, where that does not wait in `next_item`.
    wake: Callable[[], None]

    @property
    def loop(self) -> Loop: ...

    @property
    def executor(self) -> Executor: ...

    @property
    def running(self) -> dict[bytes, TaskContext]: ...

    @property
    def title(self) -> Title: ...

    @property
    def where(self) -> str: ...

    @property
    def main_thread(self) -> int: ...

    def next_item(self) -> tuple[Address, Any]: ...

    def reply(self, src: Address, done: Done, met: list[bytes], later: bool = False, once: bool = False) -> None: ...

    def write_as(self, name: str) -> None: ...

    def exit(self, why: str) -> NoReturn: ...

    def on_frame(self) -> None: ...


class HostsCalls(Protocol):
    """What is needed to make the calls of an actor."""

    @property
    def worker(self) -> Works: ...

    @property
    def exiting(self) -> bool: ...

    @property
    def methods(self) -> dict[str, Any]: ...

    def method(self, name: str) -> Any: ...

    def full_name(self, method: str) -> str: ...

    def returned(self, src: Address, msg: Call, context: TaskContext, value: Any) -> Done: ...

    def raised(self, msg: Call, context: TaskContext, error: BaseException) -> Done: ...

    def over(self, src: Address, done: Done, name: str, start: float, met: list[bytes]) -> None: ...
