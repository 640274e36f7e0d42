"""When an experiment is to end before it is complete: the session ends, or somebody has sent a signal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hpc.tune.events import WindDown

#: The last seconds of a job: its script is asked to end, and nodes may go.
END_S = 10.0
#: Where nobody says how much time is left, trials have so much to save.
PATIENCE_S = 60.0
#: After Ctrl-C trials that can save have so much.
INTERRUPT_S = 10.0
SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGUSR1: "SIGUSR1"}


class Walltime:
    """Watches the time that is left, the session and the signals of this process.

    clock: of the engine, in seconds. context: knows the session's end, as `hpc.get_runtime_context` does.
    """

    def __init__(self, clock: Callable[[], float], context: Any) -> None:
        self._clock = clock
        self._context = context
        self._signal = ""
        self._told = False
        self._step_s = self._save_s = 0.0
        #: Whether the session ends: the script ends then, too, and goes on in the next one.
        self.drains = False

    def step_took(self, seconds: float) -> None:
        """A trial has needed so long from one result to the next."""
        self._step_s = max(self._step_s, seconds)

    def save_took(self, seconds: float) -> None:
        """A trial has needed so long to save."""
        self._save_s = max(self._save_s, seconds)

    @property
    def margin_s(self) -> float:
        """With less time than this, a trial that began another step might come too late with its checkpoint."""
        return END_S + 2 * (self._step_s + self._save_s)

    def look(self) -> WindDown | None:
        """What the engine is to be told; None as long as all is well, and once it was told."""
        if self._told:
            return None
        found = self._found()
        self._told = found is not None
        return found

    def _found(self) -> WindDown | None:
        now = self._clock()
        left_s, notice = self._context.time_left_s(), self._context.draining()
        if notice is not None:
            self.drains = True
            left_s = left_s if notice.left_s is None else notice.left_s
            return WindDown(f"the session ends: {notice.reason}", now + _most(left_s))
        if left_s is not None and left_s < self.margin_s:
            self.drains = True
            return WindDown(f"{left_s:.0f} s are left", now + _most(left_s))
        if self._signal:
            patience_s = INTERRUPT_S if self._signal == SIGNALS[signal.SIGINT] else _most(left_s)
            self.drains = self._signal == SIGNALS[signal.SIGTERM]
            return WindDown(f"{self._signal} was received", now + patience_s)
        return None

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Notice signals within this block. A second Ctrl-C raises KeyboardInterrupt.

        Other threads than the main one cannot have signals: there is nothing to notice there.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = SIGNALS[signal.Signals(number)]


def _most(left_s: float | None) -> float:
    """Of the time that is left, as much as trials may use."""
    return PATIENCE_S if left_s is None else max(1.0, left_s - END_S / 2)
