"""Ending the user's code: a signal raises KeyboardInterrupt in the task that the main thread runs, but only in the
user's code. In an actor's call it is raised only where the call waits for the runtime.

A signal's handler runs between any two instructions. Raised in the runtime's own code, an exception would leave a lock
taken or a frame of messages half read. So where the handler finds the runtime at work (by the frames of the stack) it
raises nothing. The wish stays. `check` raises it where the runtime waits for something. The background thread sends the
signal again until the wish is fulfilled or the task has ended. Sleeping and waiting for locks ends with a signal, as do
loops over short functions written in C. Such a function itself runs to its end.

Nor does it raise within an import. A module that was torn out of its making leaves others half made, and the worker,
which outlives the task, could never import it again.

The state of an actor outlives its calls, so calls are not torn out of their code. They look at a flag, or get the
exception where they wait for others (`get`, `wait`, a generator's next item).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Container
from types import CodeType, FrameType

from hpc.core.process.context import current_task

CANCEL_SIGNAL = signal.SIGRTMIN + 6
#: Modules of the runtime: nothing is raised while one of their functions is at work.
RUNTIME = "hpc.core."
#: The file of the functions that make modules.
IMPORTS = "<frozen importlib._bootstrap>"


class Interrupter:
    """Cancels the task ``running()`` of the main thread. ``borders`` are the functions of the runtime that call the
    user's code: what is below them on the stack does not matter. In those of ``open`` themselves may be raised.
    ``calls`` are those that run now; ``kick`` has all who wait for the runtime come to `check`."""

    def __init__(
        self,
        running: Callable[[], bytes],
        kick: Callable[[], None],
        borders: frozenset[CodeType],
        open: frozenset[CodeType] = frozenset(),
        calls: Container[bytes] = (),
    ) -> None:
        self._running = running
        self._kick = kick
        self._calls = calls
        self._waits_end: set[bytes] = set()
        self._borders = borders | open
        self._open = open
        self._wanted = b""
        self._main = threading.main_thread().ident or 0
        signal.signal(CANCEL_SIGNAL, self._on_signal)

    def cancel(self, task: bytes) -> None:
        """End this task if it is the one that runs; from any thread."""
        if task == self._running():
            self._wanted = task
            self.again()

    def cancel_call(self, task: bytes) -> None:
        """End the next wait of this call of an actor, or the one that it is in; from any thread."""
        self._waits_end.add(task)
        self._kick()

    def again(self) -> None:
        """Remind the main thread of what is still to be ended."""
        if self._wanted and self._wanted == self._running():
            try:
                signal.pthread_kill(self._main, CANCEL_SIGNAL)
            except BlockingIOError:
                pass  # the user's queue of signals is full: the background thread comes again
            self._kick()

    def check(self) -> None:
        """Raise what a handler could not raise; called where that does no harm."""
        if self._wanted and threading.get_ident() == self._main:
            self._raise()
        if self._waits_end:
            context = current_task.get()
            if context is not None and context.task in self._waits_end:
                self._waits_end.discard(context.task)
                if context.task in self._calls:
                    raise KeyboardInterrupt("the call was cancelled while it waited")

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._wanted and self.may_raise(frame) and not self._imports(frame):
            self._raise()

    def _raise(self) -> None:
        wanted, self._wanted = self._wanted, b""
        if wanted == self._running():
            raise KeyboardInterrupt("the task was cancelled while it ran")

    def _imports(self, frame: FrameType | None) -> bool:
        """Whether the user's code is making a module."""
        while frame is not None and frame.f_code not in self._borders:
            if frame.f_code.co_filename == IMPORTS:
                return True
            frame = frame.f_back
        return False

    def may_raise(self, frame: FrameType | None) -> bool:
        """Whether the user's code is at work, and not the runtime on its behalf."""
        if frame is not None and frame.f_code in self._borders:
            return frame.f_code in self._open
        while frame is not None and frame.f_code not in self._borders:
            if str(frame.f_globals.get("__name__", "")).startswith(RUNTIME):
                return False
            frame = frame.f_back
        return frame is not None
