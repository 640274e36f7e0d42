"""Search by the package bayesian-optimization: a Gaussian process over ranges of real numbers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hpc.tune.search.adapted import AdaptedSearcher, NoValues, Values
from hpc.tune.search.convert import Parameter
from hpc.tune.search.missing import library

__all__ = ["BayesOptSearch"]

logger = logging.getLogger(__name__)


class BayesOptSearch(AdaptedSearcher):
    """Suggestions of a Gaussian process, for ranges of real numbers alone.

    utility_kwargs: of the acquisition function, as `{"kind": "ucb", "kappa": 2.576, "xi": 0.0}`. random_search_steps:
    how many results the first fit needs; so many trials are random. patience: the search ends when one configuration
    was found more often. skip_duplicate: a configuration that was suggested before is not suggested again.
    repeat_float_precision: to how many digits configurations are compared. analysis: an ExperimentAnalysis to learn
    from.
    """

    def __init__(
        self,
        space: dict[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[dict[str, Any]] | None = None,
        utility_kwargs: dict[str, Any] | None = None,
        random_state: int = 42,
        random_search_steps: int = 10,
        verbose: int = 0,
        patience: int = 5,
        skip_duplicate: bool = True,
        analysis: Any = None,
        repeat_float_precision: int = 5,
    ):
        self._library = library("bayes_opt", "bayesian-optimization", "BayesOptSearch")
        if patience <= 0:
            raise ValueError(f"patience has to be 1 or more, not {patience}")
        if repeat_float_precision < 0:
            raise ValueError(f"repeat_float_precision has to be 0 digits or more, not {repeat_float_precision}")
        self._utility = {"kind": "ucb", "kappa": 2.576, "xi": 0.0, **(utility_kwargs or {})}
        self._random_state = random_state
        self._random_steps = random_search_steps
        self._verbose = verbose
        self._patience = patience
        self._skip_duplicate = skip_duplicate
        self._analysis = analysis
        self._digits = repeat_float_precision
        self._optimizer: Any = None
        self._found: Counter[tuple[float, ...]] = Counter()
        self._random_made = 0
        self._known = 0
        self._waiting: list[tuple[Values, float]] = []  # results of random trials, until all are there
        super().__init__(space, metric, mode, points_to_evaluate)

    def _make(self, parameters: Mapping[str, Parameter]) -> None:
        for name, one in parameters.items():
            if one.values is not None or one.whole or one.sd:
                raise ValueError(f"BayesOptSearch searches ranges of real numbers only, as uniform(): `{name}` is none")
            if one.log or one.step:
                logger.warning(
                    "BayesOptSearch searches `%s` evenly between its bounds, without logarithms and steps", name
                )
        bounds = {name: (one.low, one.high) for name, one in parameters.items()}
        options: dict[str, Any] = {"random_state": self._random_state, "verbose": self._verbose}
        if not hasattr(self._library, "UtilityFunction"):  # from version 2 on
            options["acquisition_function"] = self._acquisition()
        self._optimizer = self._library.BayesianOptimization(
            f=None, pbounds=bounds, allow_duplicate_points=True, **options
        )
        if self._analysis is not None:
            self.add_evaluated_trials(self._analysis, str(self._metric))

    def _acquisition(self) -> Any:
        kinds = library("bayes_opt.acquisition", "bayesian-optimization", "BayesOptSearch")
        if self._utility["kind"] == "ucb":
            return kinds.UpperConfidenceBound(kappa=self._utility["kappa"])
        kind = {"ei": kinds.ExpectedImprovement, "poi": kinds.ProbabilityOfImprovement}[self._utility["kind"]]
        return kind(xi=self._utility["xi"])

    def _suggested(self) -> Values:
        if hasattr(self._library, "UtilityFunction"):
            return dict(self._optimizer.suggest(self._library.UtilityFunction(**self._utility)))
        return dict(self._optimizer.suggest())

    def _propose(self) -> tuple[None, Values]:
        first = self._known < self._random_steps
        if first and self._random_made >= self._random_steps:
            raise NoValues  # the random trials still run
        values = self._suggested()
        mark = tuple(round(value, self._digits) for value in values.values())
        self._found[mark] += 1
        if self._found[mark] > self._patience:
            logger.warning(
                "BayesOptSearch found one configuration more than %d times, and ends: a larger patience, "
                "skip_duplicate=False or a wider space go on",
                self._patience,
            )
            raise NoValues(ended=True)
        if self._found[mark] > 1 and self._skip_duplicate:
            raise NoValues
        self._random_made += first
        return None, values

    def _learn(self, known_by: Any, values: Values, loss: float | None) -> None:
        self._known += 1
        if loss is not None and abs(loss) != float("inf"):
            self._waiting.append((values, loss))
        if self._known < self._random_steps:
            return
        for params, target in self._waiting:
            self._optimizer.register(params=params, target=-target)
        self._waiting.clear()

    def _keep(self) -> Any:
        names = ("_optimizer", "_found", "_random_made", "_known", "_waiting")
        return {name: vars(self)[name] for name in names}

    def _return(self, kept: Any) -> None:
        vars(self).update(kept)
