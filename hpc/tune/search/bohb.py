"""BOHB: density estimates of good and bad configurations, on the largest budget that has enough results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpc.tune.search.adapted import AdaptedSearcher, Values
from hpc.tune.search.convert import Parameter
from hpc.tune.search.density import Density, Dimension
from hpc.tune.search.goal import loss as loss_of

__all__ = ["TuneBOHB"]

_SETTINGS = {
    "min_points_in_model": None,
    "top_n_percent": 15,
    "num_samples": 64,
    "random_fraction": 1 / 3,
    "bandwidth_factor": 3.0,
    "min_bandwidth": 1e-3,
}


class TuneBOHB(AdaptedSearcher):
    """The searcher of BOHB; HyperBandForBOHB is its scheduler. It needs no further package.

    space: a dict of domains, or None for the Tuner's param_space. bohb_config: settings of the method, as
    `{"top_n_percent": 15, "num_samples": 64, "random_fraction": 1/3, "min_points_in_model": None,
    "bandwidth_factor": 3, "min_bandwidth": 1e-3}`. max_concurrent: how many trials may run at a time; 0 is any number.
    Under another scheduler it learns from the last result of each trial.
    """

    def __init__(
        self,
        space: dict[str, Any] | None = None,
        bohb_config: dict[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[dict[str, Any]] | None = None,
        seed: int | None = None,
        max_concurrent: int = 0,
    ):
        unknown = set(bohb_config or ()) - set(_SETTINGS)
        if unknown:
            raise ValueError(f"bohb_config has no setting {sorted(unknown)[0]!r}: it has {', '.join(_SETTINGS)}")
        self._settings: dict[str, Any] = {**_SETTINGS, **(bohb_config or {})}
        self._max_concurrent = max_concurrent
        self._random = np.random.default_rng(seed)
        self._dimensions: list[Dimension] = []
        # For each budget the values, as points of the unit cube, and their losses, by the trial.
        self._seen: dict[float, dict[str, tuple[np.ndarray, float]]] = {}
        self.running: set[str] = set()
        self.paused: set[str] = set()
        super().__init__(space, metric, mode, points_to_evaluate)

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        self._max_concurrent = max_concurrent
        return True

    def _make(self, parameters: Mapping[str, Parameter]) -> None:
        self._dimensions = [Dimension(parameter) for parameter in parameters.values()]

    # -------------------------------------------------------------- suggesting

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if 0 < self._max_concurrent <= len(self.running):
            return None
        found = super().suggest(trial_id)
        self.running.add(trial_id)
        return found

    def adopt(self, trial_id: str, parameters: Mapping[str, Any]) -> bool:
        """Whatever was suggested can be learnt from."""
        flat = self._need()
        if not super().adopt(trial_id, parameters):
            self._open[trial_id] = (None, flat.flat(parameters))
        self.running.add(trial_id)
        return True

    def _propose(self) -> tuple[None, Values]:
        place = self._by_model()
        if place is None:
            place = np.array([dimension.draw(self._random) for dimension in self._dimensions])
        return None, {one.parameter.name: one.value(share) for one, share in zip(self._dimensions, place)}

    def _by_model(self) -> np.ndarray | None:
        """The place with the best ratio of densities among those drawn from the good one; None: draw at random."""
        settings = self._settings
        least = max(settings["min_points_in_model"] or 0, len(self._dimensions) + 1)
        budgets = [budget for budget, seen in self._seen.items() if len(seen) >= least + 2]
        if not budgets or self._random.random() < settings["random_fraction"]:
            return None
        ranked = sorted(self._seen[max(budgets)].values(), key=lambda one: one[1])
        places = np.array([place for place, _ in ranked])
        good = max(least, len(ranked) * settings["top_n_percent"] // 100)
        bad = max(least, len(ranked) * (100 - settings["top_n_percent"]) // 100)
        narrow = Density(self._dimensions, places[:good], settings["min_bandwidth"])
        wide = Density(self._dimensions, places[-bad:], settings["min_bandwidth"])
        drawn = narrow.draw(self._random, settings["num_samples"], settings["bandwidth_factor"])
        best: np.ndarray = drawn[int(np.argmax(narrow.log(drawn) - wide.log(drawn)))]
        return best

    # -------------------------------------------------------------- learning

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if trial_id in self._open and trial_id not in self.paused:
            self.running.add(trial_id)
        budget = result.get("hyperband_info", {}).get("budget")
        if budget is not None:
            self._see(trial_id, budget, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if not error and result:
            budget = result.get("hyperband_info", {}).get("budget")
            # Without budgets all trials are compared by their last results.
            if budget is not None or set(self._seen) <= {0.0}:
                self._see(trial_id, budget or 0.0, result)
        self._open.pop(trial_id, None)
        self.paused.discard(trial_id)
        self.running.discard(trial_id)

    def _see(self, trial_id: str, budget: float, result: dict[str, Any]) -> None:
        value = loss_of(result, self._metric, self._mode)
        if trial_id in self._open and value is not None:
            self._learn(trial_id, self._open[trial_id][1], value, budget)

    def _learn(self, known_by: Any, values: Values, loss: float | None, budget: float = 0.0) -> None:
        if loss is None:
            return
        place = np.array([one.place(values[one.parameter.name]) for one in self._dimensions])
        seen = self._seen.setdefault(budget, {})
        seen[known_by or f"point {len(seen)}"] = (place, loss)

    def on_pause(self, trial_id: str) -> None:
        """The trial waits for others of its bracket."""
        self.paused.add(trial_id)
        self.running.discard(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """The trial goes on."""
        self.paused.discard(trial_id)
        self.running.add(trial_id)

    # -------------------------------------------------------------- state

    def _keep(self) -> Any:
        seen = {budget: dict(by_trial) for budget, by_trial in self._seen.items()}
        random = self._random.bit_generator.state
        return {"seen": seen, "running": set(self.running), "paused": set(self.paused), "random": random}

    def _return(self, kept: Any) -> None:
        self._seen = {budget: dict(by_trial) for budget, by_trial in kept["seen"].items()}
        self.running, self.paused = set(kept["running"]), set(kept["paused"])
        self._random.bit_generator.state = kept["random"]
