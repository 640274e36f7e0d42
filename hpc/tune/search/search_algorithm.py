"""Where the trials of an experiment come from, as its runner sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpc.tune.events import Exhausted, NothingNow, Suggested, Suggestion

__all__ = ["SearchAlgorithm"]


class SearchAlgorithm:
    """Makes trials of a search space. `begin` says which space, and comes first; then `load` of a saved state, if any.

    Facts that are later than the state follow: `adopt` for each trial made since, `on_trial_result` and
    `on_trial_complete` for what became of it.
    """

    #: Whether a suggestion can take long, or a result: `hpc.tune.search.asking` then keeps a thread for it.
    slow = False
    #: Whether results before the last one mean something to it.
    hears_results = False
    metric: Any = None
    mode: Any = None

    def set_search_properties(self, metric: Any, mode: Any, config: Mapping[str, Any], **spec: Any) -> bool:
        """What is searched for, and where. False: the algorithm has a space of its own."""
        if metric is not None:
            self.metric = metric
        if mode is not None:
            self.mode = mode
        return True

    def begin(self, space: Mapping[str, Any], num_samples: int) -> None:
        """The space of the experiment, and how many samples are wanted of it; -1: without an end."""
        raise NotImplementedError

    @property
    def total_samples(self) -> float:
        """How many trials there will be, as far as that is known; infinity without an end."""
        raise NotImplementedError

    def suggest_next(self, count: int) -> Suggested | NothingNow | Exhausted:
        """Up to `count` trials, at least one; or that there is none for now, or none any more."""
        raise NotImplementedError

    def is_finished(self) -> bool:
        """Whether there are no further trials, as far as that is known without asking."""
        raise NotImplementedError

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A result of a trial that goes on."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The trial has ended, with its last result, or with an error."""

    def adopt(self, suggestion: Suggestion) -> None:
        """A trial that the algorithm made after its state was saved: it is not to make it again."""
        raise NotImplementedError

    def state(self) -> Any:
        """What `load` of another object needs to go on from here; it can be pickled."""
        raise NotImplementedError

    def load(self, state: Any) -> None:
        """Go on from a state, with the space that `begin` has given."""
        raise NotImplementedError
