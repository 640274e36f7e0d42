"""Finalizers that use the session while the garbage collector has stopped the runtime in the middle of its own work.

The collector runs in any thread, when something is made: also where the thread holds the client's lock. A user's
`__del__` may make a call to an actor then, to have it close what it has. It would wait for its own thread for ever. So
during such a collection another lock stands in the place of the client's. Other threads notice nothing, and to this
thread it says `Collecting`. What needs no answer is done a moment later instead.

Rejected: a lock that its holder can take again, since the machine is between two states. Rejected too: to hold the
collector off whenever the lock is held. Every call would pay for it. A program that switches the collector on and off
itself would find it in a state that it did not leave.
"""

from __future__ import annotations

import contextvars
import gc
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpc.core.owner.ports import Shell

_LIBRARY = sys.stdlib_module_names - {"__main__"}
#: Code that the library writes when a namedtuple is declared says that it is of a module of such a name.
_WRITTEN = "namedtuple_"


class Collecting(RuntimeError):
    """A finalizer wants of the session what cannot be done now."""

    def __init__(self) -> None:
        super().__init__(
            "the garbage collector has called this finalizer (__del__) while the runtime was at work on the same "
            "thread, so no answer can be waited for here: make a call without waiting, or close in a method of its own"
        )


class _Held:
    """In the place of a lock that ``thread`` holds while it collects."""

    __slots__ = ("_lock", "_thread")

    def __init__(self, lock: threading.Lock, thread: int) -> None:
        self._lock = lock
        self._thread = thread

    def __enter__(self) -> bool:
        if threading.get_ident() == self._thread:
            raise Collecting
        return self._lock.__enter__()

    def __exit__(self, *_error: object) -> None:
        self._lock.release()


class Collections:
    """Watches the collections of a process for its client."""

    def __init__(self, client: Shell) -> None:
        self._client = client
        self._lock = client.lock
        gc.callbacks.append(self._watch)

    def close(self) -> None:
        """Watch no more."""
        if self._watch in gc.callbacks:
            gc.callbacks.remove(self._watch)

    def _watch(self, phase: str, _info: dict[str, int]) -> None:
        mine = vars(self._client)
        if phase == "start":
            if self._lock.locked() and _in_runtime(sys._getframe(1)):
                mine["lock"] = _Held(self._lock, threading.get_ident())
        elif type(mine["lock"]) is _Held:
            mine["lock"] = self._lock

    def later(self, what: Callable[[], object]) -> None:
        """Do what a finalizer wanted, on a thread that holds nothing."""
        context = contextvars.copy_context()

        def done() -> None:
            try:
                context.run(what)
            except Exception:  # as in a finalizer: it ends nobody
                traceback.print_exc()

        self._client.callbacks.append(done)
        self._client.sockets.kick()


def _in_runtime(frame: FrameType | None) -> bool:
    """Whether the runtime is at work here, itself or in a function of Python's library that it has called."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if module not in _LIBRARY and not module.startswith(_WRITTEN):
            return module == "hpc"
        frame = frame.f_back
    return False
