"""A search in a thread of its own: its runner asks, goes on, and is told when there is an answer.

`Asking` keeps one thread, in which alone the search algorithm is used. What it is told is told in order, and before the
next question. It asks ahead of need only where asking takes a noticeable part of the time between trials. For a
suggestion that is made early does not know of the results that come meanwhile.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cloudpickle

from hpc.tune.events import Exhausted, NothingNow, Suggested, Suggestion
from hpc.tune.search.search_algorithm import SearchAlgorithm

__all__ = ["Answer", "Asking", "SearchFailed"]

#: The share of the time between two trials that asking may take before it is done ahead.
SHARE = 0.05
#: For so many trials that run one is suggested ahead. A search of one trial after the other knows all results.
RUNNING_FOR_ONE = 4
#: What was told since the last copy of the state is kept, up to this length.
MOST_TOLD = 1000


@dataclass
class SearchFailed:
    """The search algorithm raised this error: the experiment cannot go on."""

    error: BaseException


Answer = Suggested | NothingNow | Exhausted | SearchFailed


class Asking:
    """Uses a search algorithm in a thread. `answer` is called with each answer, and from any thread: make it quick.

    One question is answered by one answer. A failure of the search is told at once, and once. A search that is quick
    (`SearchAlgorithm.slow` is false) has no thread: its answers come while `ask` runs.
    """

    def __init__(self, search: SearchAlgorithm, answer: Callable[[Answer], None]):
        self.search = search
        self._answer = answer
        self._changed = threading.Condition()
        self._told: deque[tuple[Any, ...]] = deque()
        self._wanted = 0  # of the question that has no answer yet
        self._ready: deque[Suggestion] = deque()
        self._waits = False  # the search said that it has nothing for now
        self._ended = False  # it has no further trials
        self._failed = False
        self._closing = False
        self._copy_wanted = False
        self._copy: Any = None  # the state, pickled
        self._later: list[tuple[Any, ...]] = []  # what happened in the thread since that copy
        self._ask_s = 0.0
        self._gap_s = math.inf  # between the ends of two trials: so often one is wanted
        self._last_end: float | None = None
        self._running = 0  # trials that were given and have not ended
        self._thread: threading.Thread | None = None

    @property
    def searcher(self) -> Any:
        """What schedulers tell of trials that pause and go on (BOHB); None without a searcher."""
        return _Told(self) if hasattr(self.search, "searcher") else None

    # -------------------------------------------------------------- what the runner calls

    def ask(self, count: int) -> None:
        """Ask for up to `count` trials, 1 or more. There is no question open."""
        if not self.search.slow:
            self._here(lambda: self._answer(self.search.suggest_next(count)))
            return
        with self._changed:
            if self._failed:
                return
            assert not self._wanted, "a question is open already"
            self._wanted = count
            self._waits = False
            answer = self._answer_now()
            self._start()
            self._changed.notify()
        if answer is not None:
            self._answer(answer)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A result of a trial that goes on."""
        if self.search.hears_results:
            self._tell("on_trial_result", trial_id, dict(result))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial has ended."""
        now = time.monotonic()
        if self._last_end is not None:
            gap = now - self._last_end
            self._gap_s = gap if self._gap_s == math.inf else 0.7 * self._gap_s + 0.3 * gap
        self._last_end = now
        self._running = max(self._running - 1, 0)
        self._tell("on_trial_complete", trial_id, None if result is None else dict(result), error)

    def adopt(self, suggestion: Suggestion) -> None:
        """See `SearchAlgorithm.adopt`. A suggestion that a loaded state has ready is the one that is meant."""
        if any(one.trial_id == suggestion.trial_id for one in self._ready):
            self._ready = deque(one for one in self._ready if one.trial_id != suggestion.trial_id)
            return
        self._tell("adopt", suggestion)

    def is_finished(self) -> bool:
        """Whether no further trials come, as far as that is known without asking."""
        with self._changed:
            return not self._ready and (self._ended or (self._thread is None and self.search.is_finished()))

    @property
    def total_samples(self) -> float:
        """How many trials there will be, as far as that is known."""
        return self.search.total_samples

    def _tell(self, what: str, *values: Any) -> None:
        if not self.search.slow:
            self._here(lambda: getattr(self.search, what)(*values))
            return
        with self._changed:
            self._told.append((what, *values))
            self._waits = False
            self._start()
            self._changed.notify()

    def _here(self, do: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            do()
        except Exception as error:
            self._failed = True
            self._answer(SearchFailed(error))

    # -------------------------------------------------------------- state

    def state(self) -> Any:
        """What `load` needs. It waits for nothing: the last copy of the search's state, and what happened since."""
        if not self.search.slow:
            return {"copy": self._copied(), "later": [], "ready": []}
        with self._changed:
            if self._copy is None:
                if self._thread is None:
                    self._copy = self._copied()
                    self._later.clear()
                else:
                    # The first copy of the thread comes before it does anything else.
                    while self._copy is None and not self._failed:
                        self._changed.wait(0.1)
            elif self._later:
                self._copy_wanted = True
                self._changed.notify()
            later = [*self._later, *self._told]
            return {"copy": self._copy, "later": later, "ready": list(self._ready)}

    def load(self, state: Any) -> None:
        """Go on from a state. `begin` of the search comes before, and no question."""
        assert self._thread is None
        if state["copy"] is not None:
            self.search.load(cloudpickle.loads(state["copy"]))
        for what, *values in state["later"]:
            getattr(self.search, what)(*values)
        self._ready = deque(state["ready"])
        self._copy = None

    def close(self, timeout: float = 60.0) -> None:
        """Tell the search what it was not told yet, and end the thread. A search that hangs is left after `timeout`."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    # -------------------------------------------------------------- the thread

    def _start(self) -> None:
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._run, name="hpc-tune-search", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self._take_copy()
            while self._step():
                pass
            self._take_copy()  # the next driver need not be told what happened since the one before
        except BaseException as error:
            with self._changed:
                self._failed = True
                self._wanted = 0
                self._changed.notify_all()
            self._answer(SearchFailed(error))

    def _step(self) -> bool:
        with self._changed:
            while not (self._told or self._copy_wanted or self._closing or self._more_wanted()):
                self._changed.wait()
            told = self._told.popleft() if self._told else None
            # In `_later` before it is done: a state that is taken meanwhile has it.
            if told is not None:
                self._later.append(told)
            elif self._closing:
                return False
            asks = told is None and self._more_wanted()
        if told is not None:
            getattr(self.search, told[0])(*told[1:])
        elif asks:
            self._ask_one()
        if self._copy_wanted or len(self._later) > MOST_TOLD:
            self._take_copy()
        return True

    def _more_wanted(self) -> bool:
        """Whether the search is to be asked; with the lock held."""
        if self._ended or self._closing or self._waits:
            return False
        return len(self._ready) < (1 if self._wanted else self._ahead())

    def _ahead(self) -> int:
        """How many suggestions to have ready. Few beside those that run, so that little is known later by it."""
        if self._ask_s < SHARE * self._gap_s:
            return 0
        return min(math.ceil(self._ask_s / max(self._gap_s, 1e-6)), self._running // RUNNING_FOR_ONE)

    def _ask_one(self) -> None:
        begin = time.monotonic()
        found = self.search.suggest_next(1)
        took = time.monotonic() - begin
        with self._changed:
            if isinstance(found, Suggested):
                self._ask_s = took if not self._ask_s else 0.7 * self._ask_s + 0.3 * took
                for suggestion in found.suggestions:
                    self._later.append(("adopt", suggestion))
                    self._ready.append(suggestion)
            elif isinstance(found, Exhausted):
                self._ended = True
            else:
                self._waits = True
            answer = self._answer_now()
        if answer is not None:
            self._answer(answer)

    def _answer_now(self) -> Answer | None:
        """The answer to the open question, if there is one; with the lock held."""
        if not self._wanted:
            return None
        answer: Answer
        if self._ready:
            given = [self._ready.popleft() for _ in range(min(self._wanted, len(self._ready)))]
            self._running += len(given)
            answer = Suggested(given)
        elif self._ended:
            answer = Exhausted()
        elif self._waits:
            answer = NothingNow()
        else:
            return None
        self._wanted = 0
        return answer

    def _take_copy(self) -> None:
        copied = self._copied()
        with self._changed:
            self._copy, self._copy_wanted = copied, False
            self._later.clear()
            self._changed.notify_all()

    def _copied(self) -> bytes:
        try:
            copied: bytes = cloudpickle.dumps(self.search.state())
        except Exception as error:
            kind = type(getattr(self.search, "innermost", self.search)).__name__
            raise TypeError(f"the state of {kind} cannot be saved for a later driver: {error}") from error
        return copied


class _Told:
    """The searcher as schedulers see it: what they say is told in order with the rest."""

    def __init__(self, asking: Asking):
        self._asking = asking

    def on_pause(self, trial_id: str) -> None:
        """The trial waits for others."""
        self._asking._tell("on_pause", trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """The trial goes on."""
        self._asking._tell("on_unpause", trial_id)
