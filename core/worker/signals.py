"""Signals in workers: programs that tasks start find them as they are in a shell, and the worker lives through them.

The processes of a node ignore SIGUSR1 and SIGUSR2, by which schedulers warn of a time limit, and SIGTERM, by which they
take nodes away. They ignore SIGINT, too: the launcher decides about all of these. A signal that is ignored stays so in
every program that is started; one with a handler of Python is back to its default there. So workers have handlers that
do nothing. But a SIGTERM to one worker alone ends it, and while the user's code is at work SIGINT is a
KeyboardInterrupt, as in any program. Forked children have the defaults.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

#: Signals that are ignored here and not in the programs that tasks start.
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
#: After a SIGTERM so much time passes until the raylet, which may have been sent it as well, is told of it.
TOGETHER_S = 0.25
#: How long the raylet may take to end a process that was told to.
VERDICT_S = 0.5


class _Handlers:
    """The handlers of one worker; ``may_raise`` says whether the user's code is at work on a stack."""

    def __init__(self, may_raise: Callable[[FrameType | None], bool], told_to_end: Callable[[], None]) -> None:
        self._may_raise, self._told_to_end = may_raise, told_to_end
        self.termination: Callable[[int, FrameType | None], None] = self._termination
        self.interrupt: Callable[[int, FrameType | None], None] = self._interrupt
        self.warning: Callable[[int, FrameType | None], None] = self._warning
        signal.signal(signal.SIGINT, self.interrupt)
        signal.signal(signal.SIGTERM, self.termination)
        for signum in WARNINGS:
            signal.signal(signum, self.warning)
        self._masks = threading.local()
        os.register_at_fork(before=self._hold, after_in_parent=self._release, after_in_child=self._in_child)

    def _interrupt(self, _signum: int, frame: FrameType | None) -> None:
        if self._may_raise(frame):
            raise KeyboardInterrupt

    def _termination(self, _signum: int, frame: FrameType | None) -> None:
        """Sent to this process alone it is to end, and sent to all of them the launcher decides: the raylet knows.

        The user's code does not go on until it does: what sends itself a SIGTERM has come to its end."""
        telling = threading.Timer(TOGETHER_S, self._told_to_end)
        telling.daemon = True
        telling.start()
        time.sleep(TOGETHER_S + VERDICT_S)

    def _warning(self, _signum: int, frame: FrameType | None) -> None:
        """It is the scheduler's, and for the launcher."""

    def _hold(self) -> None:
        """A SIGTERM that reaches a new child before its handlers are the defaults waits: Python would forget it."""
        self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _release(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.before)

    def _in_child(self) -> None:
        if signal.getsignal(signal.SIGINT) is self.interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if signal.getsignal(signal.SIGTERM) is self.termination:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for signum in WARNINGS:
            if signal.getsignal(signum) is self.warning:
                signal.signal(signum, signal.SIG_DFL)
        self._release()


def install(may_raise: Callable[[FrameType | None], bool], told_to_end: Callable[[], None]) -> None:
    """Set the handlers of a worker, once; in its main thread. ``told_to_end`` is called after a SIGTERM."""
    _Handlers(may_raise, told_to_end)
