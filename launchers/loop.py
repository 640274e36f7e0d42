"""The one loop that drives a session: its nodes, signals, sockets and timers, and nodes that are granted late.

Each runner of a session says what to do when something comes (a policy) and leaves the waiting to this loop. The
runners are `hpc-launch`, the host of `hpc start`, the thread behind `hpc.init()` and a run of ranks. So there is one
place that may ask a scheduler while a session runs, and one idea of how long to wait.

One thread waits. Others may touch the session inside `hold()`, which is the lock that the loop takes for its work, but
not while it waits. Nothing here ends a session: that is for policies, by `session.begin_stop`.

Rejected: asyncio: its imports take 100 ms at the start of every `hpc-launch`, and a notebook's loop is busy while a
cell runs. Rejected too: callbacks of the session itself, since a waiter must know when the next timer is.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import selectors
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from hpc.launchers.node_group import NodeGroup
from hpc.launchers.session import Session
from hpc.launchers.signals import Signals

#: A turn waits so long at most: what no descriptor tells of (a process that has ended) is looked at then.
TICK_S = 0.5


class ComingNodes(Protocol):
    """Nodes that were asked for and may come later: a job in a queue."""

    def poll(self) -> NodeGroup | None:
        """The nodes, once they are there. OSError or RuntimeError when they will not come. Never blocks."""

    def cancel(self) -> None:
        """They are not wanted any more."""


class LoopTimer:
    """Something to be done at a time, unless it is cancelled before."""

    __slots__ = ("at_s", "call")

    def __init__(self, at_s: float, call: Callable[[], object]) -> None:
        self.at_s = at_s
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class SessionLoop:
    """Drives one session.

    signals: given where this loop is the one of the main thread; each goes to `on_signal`.
    on_joined: nodes that have come, and their numbers. on_refused: nodes that will not come, and why.
    """

    def __init__(
        self,
        session: Session,
        *,
        signals: Signals | None = None,
        on_signal: Callable[[int], object] | None = None,
        on_joined: Callable[[ComingNodes, list[int]], object] | None = None,
        on_refused: Callable[[ComingNodes, str], object] | None = None,
        tick_s: float = TICK_S,
    ) -> None:
        self.session = session
        self.on_signal = on_signal
        self._each_turn: list[Callable[[], object]] = []
        self.on_joined = on_joined
        self.on_refused = on_refused
        self.tick_s = tick_s
        self.coming: dict[ComingNodes, Mapping[str, Any]] = {}  # that have not come, with the arguments of `add_group`
        self.changed = threading.Condition(threading.RLock())  # notified after each turn
        self._signals = signals
        self._timers: list[tuple[float, int, LoopTimer]] = []
        self._number = itertools.count()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector = selectors.EpollSelector()
        self._session_fd = -1
        self.watch(self._wake, self._woken)
        if signals is not None:
            self.watch(signals.fileno(), lambda: None)
        self._watch_session()

    # -------------------------------------------------------------- what to wait for

    def watch(self, fd: int, came: Callable[[], object]) -> None:
        """Call `came` when a descriptor is readable."""
        self._selector.register(fd, selectors.EVENT_READ, came)

    def unwatch(self, fd: int) -> None:
        """Before it is closed; one that is not watched is no error."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    def each_turn(self, call: Callable[[], object]) -> None:
        """Call something at the end of each turn: what no descriptor tells of is looked at there."""
        self._each_turn.append(call)

    def at(self, at_s: float, call: Callable[[], object]) -> LoopTimer:
        """Call something at a time of time.monotonic()."""
        timer = LoopTimer(at_s, call)
        heapq.heappush(self._timers, (at_s, next(self._number), timer))
        return timer

    # -------------------------------------------------------------- wishes

    def add(self, nodes: ComingNodes, **options: Any) -> None:
        """Nodes join as soon as they are granted; `options` are those of `Session.add_group`."""
        self.coming[nodes] = options
        self.wake()

    def withdraw(self, nodes: ComingNodes) -> None:
        """Nodes that have not come are not wanted any more."""
        if self.coming.pop(nodes, None) is not None:
            nodes.cancel()

    def wake(self) -> None:
        """End the loop's wait, from any thread."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    @contextlib.contextmanager
    def hold(self) -> Iterator[Session]:
        """The session, for this thread alone."""
        with self.changed:
            yield self.session
        self.wake()  # what was queued may have to wait for room in a pipe

    # -------------------------------------------------------------- turning

    def until(self, check: Callable[[], bool], limit_s: float | None = None) -> bool:
        """Turn until `check` holds; it is asked before each turn. False when `limit_s` (time.monotonic()) came first.

        The session may end before: `check` asks for that, too, where nothing else can come then.
        """
        while not check():
            if limit_s is not None and time.monotonic() >= limit_s:
                return False
            self.turn(limit_s)
        return True

    def turn(self, limit_s: float | None = None) -> None:
        """Wait for something, at the latest until a time, and do all that is due."""
        self._watch_session()
        came = self._selector.select(self._wait_s(limit_s))
        with self.changed:
            try:
                self._handle([key for key, _events in came])
            finally:
                self.changed.notify_all()

    def _handle(self, came: list[selectors.SelectorKey]) -> None:
        for signum in self._signals.take() if self._signals is not None else ():
            if self.on_signal is not None:
                self.on_signal(signum)
        self.session.pump()
        self._watch_session()
        self._ask_for_nodes()
        for key in came:
            if self._selector.get_map().get(key.fd) == key:  # an earlier callback may have closed it
                key.data()
        self._call_timers()
        for call in self._each_turn:
            call()

    def _wait_s(self, limit_s: float | None) -> float:
        now = time.monotonic()
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        waits = [self.tick_s, self.session.wait_s(now)]
        waits += [self._timers[0][0] - now] if self._timers else []
        waits += [limit_s - now] if limit_s is not None else []
        return max(0.0, min(waits))

    def _call_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            call = heapq.heappop(self._timers)[2].call
            if call is not None:
                call()

    def _ask_for_nodes(self) -> None:
        if self.session.state in ("stopping", "ended"):
            for nodes in list(self.coming):
                self.withdraw(nodes)
        for nodes, options in list(self.coming.items()):
            try:
                group = nodes.poll()
                if group is not None:
                    del self.coming[nodes]
                    numbers = self.session.add_group(group, **options)
                    if self.on_joined is not None:
                        self.on_joined(nodes, numbers)
            except (OSError, RuntimeError) as error:
                self.coming.pop(nodes, None)
                if self.on_refused is not None:
                    self.on_refused(nodes, str(error))

    def _watch_session(self) -> None:
        """A session's descriptor is closed when it has ended."""
        ended = self.session.state == "ended"
        if self._session_fd < 0 and not ended:
            self._session_fd = self.session.fileno()
            self.watch(self._session_fd, lambda: None)
        elif self._session_fd >= 0 and ended:
            self.unwatch(self._session_fd)
            self._session_fd = -1

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def close(self) -> None:
        """Let go of all that is watched; wishes that have not come are withdrawn. The session is left as it is."""
        for nodes in list(self.coming):
            self.withdraw(nodes)
        wake, self._wake = self._wake, -1
        if wake >= 0:
            self._selector.close()
            os.close(wake)
