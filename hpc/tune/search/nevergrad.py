"""Search by Nevergrad's optimizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpc.tune.search.adapted import AdaptedSearcher, Values
from hpc.tune.search.convert import Parameter
from hpc.tune.search.missing import library

__all__ = ["NevergradSearch"]


class NevergradSearch(AdaptedSearcher):
    """Suggestions of a Nevergrad optimizer.

    optimizer: a class of nevergrad.optimizers, as NGOpt, or a configured one, which is made with optimizer_kwargs.
    space: a dict of domains, or None for the Tuner's param_space.
    """

    def __init__(
        self,
        optimizer: Any = None,
        optimizer_kwargs: dict[str, Any] | None = None,
        space: dict[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[dict[str, Any]] | None = None,
    ):
        self._nevergrad = library("nevergrad", "nevergrad", "NevergradSearch")
        optimizers = self._nevergrad.optimizers
        if optimizer is None:
            raise ValueError("NevergradSearch needs an optimizer, as nevergrad.optimizers.NGOpt")
        made = isinstance(optimizer, optimizers.base.Optimizer)
        if made or not callable(optimizer):
            raise ValueError(
                f"optimizer has to be a class of nevergrad.optimizers, as NGOpt, not {optimizer!r}: "
                "what it searches is made of `space` or of param_space"
            )
        self._make_optimizer = optimizer
        self._options = dict(optimizer_kwargs or {})
        self._optimizer: Any = None
        super().__init__(space, metric, mode, points_to_evaluate)

    def _make(self, parameters: Mapping[str, Parameter]) -> None:
        kinds = {name: self._kind(parameter) for name, parameter in parameters.items()}
        self._optimizer = self._make_optimizer(self._nevergrad.p.Dict(**kinds), **self._options)

    def _kind(self, parameter: Parameter) -> Any:
        p = self._nevergrad.p
        if parameter.values is not None:
            return p.Choice(list(parameter.values))
        if parameter.sd:
            return p.Scalar(init=parameter.mean).set_mutation(sigma=parameter.sd)
        kind = p.Log if parameter.log else p.Scalar
        found = kind(lower=parameter.low, upper=parameter.high)
        return found.set_integer_casting() if parameter.whole else found

    def _propose(self) -> tuple[Any, Values]:
        candidate = self._optimizer.ask()
        return candidate, dict(candidate.value)

    def _place(self, values: Values) -> Any:
        return self._optimizer.parametrization.spawn_child(new_value=values)

    def _learn(self, known_by: Any, values: Values, loss: float | None) -> None:
        if loss is not None:
            self._optimizer.tell(known_by, loss)

    def _keep(self) -> Any:
        return self._optimizer

    def _return(self, kept: Any) -> None:
        self._optimizer = kept
