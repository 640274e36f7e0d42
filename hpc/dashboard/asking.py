"""What the session is asked for the dashboard's pages: each question by one thread, once for all that look.

A question is asked only while somebody looks at a page that needs it. It is repeated after its period, or after 50
times of what its answer took, whichever is longer. So each takes about 2 % of the time of one process. It takes more
only where an answer takes longer than 2.4 s: two minutes pass at most. Warnings of who did not answer belong to the
answer.
"""

from __future__ import annotations

import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from hpc.core.exceptions import SessionLostError

#: A question is asked again after this many times of what its answer took.
PACE = 50
#: The longest time between two answers, however long one took.
LONGEST_S = 120.0


class Question(NamedTuple):
    """A question, and how often it is asked at most."""

    ask: Callable[[], Any]
    period_s: float = 2.0


class Known(NamedTuple):
    """An answer. ``at_s`` is wall time; ``said``: silent processes, and what was cut; ``error``: why there is none."""

    value: Any
    at_s: float
    took_s: float
    version: int
    said: tuple[str, ...] = ()
    error: str = ""


def wait_s(question: Question, known: Known | None, now_s: float) -> float:
    """In how long a question is due; at once where there is no answer yet."""
    if known is None:
        return 0.0
    return known.at_s + min(LONGEST_S, max(question.period_s, PACE * known.took_s)) - now_s


class Asker:
    """Asks the questions that somebody waits for. ``on_answer(name, known)`` is called in the thread that asks, and
    ``on_broken`` where a question raises."""

    def __init__(
        self,
        questions: Mapping[str, Question],
        on_answer: Callable[[str, Known], None],
        on_broken: Callable[[], None] = traceback.print_exc,
    ) -> None:
        self._questions = questions
        self._on_answer, self._on_broken = on_answer, on_broken
        self._wanted: Counter[str] = Counter()
        self._wake = threading.Condition()
        self._stop = False
        #: By name, the newest answers.
        self.known: dict[str, Known] = {}
        #: Why the session cannot be asked any more; empty while it can.
        self.ended = ""
        self._thread = threading.Thread(target=self._run, name="hpc-dashboard-asks", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self, patience_s: float | None = None) -> bool:
        """End the thread; an answer that is under way is waited for, so long at most. Returns whether it has ended."""
        with self._wake:
            self._stop = True
            self._wake.notify()
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def want(self, names: Iterable[str]) -> None:
        """Somebody looks at what needs these answers, until `leave`."""
        with self._wake:
            self._wanted.update(names)
            self._wake.notify()

    def leave(self, names: Iterable[str]) -> None:
        """That one looks no more."""
        with self._wake:
            self._wanted.subtract(names)

    def _next(self) -> str | None:
        """The name of a question that is due, waiting for it; None at the end."""
        with self._wake:
            while not self._stop:
                now_s = time.time()
                waits = [
                    (wait_s(self._questions[n], self.known.get(n), now_s), n) for n, c in self._wanted.items() if c > 0
                ]
                soonest, name = min(waits, default=(None, ""))
                if soonest is not None and soonest <= 0:
                    return name
                self._wake.wait(soonest)
            return None

    def _run(self) -> None:
        while not self.ended and (name := self._next()) is not None:
            known = self._ask(name)
            self.known[name] = known
            self._on_answer(name, known)

    def _ask(self, name: str) -> Known:
        before = self.known.get(name)
        version = before.version + 1 if before else 1
        begun_s = time.monotonic()
        error, value = "", before.value if before else None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                value = self._questions[name].ask()
            except (SessionLostError, ConnectionError) as lost:
                error = self.ended = f"the session has ended: {lost}"
            except Exception as broken:  # one page that cannot be filled leaves the others as they are
                error = f"{type(broken).__name__}: {broken}"
                self._on_broken()
        said = tuple(str(one.message) for one in caught if issubclass(one.category, UserWarning))
        return Known(value, time.time(), time.monotonic() - begun_s, version, said, error)
