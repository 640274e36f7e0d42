"""Search by HyperOpt's tree of Parzen estimators."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpc.tune.search.adapted import AdaptedSearcher, Values
from hpc.tune.search.convert import Parameter
from hpc.tune.search.missing import library

__all__ = ["HyperOptSearch"]


class HyperOptSearch(AdaptedSearcher):
    """Suggestions of HyperOpt.

    space: a dict of domains, or None for the Tuner's param_space. n_initial_points: how many suggestions are random.
    random_state_seed: the same one gives the same first suggestions. gamma: the share of results that count as good.
    """

    def __init__(
        self,
        space: dict[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[dict[str, Any]] | None = None,
        n_initial_points: int = 20,
        random_state_seed: int | None = None,
        gamma: float = 0.25,
    ):
        self._hyperopt = library("hyperopt", "hyperopt", "HyperOptSearch")
        suggest = library("hyperopt.tpe", "hyperopt", "HyperOptSearch").suggest
        self._algorithm = functools.partial(suggest, n_startup_jobs=n_initial_points, gamma=gamma, verbose=False)
        self._random = np.random.default_rng(random_state_seed)
        self._parameters: Mapping[str, Parameter] = {}
        self._domain: Any = None
        self._trials: Any = None
        super().__init__(space, metric, mode, points_to_evaluate)

    def _make(self, parameters: Mapping[str, Parameter]) -> None:
        self._parameters = parameters
        space = {name: self._expression(parameter) for name, parameter in parameters.items()}
        self._domain = library("hyperopt.base", "hyperopt", "HyperOptSearch").Domain(lambda values: values, space)
        self._trials = self._hyperopt.Trials()

    def _expression(self, parameter: Parameter) -> Any:
        hp, name = self._hyperopt.hp, parameter.name
        if parameter.values is not None:
            return hp.choice(name, list(range(len(parameter.values))))
        if parameter.sd:
            return hp.normal(name, parameter.mean, parameter.sd)
        if parameter.whole and not parameter.log and not parameter.step:
            return hp.uniformint(name, int(parameter.low), int(parameter.high))
        half = 0.5 if parameter.whole else 0.0  # rounded later, so that each whole number is as wide
        low, high = parameter.low - half, parameter.high + half
        if parameter.log:
            return hp.loguniform(name, math.log(low if low > 0 else parameter.low), math.log(high))
        return hp.uniform(name, low, high)

    def _raw(self, name: str, value: Any) -> Any:
        parameter = self._parameters[name]
        return value if parameter.values is None else parameter.place(value)

    def _propose(self) -> tuple[Any, Values]:
        ids = self._trials.new_trial_ids(1)
        self._trials.refresh()
        document = self._algorithm(ids, self._domain, self._trials, int(self._random.integers(2**31)))[0]
        self._insert(document)
        found = {name: values[0] for name, values in document["misc"]["vals"].items()}
        values = {
            name: value if self._parameters[name].values is None else self._parameters[name].values[int(value)]  # type: ignore[index]
            for name, value in found.items()
        }
        return document["tid"], values

    def _insert(self, document: Any) -> None:
        document["state"] = self._hyperopt.JOB_STATE_RUNNING
        self._trials.insert_trial_doc(document)
        self._trials.refresh()

    def _place(self, values: Values) -> Any:
        tid = self._trials.new_trial_ids(1)[0]
        misc = {
            "tid": tid,
            "cmd": self._domain.cmd,
            "workdir": None,
            "idxs": {name: [tid] for name in values},
            "vals": {name: [self._raw(name, value)] for name, value in values.items()},
        }
        self._insert(self._trials.new_trial_docs([tid], [None], [{"status": "new"}], [misc])[0])
        return tid

    def _learn(self, known_by: Any, values: Values, loss: float | None) -> None:
        document = next(one for one in self._trials._dynamic_trials if one["tid"] == known_by)
        if loss is None:
            document["state"] = self._hyperopt.JOB_STATE_ERROR
            document["misc"]["error"] = ("TrialError", "the trial failed, or had no such metric")
        else:
            document["state"] = self._hyperopt.JOB_STATE_DONE
            document["result"] = {"status": "ok", "loss": loss}
        self._trials.refresh()

    def _keep(self) -> Any:
        return {"trials": self._trials, "random": self._random.bit_generator.state}

    def _return(self, kept: Any) -> None:
        self._trials = kept["trials"]
        self._random.bit_generator.state = kept["random"]
