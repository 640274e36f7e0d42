"""A session that a thread keeps reading, for a process whose own threads do something else.

`launchers.session.Session` is for one thread at a time; here that is whoever holds the lock.  The thread waits for
the session's descriptor without the lock, so that others get it at once.

Rejected: pumping with a timeout under the lock (each other call then waits for up to that timeout), and an asyncio
task (a notebook's loop is busy while a cell runs).
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpc.launchers.session import Session

TICK_S = 0.5
JOIN_S = 5.0


class SessionThread:
    """Drives a session that was started, until `stop`.  Every other use of the session is inside `hold()`."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.failure = ""  # why the thread gave up
        self._change = threading.Condition(threading.RLock())
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closing = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="hpc-session", daemon=True)
        self._thread.start()

    @contextmanager
    def hold(self) -> Iterator[Session]:
        """The session, for this thread alone."""
        with self._change:
            yield self.session
        self._kick()  # what was queued may have to wait for room in a pipe

    def wait_until(self, check: Callable[[Session], bool], timeout_s: float) -> bool:
        """Waits until `check` holds, asked whenever something has come; False after the timeout."""
        with self._change:
            return self._change.wait_for(lambda: check(self.session) or self._closing, timeout_s)

    def stop(self, grace_s: float, why: str) -> None:
        """Ends the thread and the session; returns when nothing of it is left.  A forked child only lets go."""
        self._closing = True
        if os.getpid() != self._pid:
            self.forget()
            return
        self._kick()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=JOIN_S)
        with self._change:
            self.session.stop(grace_s, why)
            self._change.notify_all()
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1

    def forget(self) -> None:
        """In a forked child: closes its copies of the pipes, and says nothing to anybody."""
        for group in self.session.groups:
            group.close()

    def _kick(self) -> None:
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self.session.fileno(), select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._closing and self.session.state != "ended":
            poll.poll(TICK_S * 1000)
            with self._change:
                if self._closing:
                    return
                try:
                    os.eventfd_read(self._wake)
                except BlockingIOError:
                    pass
                try:
                    self.session.pump()
                except Exception as error:
                    self.failure = str(error)
                    print(f"hpc: the session has failed: {error}", file=sys.stderr)
                    self.session.begin_stop(1.0, self.failure)
                    return
                finally:
                    self._change.notify_all()
