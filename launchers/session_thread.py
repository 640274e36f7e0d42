"""A session that a thread keeps reading, for a process whose own threads do something else.

The thread turns the session's loop. Each other use of the session is inside `hold()`: the loop's lock, which it does
not keep while it waits.

Rejected: waiting under the lock, since each other call then waits for up to a tick. Rejected too: an asyncio task,
since a notebook's loop is busy while a cell runs.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from hpc.launchers.fate import fate
from hpc.launchers.loop import SessionLoop
from hpc.launchers.session import Session

JOIN_S = 5.0


class SessionThread:
    """Drives a session that was started, until `stop`. Every other use of the session is inside `hold()`."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.failure = ""  # why the thread gave up
        self.loop = SessionLoop(session)
        self._closing = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="hpc-session", daemon=True)
        self._thread.start()

    def hold(self) -> AbstractContextManager[Session]:
        """The session, for this thread alone."""
        return self.loop.hold()

    def wait_until(self, check: Callable[[Session], bool], timeout_s: float) -> bool:
        """Wait until `check` holds, asked whenever something has come; False after the timeout."""
        with self.loop.changed:
            return self.loop.changed.wait_for(lambda: check(self.session) or self._closing, timeout_s)

    def stop(self, grace_s: float, why: str) -> None:
        """End the thread and the session; return when nothing of it is left. A forked child only lets go."""
        self._closing = True
        if os.getpid() != self._pid:
            self.forget()
            return
        self.loop.wake()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=JOIN_S)
        with self.loop.changed:
            self.session.stop(grace_s, why)
            self.loop.changed.notify_all()
        self.loop.close()

    def _tell(self, lost: str) -> None:
        """Why calls fail from now on. If the job has ended, too, its scheduler says so a little later."""
        print(f"hpc: {lost}", file=sys.stderr)

        def ask() -> None:
            said = fate()
            if said:
                print(f"hpc: {said}", file=sys.stderr)

        threading.Thread(target=ask, name="hpc-fate", daemon=True).start()

    def forget(self) -> None:
        """In a forked child: closes its copies of the pipes, and says nothing to anybody."""
        for group in self.session.groups:
            group.close()

    def _run(self) -> None:
        try:
            self.loop.until(lambda: self._closing or bool(self.session.lost) or self.session.state == "ended")
            if self.session.lost and not self._closing:
                self._tell(self.session.lost)
            self.loop.until(lambda: self._closing or self.session.state == "ended")
        except Exception as error:
            self.failure = str(error)
            print(f"hpc: the session has failed: {error}", file=sys.stderr)
            with self.loop.hold() as session:
                session.begin_stop(1.0, self.failure)
