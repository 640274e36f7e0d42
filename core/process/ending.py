"""What a process knows of the end of its node, and what it does before: callbacks of the user's, once the node drains.

Callbacks run one after the other on a thread of their own: the process goes on meanwhile, and they may use the session.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable

from msgspec import Struct

from hpc.core.ids import Address
from hpc.core.wire import NodeTime


class DrainNotice(Struct, frozen=True):
    """That the node ends soon. ``reason`` says why, in words."""

    reason: str
    ends_at: float | None  # by time.monotonic() of this machine

    @property
    def left_s(self) -> float | None:
        """Seconds that are left by now; None where that is not known."""
        return None if self.ends_at is None else max(0.0, self.ends_at - time.monotonic())


DrainCallback = Callable[[DrainNotice], object]


class Ending:
    """Kept by a process's connection to its raylet."""

    def __init__(self, known: NodeTime | None) -> None:
        self.ends_at: float | None = None  # by time.monotonic()
        self.why = ""  # the node drains
        self.alone = False  # others go on
        self.calling = 0  # threads that make callbacks
        #: Called first, with the client's lock held: for what the process itself has to save.
        self.on_drain: Callable[[], None] = lambda: None
        self._callbacks: list[DrainCallback] = []
        self._lock = threading.Lock()
        if known is not None:
            self._learn(known)
            self.why = known.why

    @property
    def left_s(self) -> float | None:
        """Seconds that the node has left; None where nothing limits it."""
        return None if self.ends_at is None else max(0.0, self.ends_at - time.monotonic())

    @property
    def notice(self) -> DrainNotice | None:
        """None until the node drains."""
        return DrainNotice(self.why, self.ends_at) if self.why else None

    def on_time(self, src: Address, msg: NodeTime) -> None:
        """The raylet says how long the node lasts (the client's lock is held)."""
        self._learn(msg)
        if not msg.why or self.why:
            return
        with self._lock:
            self.why, self.alone = msg.why, msg.alone
            callbacks, self._callbacks = self._callbacks, []
        self.on_drain()
        if callbacks:
            self._begin(callbacks)

    def call(self, callback: DrainCallback) -> None:
        """Have this called once the node drains: now, if it does already."""
        with self._lock:
            if not self.why:
                self._callbacks.append(callback)
                return
        self._begin([callback])

    def forget(self, callback: DrainCallback) -> None:
        """It is not called any more, unless it has been; ValueError for one that is not waiting."""
        with self._lock:
            self._callbacks.remove(callback)

    def _learn(self, msg: NodeTime) -> None:
        self.ends_at = None if msg.left_s < 0 else time.monotonic() + msg.left_s

    def _begin(self, callbacks: list[DrainCallback]) -> None:
        with self._lock:
            self.calling += 1
        threading.Thread(target=self._run, args=(callbacks,), name="hpc-drain", daemon=True).start()

    def _run(self, callbacks: list[DrainCallback]) -> None:
        for callback in callbacks:
            notice = self.notice
            assert notice is not None
            try:
                callback(notice)
            except Exception:
                traceback.print_exc()  # the others are called all the same
        with self._lock:
            self.calling -= 1
