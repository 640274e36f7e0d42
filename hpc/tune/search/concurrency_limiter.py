"""A searcher that lets another one run so many trials at a time."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from hpc.tune.search.searcher import Searcher, told_properties

__all__ = ["ConcurrencyLimiter"]


class ConcurrencyLimiter(Searcher):
    """Gives suggestions of `searcher` while less than `max_concurrent` trials of it run.

    A searcher that counts its trials itself is told the number instead. batch: the searcher learns of the trials when
    all that run have ended.
    """

    def __init__(self, searcher: Searcher, max_concurrent: int, batch: bool = False):
        if isinstance(max_concurrent, bool) or not isinstance(max_concurrent, int) or max_concurrent < 1:
            raise ValueError(f"max_concurrent has to be 1 trial or more, not {max_concurrent!r}")
        if not isinstance(searcher, Searcher):
            raise RuntimeError(
                f"ConcurrencyLimiter takes a Searcher, not {type(searcher).__name__}; BasicVariantGenerator has a "
                "max_concurrent of its own"
            )
        self.searcher = searcher
        self.max_concurrent = max_concurrent
        self.batch = batch
        self.live_trials: set[str] = set()
        self.num_unfinished_live_trials = 0
        self.cached_results: dict[str, tuple[dict[str, Any] | None, bool]] = {}
        self._limit_concurrency = not searcher.set_max_concurrency(max_concurrent)
        super().__init__(searcher.metric, searcher.mode)

    @property
    def metric(self) -> Any:
        return self.searcher.metric

    @property
    def mode(self) -> Any:
        return self.searcher.mode

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        self.max_concurrent = max_concurrent
        self._limit_concurrency = not self.searcher.set_max_concurrency(max_concurrent)
        return True

    def set_search_properties(self, metric: Any, mode: Any, config: dict[str, Any], **spec: Any) -> bool:
        self._limit_concurrency = not self.searcher.set_max_concurrency(self.max_concurrent)
        return told_properties(self.searcher, metric, mode, config, **spec)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if not self._limit_concurrency:
            return self.searcher.suggest(trial_id)
        if len(self.live_trials) >= self.max_concurrent:
            return None
        suggestion = self.searcher.suggest(trial_id)
        if suggestion is not None and suggestion != Searcher.FINISHED:
            self._runs(trial_id)
        return suggestion

    def _runs(self, trial_id: str) -> None:
        self.live_trials.add(trial_id)
        self.num_unfinished_live_trials += 1

    def adopt(self, trial_id: str, parameters: Mapping[str, Any]) -> bool:
        if self._limit_concurrency:
            self._runs(trial_id)
        return self.searcher.adopt(trial_id, parameters)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.searcher.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if not self._limit_concurrency:
            self.searcher.on_trial_complete(trial_id, result=result, error=error)
            return
        if trial_id not in self.live_trials or trial_id in self.cached_results:
            return
        self.num_unfinished_live_trials -= 1
        self.cached_results[trial_id] = (result, error)
        self._tell()

    def forget(self, trial_id: str) -> None:
        if trial_id in self.live_trials:
            self.live_trials.remove(trial_id)
            self.num_unfinished_live_trials -= 1
            self._tell()
        self.searcher.forget(trial_id)

    def _tell(self) -> None:
        if self.batch and self.num_unfinished_live_trials > 0:
            return
        told, self.cached_results = self.cached_results, {}
        for ended, (last, failed) in told.items():
            self.live_trials.remove(ended)
            self.searcher.on_trial_complete(ended, result=last, error=failed)

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        self.searcher.add_evaluated_point(parameters, value, error, pruned, intermediate_values)

    def get_state(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name != "searcher"}
        return copy.deepcopy(state)

    def set_state(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def state(self) -> Any:
        return {
            "live": set(self.live_trials),
            "unfinished": self.num_unfinished_live_trials,
            "kept": dict(self.cached_results),
            "searcher": self.searcher.state(),
        }

    def load(self, state: Any) -> None:
        self.live_trials = set(state["live"])
        self.num_unfinished_live_trials = state["unfinished"]
        self.cached_results = dict(state["kept"])
        self.searcher.load(state["searcher"])

    def save(self, checkpoint_path: str) -> None:
        self.searcher.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        self.searcher.restore(checkpoint_path)

    def on_pause(self, trial_id: str) -> None:
        """A trial of the searcher waits (BOHB)."""
        self.searcher.on_pause(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """A trial of the searcher goes on (BOHB)."""
        self.searcher.on_unpause(trial_id)
