"""Search by Ax: Bayesian optimization of Meta's Adaptive Experimentation platform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpc.tune.search.adapted import AdaptedSearcher, Values
from hpc.tune.search.convert import Parameter
from hpc.tune.search.missing import library

__all__ = ["AxSearch"]

_TYPES = {bool: "bool", int: "int", float: "float", str: "str"}


class AxSearch(AdaptedSearcher):
    """Suggestions of an Ax experiment.

    space: a dict of domains, or None for the Tuner's param_space. parameter_constraints: as ["x1 + x2 <= 2"].
    outcome_constraints: as ["memory <= 5"], of further keys of results. Further arguments are those of
    `configure_generation_strategy` of Ax's Client, and `random_seed`.
    """

    def __init__(
        self,
        space: dict[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[dict[str, Any]] | None = None,
        parameter_constraints: Sequence[str] | None = None,
        outcome_constraints: Sequence[str] | None = None,
        ax_client: Any = None,
        **ax_kwargs: Any,
    ):
        self._api = library("ax.api.client", "ax-platform", "AxSearch")
        if ax_client is not None:
            raise ValueError("AxSearch makes its client itself: leave ax_client out, and give space and constraints")
        self._constraints = list(parameter_constraints or ())
        self._outcomes = list(outcome_constraints or ())
        self._options = ax_kwargs
        self._client: Any = None
        self._results: dict[str, dict[str, Any]] = {}
        super().__init__(space, metric, mode, points_to_evaluate)

    def _make(self, parameters: Mapping[str, Parameter]) -> None:
        options = dict(self._options)
        self._client = self._api.Client(random_seed=options.pop("random_seed", None))
        self._client.configure_experiment(
            parameters=[self._kind(parameter) for parameter in parameters.values()],
            parameter_constraints=[_named(text, parameters) for text in self._constraints],
        )
        self._client.configure_optimization(objective="-loss", outcome_constraints=self._outcomes or None)
        if options:
            self._client.configure_generation_strategy(**options)

    def _kind(self, parameter: Parameter) -> Any:
        configs = library("ax.api.configs", "ax-platform", "AxSearch")
        name = _plain(parameter.name)
        if parameter.values is not None:
            kinds = {type(value) for value in parameter.values}
            if len(kinds) != 1 or next(iter(kinds)) not in _TYPES:
                raise ValueError(
                    f"`{parameter.name}` is a choice among {list(parameter.values)}: AxSearch takes values of one "
                    "type, which is bool, int, float or str"
                )
            return configs.ChoiceParameterConfig(name, list(parameter.values), _TYPES[next(iter(kinds))])
        if parameter.sd:
            raise ValueError(f"`{parameter.name}` is a normal distribution, which Ax does not know: give a range")
        kind, scaling = "int" if parameter.whole else "float", "log" if parameter.log else "linear"
        return configs.RangeParameterConfig(name, (parameter.low, parameter.high), kind, scaling=scaling)

    def _propose(self) -> tuple[int, Values]:
        ((index, found),) = self._client.get_next_trials(max_trials=1).items()
        assert self._flat is not None
        return index, {name: found[_plain(name)] for name in self._flat.parameters}

    def _place(self, values: Values) -> int:
        index: int = self._client.attach_trial({_plain(name): value for name, value in values.items()})
        return index

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._results[str(self._open[trial_id][0])] = result or {}
        super().on_trial_complete(trial_id, result, error)

    def _learn(self, known_by: Any, values: Values, loss: float | None) -> None:
        result = self._results.pop(str(known_by), {})
        names = [text.split()[0] for text in self._outcomes]
        if loss is None or any(name not in result for name in names):
            self._client.mark_trial_failed(known_by)
        else:
            self._client.complete_trial(known_by, {"loss": loss, **{name: float(result[name]) for name in names}})

    def _keep(self) -> Any:
        return self._client

    def _return(self, kept: Any) -> None:
        self._client = kept


def _plain(name: str) -> str:
    """A name that Ax's expressions can hold."""
    return name.replace("/", "__")


def _named(text: str, parameters: Mapping[str, Parameter]) -> str:
    for name in sorted(parameters, key=len, reverse=True):
        text = text.replace(name, _plain(name))
    return text
