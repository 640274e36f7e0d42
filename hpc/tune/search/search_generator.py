"""The trials of an experiment whose configurations a searcher suggests."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Mapping
from typing import Any

from hpc.tune.events import Exhausted, NothingNow, Suggested, Suggestion
from hpc.tune.flat import flatten_dict
from hpc.tune.naming import experiment_tag
from hpc.tune.search.repeater import Repeater
from hpc.tune.search.search_algorithm import SearchAlgorithm
from hpc.tune.search.searcher import Searcher, told_properties
from hpc.tune.variants import fresh, is_leaf

__all__ = ["SearchGenerator"]

logger = logging.getLogger(__name__)


class SearchGenerator(SearchAlgorithm):
    """Makes a trial of each suggestion of `searcher`, together with the constants of the space."""

    slow = True

    def __init__(self, searcher: Searcher):
        if not isinstance(searcher, Searcher):
            raise ValueError(f"search_alg has to be a Searcher, not {searcher!r}")
        self.searcher = searcher
        self._space: Mapping[str, Any] = {}
        self._total: float = 0
        self._made = 0
        self._finished = False
        # Trials that the searcher's state does not know of, with their parameters.
        self._unknown: dict[str, dict[str, Any]] = {}

    @property
    def innermost(self) -> Searcher:
        """The searcher itself, without those around it."""
        searcher = self.searcher
        while isinstance(getattr(searcher, "searcher", None), Searcher):
            searcher = searcher.searcher  # type: ignore[attr-defined]
        return searcher

    @property
    def hears_results(self) -> bool:  # type: ignore[override]
        return type(self.innermost).on_trial_result is not Searcher.on_trial_result

    @property
    def metric(self) -> Any:
        return self.searcher.metric

    @property
    def mode(self) -> Any:
        return self.searcher.mode

    def set_search_properties(self, metric: Any, mode: Any, config: Mapping[str, Any], **spec: Any) -> bool:
        return told_properties(self.searcher, metric, mode, dict(config), **spec)

    def begin(self, space: Mapping[str, Any], num_samples: int) -> None:
        self._space = space
        self._total = math.inf if num_samples == -1 else num_samples
        if isinstance(self.searcher, Repeater) and self._total != math.inf and num_samples % self.searcher.repeat:
            logger.warning(
                "num_samples counts all trials: of %d the last %d are fewer than the %d of one suggestion, and useless",
                num_samples,
                num_samples % self.searcher.repeat,
                self.searcher.repeat,
            )

    @property
    def total_samples(self) -> float:
        return self._total

    def suggest_next(self, count: int) -> Suggested | NothingNow | Exhausted:
        made: list[Suggestion] = []
        while len(made) < count and not self.is_finished():
            trial_id = uuid.uuid4().hex[:8]
            found = self.searcher.suggest(trial_id)
            if found is None:
                break
            if isinstance(found, str) and found == Searcher.FINISHED:
                self._finished = True
            else:
                made.append(self._suggestion(trial_id, found))
        if made:
            return Suggested(made)
        return Exhausted() if self.is_finished() else NothingNow()

    def _suggestion(self, trial_id: str, found: Any) -> Suggestion:
        if not isinstance(found, dict):
            raise TypeError(
                f"suggest() of {type(self.innermost).__name__} has to return a dict, None or Searcher.FINISHED, "
                f"not {found!r}"
            )
        config = _merged(self._space, found)
        self._made += 1
        return Suggestion(trial_id, config, flatten_dict(found), experiment_tag(self._made, flatten_dict(config)))

    def is_finished(self) -> bool:
        return self._finished or self._made >= self._total

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if trial_id not in self._unknown:
            self.searcher.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        parameters = self._unknown.pop(trial_id, None)
        if parameters is None:
            self.searcher.on_trial_complete(trial_id, result=result, error=error)
            return
        self.searcher.forget(trial_id)
        value = (result or {}).get(self.metric) if isinstance(self.metric, str) else None
        if value is None or error:
            return
        try:
            self.searcher.add_evaluated_point(parameters, value)
        except NotImplementedError:
            logger.warning("%s cannot learn from a trial that its state does not know", type(self.innermost).__name__)

    def adopt(self, suggestion: Suggestion) -> None:
        self._made += 1
        if not self.searcher.adopt(suggestion.trial_id, suggestion.evaluated_params):
            self._unknown[suggestion.trial_id] = dict(suggestion.evaluated_params)

    def on_pause(self, trial_id: str) -> None:
        """A trial waits for others, its scheduler says. Only some searchers (BOHB) want to know."""
        self.searcher.on_pause(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """A trial that waited goes on."""
        self.searcher.on_unpause(trial_id)

    def state(self) -> Any:
        return {
            "made": self._made,
            "finished": self._finished,
            "unknown": dict(self._unknown),
            "searcher": self.searcher.state(),
        }

    def load(self, state: Any) -> None:
        self._made, self._finished, self._unknown = state["made"], state["finished"], dict(state["unknown"])
        self.searcher.load(state["searcher"])


def _merged(space: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The constants of a space, and over them what was suggested."""
    merged: dict[str, Any] = fresh(dict(space))
    _put(merged, found)
    return merged


def _put(there: dict[str, Any], found: Mapping[str, Any]) -> None:
    for name, value in found.items():
        inner = there.get(name)
        if isinstance(inner, dict) and isinstance(value, dict) and not is_leaf(inner):
            _put(inner, value)
        else:
            there[name] = fresh(value)
