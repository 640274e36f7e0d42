"""The event loop of the head's and the raylet's shells: epoll, timers, and ZeroMQ beside plain descriptors.

Why not asyncio: a task per message costs more than the message here. Its loop also hides the end of a turn, where
output is batched. Why not zmq.Poller: it rebuilds its set on each call and is O(sockets).

One thread only. Nothing wakes the loop from another thread or from a signal handler: give it a descriptor
(socketpair, signalfd, signal.set_wakeup_fd) if that is needed.

A turn is: wait, descriptors, timers, call_soon, ZeroMQ sockets, end-of-turn hooks, deferred callbacks. An
exception in a callback is logged with its traceback and counted; the loop goes on. KeyboardInterrupt and
SystemExit pass.

ZMQ_FD is edge-triggered: it announces that EVENTS may have changed, and looking at EVENTS (or sending, or receiving)
swallows the announcement. So a ZeroMQ socket is looked at until EVENTS says that nothing is left. That is done after it
was added, after each wake-up of its descriptor, and after each send (`touch`).
"""

from __future__ import annotations

import heapq
import logging
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq

log = logging.getLogger(__name__)

Callback = Callable[[], object]

MAX_EVENTS_PER_WAIT = 256
MAX_ZMQ_CALLS_PER_TURN = 64  # calls of one socket's callback before the others get their turn
MAX_WAIT_S = 3600.0
MAX_DEFER_ROUNDS = 16
MAX_LOGGED_ERRORS = 20  # tracebacks per ERROR_WINDOW_S; the others are only counted
ERROR_WINDOW_S = 10.0

_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_POLLOUT = int(zmq.POLLOUT)
_READ_MASK = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR | select.EPOLLPRI | select.EPOLLRDHUP
_WRITE_MASK = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR


class Timer:
    """A callback at a time of `Reactor.now()`. `cancel()` may be called at any moment."""

    __slots__ = ("_callback", "_reactor", "when")

    def __init__(self, when: float, callback: Callback, reactor: Reactor) -> None:
        self.when = when
        self._callback: Callback | None = callback
        self._reactor = reactor

    @property
    def active(self) -> bool:
        return self._callback is not None

    def cancel(self) -> None:
        if self._callback is not None:
            self._callback = None
            self._reactor._timer_cancelled()


class _Entry:
    """A plain descriptor. `turn` is when it was added: events collected before that are not its own."""

    __slots__ = ("mask", "reader", "turn", "writer")

    def __init__(self, turn: int) -> None:
        self.reader: Callback | None = None
        self.writer: Callback | None = None
        self.mask = 0
        self.turn = turn


class _ZmqSource:
    __slots__ = ("callback", "fd", "get", "on_writable", "queued", "removed", "socket", "writable")

    def __init__(
        self,
        socket: zmq.Socket[Any],
        callback: Callback,
        on_writable: Callable[[bool], object] | None,
    ) -> None:
        self.socket = socket
        self.get: Callable[[int], Any] = socket.get
        self.fd = int(socket.get(zmq.FD))
        self.callback = callback
        self.on_writable = on_writable
        self.writable = False
        self.queued = False
        self.removed = False


