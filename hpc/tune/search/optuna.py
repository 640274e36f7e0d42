"""Search by Optuna's samplers: TPE, CMA-ES, Gaussian processes, NSGA-II, quasi-random numbers and others."""

from __future__ import annotations

import functools
import logging
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpc.tune.flat import flatten_dict
from hpc.tune.search.convert import FlatSpace, Parameter, check_points
from hpc.tune.search.goal import aimed
from hpc.tune.search.missing import library
from hpc.tune.search.searcher import SavingSearcher
from hpc.tune.variants import unresolved

if TYPE_CHECKING:
    import optuna

__all__ = ["OptunaSearch"]

logger = logging.getLogger(__name__)

_PLAIN = (type(None), bool, int, float, str)  # the values of choices that Optuna stores as they are
_SLOW_S = 1.0


class OptunaSearch(SavingSearcher):
    """Suggestions of an Optuna study.

    space: None (param_space of the Tuner), a dict of Optuna's distributions or of domains, or a function. It takes an
    Optuna trial, calls its `suggest_...` methods, and may return a dict of constants. metric, mode: texts, or lists
    for several aims. points_to_evaluate: what is tried first; with evaluated_rewards, their values, they are not
    tried but learnt. sampler: an optuna.samplers object; without it TPE, with `seed`. storage, study_name: where Optuna
    keeps the study; without it in memory, and in the state of the search.
    """

    def __init__(
        self,
        space: Any = None,
        metric: str | list[str] | None = None,
        mode: str | list[str] | None = None,
        points_to_evaluate: Sequence[dict[str, Any]] | None = None,
        sampler: optuna.samplers.BaseSampler | None = None,
        study_name: str | None = None,
        storage: optuna.storages.BaseStorage | None = None,
        seed: int | None = None,
        evaluated_rewards: Sequence[Any] | None = None,
    ):
        super().__init__(metric, mode)
        self._optuna = library("optuna", "optuna", "OptunaSearch")
        check_points(points_to_evaluate, evaluated_rewards)
        if sampler is not None and not isinstance(sampler, self._optuna.samplers.BaseSampler):
            raise ValueError(f"sampler has to be an object of optuna.samplers, not {sampler!r}")
        if sampler is not None and seed is not None:
            logger.warning("OptunaSearch: the seed is not used, for the sampler has its own: give it to the sampler")
        if storage is not None and not isinstance(storage, self._optuna.storages.BaseStorage):
            raise ValueError(f"storage has to be an object of optuna.storages, not {storage!r}")
        self._points = list(points_to_evaluate or ())
        self._rewards = None if evaluated_rewards is None else list(evaluated_rewards)
        self._sampler = sampler
        self._seed = seed
        self._study_name = study_name or "optuna"
        self._storage = storage
        self._study: Any = None
        self._trials: dict[str, Any] = {}
        self._steps: dict[str, int] = {}  # the last step that the study knows of a trial
        self._flat: FlatSpace | None = None
        self._function: Any = None
        self._distributions: dict[str, Any] = {}
        self._coded: dict[str, Parameter] = {}  # choices that Optuna knows by their places
        if space is not None:
            self._take_space(space)
            if mode:
                self._begin()

    # -------------------------------------------------------------- the space

    def _take_space(self, space: Any) -> None:
        if callable(space):
            self._function = space
            return
        if not isinstance(space, Mapping):
            raise ValueError(
                "space has to be a dict of distributions or domains, or a function that takes an Optuna trial, "
                f"not {space!r}"
            )
        if unresolved(space):
            logger.warning(
                "OptunaSearch: its space has domains of hpc.tune; they are converted to Optuna's distributions"
            )
            self._convert(space)
            return
        self._distributions = flatten_dict(dict(space))
        for name, one in self._distributions.items():
            if not isinstance(one, self._optuna.distributions.BaseDistribution):
                raise ValueError(
                    f"the space of OptunaSearch has {one!r} for `{name}`, which is no distribution of Optuna"
                )

    def _convert(self, space: Mapping[str, Any]) -> None:
        self._flat = FlatSpace(space, "OptunaSearch")
        for name, parameter in self._flat.parameters.items():
            if parameter.values is not None and not all(isinstance(one, _PLAIN) for one in parameter.values):
                self._coded[name] = parameter
            self._distributions[name] = self._distribution(parameter, name in self._coded)

    def _distribution(self, parameter: Parameter, coded: bool) -> Any:
        kinds = self._optuna.distributions
        if parameter.values is not None:
            return kinds.CategoricalDistribution(range(len(parameter.values)) if coded else parameter.values)
        if parameter.sd:
            raise ValueError(
                f"`{parameter.name}` is a normal distribution, which Optuna does not know: give a range, as uniform()"
            )
        kind = kinds.IntDistribution if parameter.whole else kinds.FloatDistribution
        if parameter.log or not parameter.step:  # the multiples of q are made of what Optuna finds
            return kind(parameter.low, parameter.high, log=parameter.log)
        return kind(parameter.low, parameter.high, step=parameter.step)

    @staticmethod
    def convert_search_space(spec: Mapping[str, Any]) -> dict[str, Any]:
        """Optuna's distributions by name for a space of domains."""
        search = OptunaSearch()
        search._convert(spec)
        return search._distributions

    def _decoded(self, found: Mapping[str, Any]) -> dict[str, Any]:
        values = dict(found)
        for name, parameter in self._coded.items():
            if name in values and parameter.values is not None:
                values[name] = parameter.values[values[name]]
        if self._flat is None:
            return values
        return {name: self._flat.parameters[name].value(value) for name, value in values.items()}

    def _point(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """A point as Optuna is told it."""
        if self._flat is not None:
            values = self._flat.flat(point)
        elif self._function is not None:
            return flatten_dict(dict(point))
        else:
            values = flatten_dict(dict(point))
            for name in values:
                if name not in self._distributions:
                    known = ", ".join(self._distributions)
                    raise ValueError(
                        f"points_to_evaluate has a value for `{name}`, which the space lacks: it has {known}"
                    )
        return {
            name: self._coded[name].place(value) if name in self._coded else value for name, value in values.items()
        }

    def set_search_properties(self, metric: Any, mode: Any, config: dict[str, Any], **spec: Any) -> bool:
        own = self._function is not None or bool(self._distributions)
        if own and self._study is not None:
            return False
        if metric:
            self._metric = metric
        if mode:
            self._mode = mode
        if not own:
            self._convert(config)
            if not self._distributions:
                return False
        self._begin()
        return not own

    # -------------------------------------------------------------- the study

    def _begin(self) -> None:
        self._metric, self._mode = aimed(self, self._metric, self._mode, several=True)
        sampler = self._sampler or self._optuna.samplers.TPESampler(seed=self._seed)
        modes = self._mode if isinstance(self._mode, list) else [self._mode]
        self._study = self._optuna.create_study(
            storage=self._storage,
            sampler=sampler,
            pruner=self._optuna.pruners.NopPruner(),
            study_name=self._study_name,
            load_if_exists=True,
            directions=["minimize" if mode == "min" else "maximize" for mode in modes],
        )
        points = [self._point(point) for point in self._points]
        if self._rewards is None:
            for point in points:
                self._study.enqueue_trial(point)
        else:
            for point, reward in zip(self._points, self._rewards):
                self.add_evaluated_point(point, reward)

    def _need_study(self) -> None:
        if self._study is None:
            if self._function is not None or self._distributions:
                self._begin()
            else:
                raise RuntimeError(
                    "OptunaSearch has no space to search: give it `space`, or give the Tuner a param_space with domains"
                )

    def suggest(self, trial_id: str) -> dict[str, Any]:
        self._need_study()
        if self._function is None:
            trial = self._trials[trial_id] = self._study.ask(fixed_distributions=self._distributions)
            values = self._decoded(trial.params)
            return self._flat.nested(values) if self._flat is not None else _nested(values)
        trial = self._trials[trial_id] = self._study.ask()
        begin = time.monotonic()
        returned = self._function(trial)
        if time.monotonic() - begin > _SLOW_S:
            warnings.warn(
                "the function of the space took over a second: training belongs into the trainable", stacklevel=2
            )
        return _nested({**trial.params, **_constants(returned)})

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        trial = self._trials.get(trial_id)
        value = result.get(self._metric) if isinstance(self._metric, str) else None
        if trial is None or value is None:  # Optuna takes no results on the way where there are several aims
            return
        step = int(result["training_iteration"])
        if step > self._steps.get(trial_id, -1):  # a trial that began again reports its first steps twice
            self._steps[trial_id] = step
            trial.report(float(value), step)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial = self._trials.pop(trial_id, None)
        self._steps.pop(trial_id, None)
        if trial is None:
            return
        states = self._optuna.trial.TrialState
        names = self._metric if isinstance(self._metric, list) else [self._metric]
        values = [(result or {}).get(str(name)) for name in names]
        if error or any(value is not None and math.isnan(value) for value in values):
            self._study.tell(trial, state=states.FAIL)
        elif None in values:
            self._study.tell(trial, state=states.PRUNED)
        else:
            self._study.tell(trial, [float(value) for value in values if value is not None])

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: Any,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """See `Searcher`. `value` is a list where there are several aims."""
        self._need_study()
        states = self._optuna.trial.TrialState
        point = self._point(parameters)
        distributions = self._distributions
        if self._function is not None:
            fixed = self._optuna.trial.FixedTrial(point)
            self._function(fixed)
            point, distributions = fixed.params, fixed.distributions
        missing = [name for name in distributions if name not in point]
        if missing:
            raise ValueError(f"a point with a value needs all parameters: {dict(parameters)!r} lacks `{missing[0]}`")
        values = None if error else list(value) if isinstance(self._metric, list) else [value]
        self._study.add_trial(
            self._optuna.create_trial(
                state=states.FAIL if error else states.PRUNED if pruned else states.COMPLETE,
                values=values,
                params={name: point[name] for name in distributions},
                distributions=distributions,
                intermediate_values=dict(enumerate(intermediate_values)) if intermediate_values else None,
            )
        )

    # -------------------------------------------------------------- state

    def adopt(self, trial_id: str, parameters: Mapping[str, Any]) -> bool:
        """A point to evaluate that was suggested already is not suggested again."""
        self._need_study()
        waiting = self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.WAITING,))
        if not waiting or self._function is not None:
            return False
        fixed = waiting[0].system_attrs.get("fixed_params", {})
        if any(name not in parameters or parameters[name] != value for name, value in self._decoded(fixed).items()):
            return False
        self._trials[trial_id] = self._study.ask(fixed_distributions=self._distributions)
        return True

    def state(self) -> Any:
        """The study with its sampler, and the trials that run."""
        if self._study is None:
            return None
        return {"study": self._study, "trials": dict(self._trials), "steps": dict(self._steps)}

    def load(self, state: Any) -> None:
        if state is not None:
            self._study, self._trials, self._steps = state["study"], dict(state["trials"]), dict(state["steps"])


def _constants(returned: Any) -> dict[str, Any]:
    if returned is None:
        return {}
    if not isinstance(returned, dict) or not all(isinstance(name, str) for name in returned):
        raise TypeError(f"the function of the space has to return None, or a dict with texts as keys, not {returned!r}")
    return returned


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for name, value in flat.items():
        *folders, last = name.split("/")
        functools.reduce(lambda there, key: there.setdefault(key, {}), folders, config)[last] = value
    return config
