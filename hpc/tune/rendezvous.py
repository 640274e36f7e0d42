"""A trial's function in a thread, and the thread of its actor: they meet at each report. No actors here.

The function's thread waits in a report until it is told to go on, unless nobody can decide otherwise. Then it runs
ahead, by so many results at most, and the actor's thread takes all that there are at once.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from hpc.runs.drained import Drained
from hpc.tune.error import TrialDrained

#: Results that a function may be ahead of its driver, where nobody can decide that it ends.
MOST_AHEAD = 1000


ENDED = (
    "tune.report() was called in a thread that a trial has left behind: that trial has ended. Join such threads before "
    "the trial's function returns, and start them anew in each trial"
)


class Report(NamedTuple):
    """A result with all its keys, and the name of the checkpoint's directory if it has one."""

    metrics: dict[str, Any]
    checkpoint: str | None = None


class Ended(NamedTuple):
    """The function has returned, or the class has said that it is done."""


class Stopped(SystemExit):
    """Raised by a report in a trial that is stopped: the function ends, with its finally clauses."""


class Rendezvous:
    """Runs one function. ahead: whether it may run ahead. It waits for the answer anyway with a checkpoint, and where
    ``waits`` says so of a result."""

    def __init__(
        self,
        function: Callable[[], Any],
        ahead: bool = False,
        waits: Callable[[dict[str, Any]], bool] | None = None,
    ) -> None:
        self._function = function
        self._ahead = ahead
        self._waits = waits
        self._changed = threading.Condition()
        self._out: list[Report] = []
        self._at_report = False  # the function waits in a report for its answer
        self._is_over = False
        self._error: BaseException | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def is_over(self) -> bool:
        """Whether the function has returned, or raised."""
        return self._is_over

    def start(self) -> None:
        """Start the function, in a thread that knows the call that started it."""
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="trial", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._function()
        except Drained as end:
            error = TrialDrained(str(end))
        except SystemExit as end:
            if not self._stopping and end.code not in (0, None):
                error = RuntimeError(f"the trial has called sys.exit({end.code!r})")
        except BaseException as failure:
            error = failure
        with self._changed:
            self._error, self._is_over = error, True
            self._changed.notify_all()

    def put(self, one: Report) -> None:
        """In the function's thread, or one of its own: give a result, and wait until it may go on.

        Raises Stopped if it shall end, and RuntimeError once the function has returned.
        """
        with self._changed:
            if self._stopping:
                raise Stopped(0)
            if self._is_over:
                raise RuntimeError(ENDED)
            self._out.append(one)
            if self._ahead and one.checkpoint is None and not (self._waits and self._waits(one.metrics)):
                if len(self._out) == 1:
                    self._changed.notify_all()
                self._changed.wait_for(lambda: len(self._out) < MOST_AHEAD or self._stopping)
            else:
                self._at_report = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._at_report or self._stopping)
            if self._stopping:
                raise Stopped(0)

    def take(self, timeout_s: float | None = None) -> list[Report | Ended]:
        """In the actor's thread: what there is, once there is something; [] after the time. Raises what the function
        has raised, after its last result was taken."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._out) or self._is_over, timeout_s)
            found: list[Report | Ended] = list(self._out)
            self._out.clear()
            if len(found) >= MOST_AHEAD:
                self._changed.notify_all()
            if self._is_over and (self._error is None or not found):
                if self._error is not None:
                    raise self._error
                found.append(Ended())
            return found

    def go_on(self) -> None:
        """The answer to what was taken: the function may go on."""
        with self._changed:
            if self._at_report and not self._out:  # a report that was not taken yet has no answer yet
                self._at_report = False
                self._changed.notify_all()

    def stop(self, timeout_s: float) -> bool:
        """Have the function end at its next report. Whether it has within this time."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is None:
            return True
        deadline = time.monotonic() + timeout_s
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return not self._thread.is_alive()
