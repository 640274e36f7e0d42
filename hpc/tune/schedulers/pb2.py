"""Population based bandits: population based training whose new configurations come from a model of what they bring."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hpc.tune.error import TuneError
from hpc.tune.schedulers.pbt import Member, PopulationBasedTraining
from hpc.tune.schedulers.pbt_explore import explored
from hpc.tune.trial import Trial

#: The model looks at so many of the latest changes: its time grows with the cube of their number.
LATEST = 200
Path = tuple[str, ...]


class PB2(PopulationBasedTraining):
    """Population based bandits. Needs scikit-learn: RuntimeError without it.

    hyperparam_bounds: for each key its least and its largest value, or a dict of these; missing values of trials are
    drawn between them. Whole numbers stay whole. custom_explore_fn: is given the proposed configuration, returns a
    better one. Other arguments are those of PopulationBasedTraining.
    """

    kept = (*PopulationBasedTraining.kept, "_rows", "_under_way", "_explored_at")

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | None = None,
        mode: str | None = None,
        perturbation_interval: float = 60.0,
        hyperparam_bounds: dict[str, Any] | None = None,
        quantile_fraction: float = 0.25,
        log_config: bool = True,
        require_attrs: bool = True,
        synch: bool = False,
        custom_explore_fn: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        if importlib.util.find_spec("sklearn") is None:
            raise RuntimeError("PB2 needs scikit-learn: pip install hpc[pb2]")
        if not hyperparam_bounds:
            raise TuneError("PB2 needs hyperparam_bounds")
        self._bounds = _flat(hyperparam_bounds)
        _check(self._bounds)
        super().__init__(
            time_attr=time_attr,
            metric=metric,
            mode=mode,
            perturbation_interval=perturbation_interval,
            hyperparam_mutations=hyperparam_bounds,
            quantile_fraction=quantile_fraction,
            resample_probability=0,
            custom_explore_fn=custom_explore_fn,
            log_config=log_config,
            require_attrs=require_attrs,
            synch=synch,
        )
        #: What trials had when they were looked at: the trial, its time, its values, its score.
        self._rows: list[tuple[str, float, tuple[float, ...], float]] = []
        #: The values that were proposed since trials have last come further, and how far that was.
        self._under_way: list[tuple[float, ...]] = []
        self._explored_at: float = 0

    def _fill(self, trial: Trial) -> None:
        for path, (low, high) in self._bounds.items():
            part = trial.config
            for key in path[:-1]:
                part = part.setdefault(key, {})
            if path[-1] not in part:
                part[path[-1]] = self._dice.domains.uniform(low, high)
                trial.evaluated_params["/".join(path)] = part[path[-1]]

    def _save_trial_state(self, member: Member, time: float, result: dict[str, Any], trial: Trial) -> float:
        score = super()._save_trial_state(member, time, result, trial)
        self._rows.append((trial.trial_id, time, self._values(trial.config), score))
        del self._rows[: -10 * LATEST]
        return score

    def _values(self, config: dict[str, Any]) -> tuple[float, ...]:
        return tuple(_at(config, path) for path in self._bounds)

    def _get_new_config(self, trial: Trial, trial_to_clone: Trial) -> tuple[dict[str, Any], dict[str, Any]]:
        """The donor's configuration with the values that the model proposes; as it is where nothing is known of it."""
        latest = max((time for _, time, _, _ in self._rows), default=0)
        if latest > self._explored_at:
            self._explored_at, self._under_way = latest, []
        changes = self._changes()
        of_donor = [row for row in changes if row[0] == trial_to_clone.trial_id]
        config = copy.deepcopy(trial_to_clone.config)
        if of_donor:
            _, now, before, _, gain, span = of_donor[-1]
            self._propose(config, changes, (now, before))
            self._rows.append((trial.trial_id, now, self._values(config), before + gain * span))
        self._under_way.append(self._values(config))
        return explored(config, self._custom_explore_fn), {}

    def _propose(self, config: dict[str, Any], changes: list[Any], now: tuple[float, float]) -> None:
        """Put the model's values into a configuration."""
        from hpc.tune.schedulers.pb2_gp import propose

        rows = np.array([[time, before, *values] for _, time, before, values, _, _ in changes])
        gains = np.array([gain for *_, gain, _ in changes])
        found = propose(rows, gains, np.array(now), self._under_way, list(self._bounds.values()), self._dice.domains)
        for path, value in zip(self._bounds, found):
            part = config
            for key in path[:-1]:
                part = part[key]
            kind = type(part[path[-1]])
            part[path[-1]] = kind(round(value)) if kind is int else kind(value)

    def _changes(self) -> list[tuple[str, float, float, tuple[float, ...], float, float]]:
        """What each interval brought, by time: the trial, the time, the score before, values, gain per time, the time.

        An interval counts if the values stayed the same, and scores are finite.
        """
        last: dict[tuple[str, tuple[float, ...]], tuple[float, float]] = {}
        found = []
        for trial_id, time, values, score in sorted(self._rows, key=lambda row: row[1]):
            before = last.get((trial_id, values))
            if before is not None and time > before[0] and np.isfinite([score, before[1]]).all():
                span = time - before[0]
                found.append((trial_id, time, before[1], values, (score - before[1]) / span, span))
            last[trial_id, values] = (time, score)
        return found[-LATEST:]


def _flat(bounds: Mapping[str, Any], above: Path = ()) -> dict[Path, Any]:
    found: dict[Path, Any] = {}
    for key, value in bounds.items():
        found.update(_flat(value, (*above, key)) if isinstance(value, Mapping) else {(*above, key): value})
    return found


def _check(bounds: Mapping[Path, Any]) -> None:
    for path, value in bounds.items():
        name = "/".join(path)
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise ValueError(f"hyperparam_bounds[{name!r}] must be [least, largest], not {value!r}")
        if value[0] > value[1]:
            raise ValueError(
                f"hyperparam_bounds[{name!r}] must be [least, largest], and {value[0]} is above {value[1]}"
            )


def _at(config: dict[str, Any], path: Path) -> float:
    value: Any = config
    for key in path:
        value = value[key]
    number: float = value
    return number