class Reactor:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._entries: dict[int, _Entry] = {}
        self._zmq: dict[int, _ZmqSource] = {}  # by id(socket)
        self._zmq_ready: list[_ZmqSource] = []
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_count = 0
        self._timers_cancelled = 0
        self._soon: deque[Callback] = deque()
        self._hooks: dict[Callback, None] = {}
        self._deferred: list[Callback] = []
        self._turn_number = 0
        self._stopped = False
        self._window_start = 0.0
        self._window_errors = 0
        self.errors = 0  # exceptions that callbacks let out, since the start

    # -------------------------------------------------------------- plain descriptors

    def add_reader(self, fd: int, callback: Callback) -> None:
        """Call `callback` while fd is readable, hung up or in error (level-triggered).

        Replaces an earlier reader. Regular files and /dev/null cannot be waited for: PermissionError.
        """
        self.set_reader(fd, callback)

    def set_reader(self, fd: int, callback: Callback | None) -> None:
        """As add_reader; None stops reading (back-pressure) and keeps the writer."""
        entry = self._entries.get(fd) or _Entry(self._turn_number)
        old = entry.reader
        entry.reader = callback
        try:
            self._update(fd, entry)
        except OSError:
            entry.reader = old
            raise

    def set_writer(self, fd: int, callback: Callback | None) -> None:
        """Call `callback` while fd is writable; None ends that."""
        entry = self._entries.get(fd) or _Entry(self._turn_number)
        old = entry.writer
        entry.writer = callback
        try:
            self._update(fd, entry)
        except OSError:
            entry.writer = old
            raise

    def remove(self, fd: int) -> None:
        """Forget fd, reader and writer. Call it BEFORE closing fd. Unknown descriptors are ignored."""
        entry = self._entries.pop(fd, None)
        if entry is not None and entry.mask:
            entry.reader = entry.writer = None
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass  # closed already: the kernel has forgotten it

    def _update(self, fd: int, entry: _Entry) -> None:
        mask = (select.EPOLLIN if entry.reader else 0) | (select.EPOLLOUT if entry.writer else 0)
        if mask == entry.mask:
            return
        if not mask:
            self.remove(fd)
            return
        if not entry.mask:
            self._epoll.register(fd, mask)
            self._entries[fd] = entry
        else:
            self._epoll.modify(fd, mask)
        entry.mask = mask

    # -------------------------------------------------------------- ZeroMQ sockets

    def add_zmq(
        self,
        socket: zmq.Socket[Any],
        callback: Callback,
        on_writable: Callable[[bool], object] | None = None,
    ) -> None:
        """Call `callback` while the socket's EVENTS say readable; it should receive a few messages, NOBLOCK.

        `on_writable(up)` is called when POLLOUT appears or disappears. On a DEALER with IMMEDIATE=1 and no high-water
        mark that means that a connection was made, or lost.
        """
        source = _ZmqSource(socket, callback, on_writable)
        self._zmq[id(socket)] = source
        self.set_reader(source.fd, lambda: self._queue(source))
        self._queue(source)

    def remove_zmq(self, socket: zmq.Socket[Any]) -> None:
        """Call it BEFORE closing the socket. Unknown sockets are ignored."""
        source = self._zmq.pop(id(socket), None)
        if source is not None:
            source.removed = True
            self.remove(source.fd)

    def touch(self, socket: zmq.Socket[Any]) -> None:
        """Say that something was sent on the socket: its EVENTS are looked at before the loop next waits."""
        source = self._zmq.get(id(socket))
        if source is not None and not source.queued:
            source.queued = True
            self._zmq_ready.append(source)

    def _queue(self, source: _ZmqSource) -> None:
        if not source.queued:
            source.queued = True
            self._zmq_ready.append(source)

    def _look(self, source: _ZmqSource) -> bool:
        """Whether the socket is readable now; reports a change of writability."""
        if source.removed:
            return False
        try:
            events = source.get(_EVENTS)
        except zmq.ZMQError:
            log.warning("a ZeroMQ socket was closed before it was removed from the reactor")
            self.remove_zmq(source.socket)
            return False
        if source.on_writable is not None:
            writable = bool(events & _POLLOUT)
            if writable != source.writable:
                source.writable = writable
                try:
                    source.on_writable(writable)
                except Exception:
                    self.failed(source.on_writable)
                return not source.removed and bool(events & _POLLIN)
        return bool(events & _POLLIN)

    def _serve_zmq(self) -> None:
        ready = self._zmq_ready
        self._zmq_ready = []
        for source in ready:
            source.queued = False
            for _ in range(MAX_ZMQ_CALLS_PER_TURN):
                if not self._look(source):
                    break
                try:
                    source.callback()
                except Exception:
                    self.failed(source.callback)
            else:
                self._queue(source)

    def _sift_zmq(self) -> None:
        """Keep of the queued sockets those that are readable: if none is, the loop may wait."""
        ready = self._zmq_ready
        self._zmq_ready = keep = []
        for source in ready:
            source.queued = False
            if self._look(source) and not source.queued:
                source.queued = True
                keep.append(source)

    # -------------------------------------------------------------- time and turns

    @staticmethod
    def now() -> float:
        return time.monotonic()

    def call_at(self, when: float, callback: Callback) -> Timer:
        timer = Timer(when, callback, self)
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, timer))
        return timer

    def call_later(self, delay_s: float, callback: Callback) -> Timer:
        return self.call_at(time.monotonic() + delay_s, callback)

    def call_soon(self, callback: Callback) -> None:
        """Call once: in this turn if its queue was not run yet, else in the next, without waiting."""
        self._soon.append(callback)

    def at_end_of_turn(self, hook: Callback) -> None:
        """Call `hook` at the end of EVERY turn from now on; registering it again changes nothing."""
        self._hooks[hook] = None

    def defer(self, callback: Callback) -> None:
        """Call once at the end of this turn, after the hooks. For flushing output."""
        self._deferred.append(callback)

    def _timer_cancelled(self) -> None:
        self._timers_cancelled += 1
        if self._timers_cancelled > 64 and self._timers_cancelled * 2 > len(self._timers):
            self._timers = [item for item in self._timers if item[2]._callback is not None]
            heapq.heapify(self._timers)
            self._timers_cancelled = 0

    def _wait_s(self, limit_s: float) -> float:
        """How long this turn may wait for descriptors."""
        if self._zmq_ready:
            self._sift_zmq()
        if self._soon or self._deferred or self._zmq_ready or self._stopped:
            return 0.0
        timers = self._timers
        while timers and timers[0][2]._callback is None:
            heapq.heappop(timers)
            self._timers_cancelled -= 1
        if timers:
            return max(0.0, min(limit_s, timers[0][0] - time.monotonic()))
        return limit_s

    def run(self) -> None:
        """Turn until stop(). A stop() before run() counts: run() then returns at once."""
        try:
            while not self._stopped:
                self.run_once(MAX_WAIT_S)
        finally:
            self._stopped = False

    def stop(self) -> None:
        """End run() after the present turn, whose end-of-turn hooks still run."""
        self._stopped = True

    def run_once(self, timeout_s: float = 0.0) -> None:
        """One turn, waiting at most timeout_s for something to happen."""
        self._turn_number += 1
        events = self._epoll.poll(self._wait_s(timeout_s), MAX_EVENTS_PER_WAIT)
        if events:
            self._serve_descriptors(events)
        if self._timers:
            self._serve_timers()
        soon = self._soon
        for _ in range(len(soon)):
            self._guard(soon.popleft())
        if self._zmq_ready:
            self._serve_zmq()
        for hook in tuple(self._hooks):
            self._guard(hook)
        rounds = 0
        while self._deferred and rounds < MAX_DEFER_ROUNDS:
            rounds += 1
            deferred, self._deferred = self._deferred, []
            for callback in deferred:
                self._guard(callback)

    def _serve_descriptors(self, events: list[tuple[int, int]]) -> None:
        entries = self._entries
        turn = self._turn_number
        for fd, mask in events:
            entry = entries.get(fd)
            if entry is None or entry.turn == turn:
                continue  # removed by an earlier callback of this turn; its number may be in use again
            callback = entry.reader
            if callback is not None and mask & _READ_MASK:
                try:
                    callback()
                except Exception:
                    self.failed(callback)
            callback = entry.writer
            if callback is not None and mask & _WRITE_MASK:
                try:
                    callback()
                except Exception:
                    self.failed(callback)

    def _serve_timers(self) -> None:
        timers = self._timers
        now = time.monotonic()
        if timers[0][0] > now:
            return
        due: list[Timer] = []
        while timers and timers[0][0] <= now:
            due.append(heapq.heappop(timers)[2])
        for timer in due:
            callback = timer._callback
            if callback is None:
                continue  # cancelled, maybe by one that was due with it
            timer._callback = None
            self._guard(callback)

    def _guard(self, callback: Callback) -> None:
        try:
            callback()
        except Exception:
            self.failed(callback)

    def failed(self, callback: Callable[..., object]) -> None:
        """Log the exception being handled as that of `callback`; of a flood only the first of each window."""
        self.errors += 1
        now = time.monotonic()
        if now - self._window_start > ERROR_WINDOW_S:
            if self._window_errors > MAX_LOGGED_ERRORS:
                log.error("%d more callback errors were not logged", self._window_errors - MAX_LOGGED_ERRORS)
            self._window_start = now
            self._window_errors = 0
        self._window_errors += 1
        if self._window_errors <= MAX_LOGGED_ERRORS:
            log.exception("callback %r failed; the loop goes on", callback)

    def close(self) -> None:
        """Forget everything and close the epoll descriptor; the descriptors in it are not ours to close."""
        self._entries.clear()
        self._zmq.clear()
        self._zmq_ready.clear()
        self._timers.clear()
        self._soon.clear()
        self._deferred.clear()
        self._hooks.clear()
        self._epoll.close()
