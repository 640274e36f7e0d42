"""A searcher that tries each suggestion of another one several times."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping
from typing import Any

from hpc.tune.search.searcher import Searcher, told_properties

__all__ = ["TRIAL_INDEX", "Repeater"]

logger = logging.getLogger(__name__)

#: The key of a configuration that says the how many-th trial of its suggestion it is, counted from 0.
TRIAL_INDEX = "__trial_index__"


class Repeater(Searcher):
    """Makes `repeat` trials of each suggestion of `searcher`, which learns the mean of their values.

    The number of samples counts all trials: make it a multiple of `repeat`. set_index: the configuration has
    `__trial_index__`, from 0, as for a seed. A failed trial has no part in the mean. A scheduler that stops trials
    early spoils it.
    """

    def __init__(self, searcher: Searcher, repeat: int = 1, set_index: bool = True):
        if isinstance(repeat, bool) or not isinstance(repeat, int) or repeat < 1:
            raise ValueError(f"repeat has to be 1 trial or more, not {repeat!r}")
        if not isinstance(searcher, Searcher):
            raise ValueError(f"Repeater takes a Searcher, not {type(searcher).__name__}")
        self.searcher = searcher
        self.repeat = repeat
        self._set_index = set_index
        # The trials of each suggestion, by its first one: the value of each; None is not known yet.
        self._groups: dict[str, dict[str, float | None]] = {}
        self._configs: dict[str, dict[str, Any]] = {}
        self._first_of: dict[str, str] = {}
        self._filling: str | None = None
        super().__init__(searcher.metric, searcher.mode)

    @property
    def metric(self) -> Any:
        return self.searcher.metric

    @property
    def mode(self) -> Any:
        return self.searcher.mode

    def set_search_properties(self, metric: Any, mode: Any, config: dict[str, Any], **spec: Any) -> bool:
        return told_properties(self.searcher, metric, mode, config, **spec)

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        return False

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._filling is None:
            config = self.searcher.suggest(trial_id)
            if config is None or isinstance(config, str):
                return config
            self._configs[trial_id] = copy.deepcopy(config)
        return self._with_index(trial_id)

    def _with_index(self, trial_id: str) -> dict[str, Any]:
        first = self._filling or trial_id
        group = self._groups.setdefault(first, {})
        config = copy.deepcopy(self._configs[first])
        if self._set_index:
            config[TRIAL_INDEX] = len(group)
        group[trial_id] = None
        self._first_of[trial_id] = first
        self._filling = first if len(group) < self.repeat else None
        return config

    def adopt(self, trial_id: str, parameters: Mapping[str, Any]) -> bool:
        if self._filling is None:
            own = {name: value for name, value in parameters.items() if name != TRIAL_INDEX}
            if not self.searcher.adopt(trial_id, own):
                return False
            self._configs[trial_id] = own
        self._with_index(trial_id)
        return True

    def forget(self, trial_id: str) -> None:
        self.searcher.forget(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        first = self._first_of.pop(trial_id, None)
        if first is None:
            logger.error("the trial %s is none of those that were suggested: its value is not used", trial_id)
            return
        group = self._groups[first]
        value = (result or {}).get(self.metric)
        group[trial_id] = math.nan if value is None or error else value
        if len(group) < self.repeat or None in group.values():
            return
        del self._groups[first], self._configs[first]
        known = [value for value in group.values() if value is not None and not math.isnan(value)]
        if known:
            self.searcher.on_trial_complete(first, result={**(result or {}), self.metric: sum(known) / len(known)})
        else:
            self.searcher.on_trial_complete(first, error=True)

    def get_state(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name != "searcher"}
        return copy.deepcopy(state)

    def set_state(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def state(self) -> Any:
        kept = ("_groups", "_configs", "_first_of", "_filling")
        return {"own": copy.deepcopy({name: vars(self)[name] for name in kept}), "searcher": self.searcher.state()}

    def load(self, state: Any) -> None:
        vars(self).update(copy.deepcopy(state["own"]))
        self.searcher.load(state["searcher"])

    def save(self, checkpoint_path: str) -> None:
        self.searcher.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        self.searcher.restore(checkpoint_path)
