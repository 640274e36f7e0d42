"""What searchers of other libraries have in common: a space of domains, points to begin with, and a loss to be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpc.tune.search.convert import FlatSpace, Parameter, check_points
from hpc.tune.search.goal import aimed, loss
from hpc.tune.search.searcher import SavingSearcher

__all__ = ["AdaptedSearcher", "NoValues"]

Values = dict[str, Any]


class NoValues(Exception):
    """There is nothing to suggest; `ended`: and there will not be."""

    def __init__(self, ended: bool = False):
        super().__init__("nothing to suggest")
        self.ended = ended


class AdaptedSearcher(SavingSearcher):
    """A searcher whose suggestions come from a library, by the methods that begin with one underscore and a verb.

    space: a dict of domains, or None for the param_space of the Tuner. points_to_evaluate: complete points, tried
    first.
    """

    def __init__(
        self, space: Any, metric: str | None, mode: str | None, points_to_evaluate: Sequence[Mapping[str, Any]] | None
    ):
        super().__init__(metric, mode)
        check_points(points_to_evaluate)
        self._given_points = list(points_to_evaluate or ())
        self._points: list[Values] = []
        self._flat: FlatSpace | None = None
        self._begun = False
        # Trials that run: the library's own name of each, and its values.
        self._open: dict[str, tuple[Any, Values]] = {}
        if space is not None:
            if not isinstance(space, Mapping):
                raise ValueError(
                    f"the space of {self._name} has to be a dict of domains, as uniform(0, 1), not {space!r}"
                )
            self._take(space)
            if not self._flat:
                raise ValueError(f"the space of {self._name} has no domains: {dict(space)!r}")
            if mode:
                self._begin()

    @property
    def _name(self) -> str:
        return type(self).__name__

    # -------------------------------------------------------------- what an adapter gives

    def _make(self, parameters: Mapping[str, Parameter]) -> None:
        """Make the library's object. Raises ValueError for a parameter that it cannot search."""
        raise NotImplementedError

    def _propose(self) -> tuple[Any, Values]:
        """New values, and what the library knows them by. Raises NoValues."""
        raise NotImplementedError

    def _place(self, values: Values) -> Any:
        """What the library knows values by that it did not propose."""
        return None

    def _learn(self, known_by: Any, values: Values, loss: float | None) -> None:
        """The loss of values, which is to be small. None: the trial failed, or had no such metric."""
        raise NotImplementedError

    def _keep(self) -> Any:
        """The library's objects as they are to be saved."""
        raise NotImplementedError

    def _return(self, kept: Any) -> None:
        """Take saved objects of the library back."""
        raise NotImplementedError

    # -------------------------------------------------------------- the searcher

    def _take(self, space: Mapping[str, Any]) -> None:
        self._flat = FlatSpace(space, self._name)

    def set_search_properties(self, metric: Any, mode: Any, config: dict[str, Any], **spec: Any) -> bool:
        own = self._flat is not None
        if own and self._begun:
            return False
        if metric:
            self._metric = metric
        if mode:
            self._mode = mode
        if not own:
            self._take(config)
        if not self._flat:
            self._flat = None
            return False
        self._begin()
        return not own

    def _begin(self) -> None:
        assert self._flat is not None
        self._metric, self._mode = aimed(self, self._metric, self._mode)
        self._points = [self._whole(point) for point in self._given_points]
        self._make(self._flat.parameters)
        self._begun = True

    def _whole(self, point: Mapping[str, Any]) -> Values:
        assert self._flat is not None
        values = self._flat.flat(point)
        for name, parameter in self._flat.parameters.items():
            if name not in values:
                raise ValueError(f"{self._name} needs all parameters in a point: {dict(point)!r} lacks `{name}`")
            if parameter.values is not None:
                parameter.place(values[name])
            elif not parameter.low <= values[name] <= parameter.high:
                raise ValueError(
                    f"{values[name]!r} is not between the bounds of `{name}`: {parameter.low}, {parameter.high}"
                )
        return values

    def _need(self) -> FlatSpace:
        if not self._begun:
            if self._flat is None:
                raise RuntimeError(
                    f"{self._name} has no space to search: give it `space`, or give the Tuner a param_space of domains"
                )
            self._begin()
        assert self._flat is not None
        return self._flat

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        flat = self._need()
        if self._points:
            values = self._points.pop(0)
            self._open[trial_id] = (self._place(values), values)
            return flat.nested(values)
        try:
            known_by, found = self._propose()
        except NoValues as none:
            return self.FINISHED if none.ended else None
        values = {name: flat.parameters[name].value(value) for name, value in found.items()}
        self._open[trial_id] = (known_by, values)
        return flat.nested(values)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        known = self._open.pop(trial_id, None)
        if known is not None:
            self._learn(*known, None if error else loss(result, self._metric, self._mode))

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        self._need()
        values = self._whole(parameters)
        told = None if error else loss({"value": value}, "value", self._mode)
        self._learn(self._place(values), values, told)

    def adopt(self, trial_id: str, parameters: Mapping[str, Any]) -> bool:
        """A point to evaluate that was suggested already is not suggested again."""
        flat = self._need()
        if not self._points or self._points[0] != flat.flat(parameters):
            return False
        values = self._points.pop(0)
        self._open[trial_id] = (self._place(values), values)
        return True

    def state(self) -> Any:
        if not self._begun:
            return None
        return {"points": list(self._points), "open": dict(self._open), "library": self._keep()}

    def load(self, state: Any) -> None:
        if state is not None:
            self._need()
            self._points, self._open = list(state["points"]), dict(state["open"])
            self._return(state["library"])
