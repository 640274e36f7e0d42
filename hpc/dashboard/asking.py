"""What the session is asked for the dashboard's pages: once for all that look, by one thread.

A question to somebody outside of the session, as a scheduler that is slow to answer, has a thread of its own. It holds
up no other question, and the end of the dashboard does not wait for it.

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TextIO

from hpc.core.exceptions import SessionLostError

#: A question is asked again after this many times of what its answer took.
PACE = 50
#: The longest time between two answers, however long one took.
LONGEST_S = 120.0


class Question(NamedTuple):
    """A question, and how often it is asked at most. ``is_outside``: not the session is asked, so it may be slow."""

    ask: Callable[[], Any]
    period_s: float = 2.0
    is_outside: bool = False


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


class Heard:
    """The warnings of each thread by themselves. `warnings` has one list for the whole process. Of two threads that use
    it at a time each takes the other's, or keeps the list for ever."""

    def __init__(self) -> None:
        self._mine = threading.local()
        self._caught: warnings.catch_warnings[None] | None = None
        self._show: Callable[..., None] = warnings.showwarning

    def begin(self) -> None:
        """Listen to all threads."""
        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        self._show, warnings.showwarning = warnings.showwarning, self._hear
        warnings.simplefilter("always", UserWarning)

    def end(self) -> None:
        """Listen no more."""
        caught, self._caught = self._caught, None
        if caught is not None:
            caught.__exit__(None, None, None)

    def _hear(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        said: list[str] | None = getattr(self._mine, "said", None)
        if said is None:
            self._show(message, category, filename, lineno, file, line)
        elif issubclass(category, UserWarning):
            said.append(str(message))

    @contextmanager
    def said(self) -> Iterator[list[str]]:
        """What this thread is warned of meanwhile."""
        said = self._mine.said = []
        try:
            yield said
        finally:
            self._mine.said = None


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
        self._heard = Heard()
        #: By name, the newest answers.
        self.known: dict[str, Known] = {}
        #: Why the session cannot be asked any more; empty while it can.
        self.ended = ""
        outside = [name for name, question in questions.items() if question.is_outside]
        lanes = [[name for name in questions if name not in outside], *([name] for name in outside)]
        self._thread, *self._others = (
            threading.Thread(target=self._run, args=(lane,), name="hpc-dashboard-asks", daemon=True) for lane in lanes
        )

    def start(self) -> None:
        """Begin to ask."""
        self._heard.begin()
        for thread in (self._thread, *self._others):
            thread.start()

    def close(self, patience_s: float | None = None) -> bool:
        """End the thread; an answer of the session that is under way is waited for, so long at most. Returns whether it
        has ended. Nobody waits for others than the session."""
        with self._wake:
            self._stop = True
            self._wake.notify_all()
        self._thread.join(patience_s)
        self._heard.end()
        return not self._thread.is_alive()

    def want(self, names: Iterable[str]) -> None:
        """Somebody looks at what needs these answers, until `leave`."""
        with self._wake:
            self._wanted.update(names)
            self._wake.notify_all()

    def leave(self, names: Iterable[str]) -> None:
        """That one looks no more."""
        with self._wake:
            self._wanted.subtract(names)

    def _next(self, lane: Sequence[str]) -> str | None:
        """The name of a question of these that is due, waiting for it; None at the end."""
        with self._wake:
            while not self._stop:
                now_s = time.time()
                wanted = [name for name in lane if self._wanted[name] > 0]
                waits = [(wait_s(self._questions[name], self.known.get(name), now_s), name) for name in wanted]
                soonest, name = min(waits, default=(None, ""))
                if soonest is not None and soonest <= 0:
                    return name
                self._wake.wait(soonest)
            return None

    def _run(self, lane: Sequence[str]) -> None:
        while not self.ended and (name := self._next(lane)) is not None:
            self.known[name] = known = self._ask(name)
            if not self._questions[name].is_outside:
                self._on_answer(name, known)
                continue
            with self._wake:
                if not self._stop:  # else nobody has waited for it, and who would hear of it may be gone
                    self._on_answer(name, known)

    def _ask(self, name: str) -> Known:
        before = self.known.get(name)
        version = before.version + 1 if before else 1
        begun_s = time.monotonic()
        error, value = "", before.value if before else None
        with self._heard.said() as said:
            try:
                value = self._questions[name].ask()
            except Exception as broken:  # one page that cannot be filled leaves the others as they are
                if isinstance(broken, (SessionLostError, ConnectionError)) and not self._questions[name].is_outside:
                    error = self.ended = f"the session has ended: {broken}"
                else:
                    error = f"{type(broken).__name__}: {broken}"
                    self._on_broken()
        return Known(value, time.time(), time.monotonic() - begun_s, version, tuple(said), error)
