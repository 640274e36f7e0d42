"""The search of an experiment as its engine and its runner have it: asked now, its answers are taken later."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from hpc import spi
from hpc.tune import events as ev
from hpc.tune.plan import Plan
from hpc.tune.search.asking import Answer, Asking, SearchFailed
from hpc.tune.search.preparing import prepare
from hpc.tune.settings import AHEAD, SEARCHER_AHEAD


class Searching:
    """Where trials come from. Raises ValueError where the plan's search and its space do not go together."""

    def __init__(self, plan: Plan) -> None:
        tune = plan.tune
        self._plan = plan
        self.algorithm = prepare(
            tune.search_alg,
            plan.space,
            num_samples=tune.num_samples,
            metric=tune.metric,
            mode=tune.mode,
            max_concurrent_trials=tune.max_concurrent_trials,
        )
        self.asking = Asking(self.algorithm, self._answered)
        self._answers: deque[Answer] = deque()
        self._latch: spi.Latch | None = None

    @property
    def learns(self) -> bool:
        """Whether results mean something to it."""
        return self.algorithm.slow or self.algorithm.hears_results

    @property
    def ahead(self) -> int:
        """The number of trials that are made before there is room for them."""
        return SEARCHER_AHEAD if self.algorithm.slow else AHEAD

    @property
    def total(self) -> int | None:
        """How many trials there will be; None where nobody knows."""
        total = self.asking.total_samples
        return None if math.isinf(total) else int(total)

    # what the engine and its scheduler see

    @property
    def metric(self) -> Any:
        """What is searched for."""
        return self.algorithm.metric

    @property
    def mode(self) -> Any:
        """Whether "min" or "max" of it."""
        return self.algorithm.mode

    @property
    def searcher(self) -> Any:
        """What schedulers tell of trials that pause; None without a searcher."""
        return self.asking.searcher

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A result of a trial that goes on."""
        self.asking.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The trial has ended."""
        self.asking.on_trial_complete(trial_id, result, error)

    def is_finished(self) -> bool:
        """Whether no further trials come, as far as that is known."""
        return self.asking.is_finished()

    def adopt(self, suggestion: ev.Suggestion) -> None:
        """A trial that was made by an earlier driver."""
        self.asking.adopt(suggestion)

    def state(self) -> Any:
        """What `load` needs to go on from here."""
        return self.asking.state()

    def load(self, state: Any) -> None:
        """Go on from a state."""
        self.asking.load(state)

    def set_finished(self) -> None:
        """No further trials are wanted: nobody asks any more."""

    # what the runner does

    def ask(self, count: int) -> None:
        """Ask for up to so many trials."""
        if self.algorithm.slow:
            self._latch = spi.latch()
        self.asking.ask(count)

    def _answered(self, answer: Answer) -> None:
        """In the thread of the search, or at once."""
        self._answers.append(answer)
        if self._latch is not None:
            self._latch.open()

    def answers(self) -> list[ev.Event]:
        """What was answered since the last time. Raises what the search has raised."""
        found: list[ev.Event] = []
        while self._answers:
            answer = self._answers.popleft()
            if isinstance(answer, SearchFailed):
                raise answer.error
            if isinstance(answer, ev.Suggested):
                for one in answer.suggestions:
                    one.resources = self._plan.resources(one.config)
            found.append(answer)
            self._latch = None
        return found

    def waited_for(self) -> list[Any]:
        """References that get a value with the next answer."""
        return [self._latch.ref] if self._latch is not None else []

    def close(self) -> None:
        """End the thread."""
        self.asking.close()
