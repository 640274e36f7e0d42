"""The right to poll: the thread that waits for something reads the sockets itself.

Handing a reply from an I/O thread to the waiting thread costs 46-62 µs; so a lock names the thread that polls ("take").
A thread that wants something tries it; on success it polls and dispatches until its own record is done. Otherwise it
leaves its raw lock among the followers, looks again at its record AND at the poller's lock, and sleeps. A thread that
stops polling releases the poller's lock first and wakes one follower then, so that no wake-up is lost. A background
thread polls only when nobody else does, after a tick of 2 ms, and parks while someone polls for long. An event loop
that polls between its coroutines is given longer. What another thread reads has to be handed to it, and both want the
interpreter's lock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from hpc.core.owner.tables import Waiter

TICK_S = 0.002
#: The background thread looks after timers at least this often.
IDLE_TICK_S = 0.1
#: After so many ticks with the same thread polling, the background thread parks.
PARK_AFTER = 3


class PollLock:
    """The right to poll, and those who wait for somebody else's polling."""

    def __init__(
        self, poll: Callable[[float], None], kick: Callable[[], None], tick_s: Callable[[], float] = lambda: IDLE_TICK_S
    ) -> None:
        self._poll = poll
        self._kick = kick
        #: How long may be slept at a time: timers, and references dropped by other threads, are looked after then.
        self._tick_s = tick_s
        self._lock = threading.Lock()
        self._followers: deque[Waiter] = deque()
        #: The thread that polls; 0: none.
        self.owner = 0
        self._session = 0
        self._wanted = 0
        self._background = False
        self._parked = False
        self._park = threading.Lock()
        self._park.acquire()
        self.closing = False
        #: How long nobody polls before the background thread does.
        self.patience_s = TICK_S
        #: Called by a thread that waits, whenever it holds nothing: it may raise what ends the waiting.
        self.check: Callable[[], None] = lambda: None

    def wait(self, waiter: Waiter, deadline: float | None) -> bool:
        """Until ``waiter`` needs nothing more (True), or the deadline has passed (False)."""
        me = threading.get_ident()
        if self.owner == me:
            return self._poll_until(waiter, deadline)
        while waiter.needed > 0:
            self.check()
            if self.closing:
                return False
            if self.take():
                try:
                    if not self._poll_until(waiter, deadline):
                        return False
                finally:
                    self.leave()
            elif not self._follow(waiter, deadline):
                return waiter.needed <= 0
        return True

    def take(self) -> bool:
        """Take the right to poll; False if another thread that waits has it. Whoever took it calls ``leave``."""
        lock = self._lock
        if not lock.acquire(blocking=False):
            if not self._background:
                return False
            self._wanted += 1
            self._kick()
            taken = lock.acquire(timeout=0.05)
            self._wanted -= 1
            if not taken:
                return False
        self.owner = threading.get_ident()
        self._session += 1
        return True

    def look(self, poll: Callable[[], None]) -> None:
        """Poll once if nobody who waits does so, and this thread is not polling already (a callback submits)."""
        if self.owner != threading.get_ident() and self.take():
            try:
                poll()
            finally:
                self.leave()

    def leave(self) -> None:
        """Let others poll."""
        self.owner = 0
        self._lock.release()
        self._wake_one()
        if self._parked:
            self._parked = False
            _release(self._park)

    def stir(self) -> None:
        """Have every thread that waits call ``check``."""
        for follower in list(self._followers):
            self.wake(follower)
        self._kick()

    def _wake_one(self) -> None:
        while self._followers:
            try:
                follower = self._followers.popleft()
            except IndexError:
                return
            lock, follower.lock = follower.lock, None
            if lock is not None:
                _release(lock)
                return

    def _poll_until(self, waiter: Waiter, deadline: float | None) -> bool:
        poll = self._poll
        while waiter.needed > 0:
            self.check()
            if self.closing:
                return False
            if deadline is None:
                poll(self._tick_s())
            else:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                poll(min(left, self._tick_s()))
        return True

    def _follow(self, waiter: Waiter, deadline: float | None) -> bool:
        """Sleep until the poller wakes us: because our record is done, or because it leaves. False: deadline."""
        lock = threading.Lock()
        lock.acquire()
        waiter.lock = lock
        self._followers.append(waiter)
        if waiter.needed <= 0 or not self._lock.locked():
            waiter.lock = None
            return True
        left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
        if left > 0:
            lock.acquire(timeout=left)
        waiter.lock = None
        return not self.closing and (deadline is None or time.monotonic() < deadline)

    def stop(self, timeout_s: float = 2.0) -> None:
        """After ``closing``: until no other thread polls, so that what is polled can be closed. Nobody polls again."""
        self._wanted += 1  # the background thread leaves
        if self.owner != threading.get_ident():
            self._lock.acquire(timeout=timeout_s)

    @staticmethod
    def wake(waiter: Waiter) -> None:
        """The waiter's record is done: if its thread sleeps, it is woken."""
        lock, waiter.lock = waiter.lock, None
        if lock is not None:
            _release(lock)

    def rouse(self) -> None:
        """A record is done whose thread sleeps on no lock: if that thread is the poller, it looks again."""
        if self.owner and not self._background:
            self._kick()

    # -------------------------------------------------------------- the background thread

    def run_background(self, tick: Callable[[], None]) -> None:
        """The body of the background thread; ``tick`` looks after timers and unsent messages."""
        session, same = -1, 0
        while not self.closing:
            if self._lock.acquire(blocking=False):
                if session != self._session:
                    session = self._session
                    self._lock.release()
                    self._wake_one()
                    tick()
                    time.sleep(self.patience_s)
                    continue
                self._poll_in_background(tick)
                time.sleep(self.patience_s)
                session, same = -1, 0
                continue
            same = same + 1 if session == self._session else 0
            session = self._session
            if same >= PARK_AFTER:
                self._parked = True
                if self._lock.locked():
                    self._park.acquire(timeout=10.0 * self._tick_s())
                self._parked = False
                session, same = -1, 0
                continue
            time.sleep(self.patience_s)
            tick()

    def _poll_in_background(self, tick: Callable[[], None]) -> None:
        self.owner = threading.get_ident()
        self._background = True
        try:
            tick()
            while not self._wanted and not self.closing:
                self._poll(IDLE_TICK_S)
                tick()
        finally:
            self._background = False
            self.owner = 0
            self._lock.release()
            self._wake_one()


def _release(lock: threading.Lock) -> None:
    try:
        lock.release()
    except RuntimeError:
        pass
